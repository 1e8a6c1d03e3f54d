"""A worker for tests: a child that locks itself into the target and unpacks there, as the real worker does.

It is forked by a process of one thread, as the zygote is. A fork of the test's own process, where other threads hold locks that
nobody releases in the child, hangs once in a thousand times.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import subprocess
import sys
from functools import cache

import msgspec

from carrack import errors
from carrack.archive import compression
from carrack.archive.layer import UnpackReport, unpack_layer


class ForkUnpacker:
    """Unpacks each layer in a child process chrooted into the target directory. Needs root."""

    def __init__(self) -> None:
        self._forker = _forker(os.getpid())

    def unpack(self, source_fd: int, target_fd: int, limit_bytes: int) -> UnpackReport:
        """See `images.layers.LayerUnpacker`."""
        reading, writing = os.pipe()
        socket.send_fds(self._forker, [str(limit_bytes).encode()], [source_fd, target_fd, writing])
        os.close(writing)
        with os.fdopen(reading, "rb") as answer:
            content = answer.read()
        kind, document = msgspec.json.decode(content, type=tuple[str, dict[str, str | int]])
        if kind:
            raise getattr(errors, kind)(document["message"])
        return msgspec.convert(document, UnpackReport)


@cache
def _forker(pid: int) -> socket.socket:
    """The conversation with this process's forker, which ends with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, "-c", f"from tests.rig.confined import serve; serve({theirs.fileno()})"]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env={**os.environ, "PYTHONPATH": ":".join(sys.path)})

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def serve(fd: int) -> None:
    """The forker's whole life."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the kernel
    compression.preload()
    orders = socket.socket(fileno=fd)
    while True:
        limit, fds, _, _ = socket.recv_fds(orders, 100, 3)
        if not limit:
            return
        if os.fork() == 0:
            source_fd, target_fd, writing = fds
            os.write(writing, _work(source_fd, target_fd, int(limit)))
            os._exit(0)
        for each in fds:
            os.close(each)


def _work(source_fd: int, target_fd: int, limit_bytes: int) -> bytes:
    try:
        os.fchdir(target_fd)
        os.chroot(".")
        report = unpack_layer(source_fd, target_fd, limit_bytes)
    except errors.CarrackError as error:
        return msgspec.json.encode((type(error).__name__, {"message": error.message}))
    except BaseException as error:  # noqa: BLE001
        return msgspec.json.encode(("SystemFailure", {"message": repr(error)}))
    return msgspec.json.encode(("", _fields(report)))


def _fields(report: UnpackReport) -> dict[str, str | int]:
    return {"diff_id": report.diff_id, "size_bytes": report.size_bytes, "entries": report.entries}
