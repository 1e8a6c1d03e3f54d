"""Starting the zygote, or finding the one that runs: from carrackd, blocking.

The interpreter is executed from a detached read-only mount of its own file: whoever reaches it through /proc/PID/exe of a shim or
an exec cannot write it, alive or dead (law 3).
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import isal
import msgspec

import carrack
from carrack.errors import SystemFailure, Unavailable
from carrack.kernel import lineage, mount
from carrack.shim import messages, open_files, wire
from carrack.shim.messages import Greeting, Leave, ServeNames, StartOrder

SOCKET_NAME = "zygote.sock"
_START_SECONDS = 20.0
_ANSWER_SECONDS = 5.0
_reviving = threading.Lock()
_FOLDERS = ("oci", "kernel", "archive", "runtime", "networks", "shim")
_BOOTSTRAP = """import gc, sys
gc.disable()
sys.path[0:0] = {path!r}
sys.modules["typing_extensions"] = None
from carrack.shim.zygote import main
main({socket!r}, {build!r}, {ready_fd})
"""
"""msgspec takes typing_extensions when it finds it and does as well without: 30 ms and 2 MiB less. What is imported stays: to look
through it for garbage takes a seventh of the time, for nothing."""


class Zygote(NamedTuple):
    """A zygote that answers."""

    pid: int
    socket_path: str
    fresh: bool = False
    """Whether it was just made."""


class StartingZygote:
    """`spawn_zygote` in a thread of its own, beside what else the start of a daemon has to do: both take a processor's time."""

    def __init__(self, exec_root: str) -> None:
        self.socket_path = os.path.join(exec_root, SOCKET_NAME)
        pool = ThreadPoolExecutor(1, thread_name_prefix="zygote-start")
        self._outcome = pool.submit(spawn_zygote, exec_root)
        pool.shutdown(wait=False)

    def result(self) -> Zygote:
        """Wait for it. Raises what `spawn_zygote` raises."""
        return self._outcome.result()

    def withdraw(self) -> None:
        """Nothing came of the start: send a zygote away that was made for it."""
        if self._outcome.exception() is None and self._outcome.result().fresh:
            dismiss_zygote(self.socket_path)


def spawn_zygote(exec_root: str) -> Zygote:
    """The zygote of this exec-root: the running one when it holds this very code, else a new one (an old one is sent away).

    Raises SystemFailure when it does not come up. Blocks for about 0.1 seconds.
    """
    path = os.path.join(exec_root, SOCKET_NAME)
    build = fingerprint()
    greeting = greet(path)
    if greeting is not None:
        if (greeting.build, greeting.version) == (build, messages.VERSION):
            return Zygote(greeting.pid, path)
        dismiss_zygote(path)
    _execute(path, build)
    greeting = greet(path)
    if greeting is None:
        raise SystemFailure(f"the zygote does not answer on {path}")
    lineage.send_home(greeting.pid)
    return Zygote(greeting.pid, path, fresh=True)


def connect(path: str) -> socket.socket:
    """A connection to the zygote for one job, greeted. Raises Unavailable when none answers."""
    try:
        sock = _call(path, messages.JOB)
    except OSError as error:
        raise Unavailable(f"no zygote answers on {path}: {error}") from None
    try:
        greeting, _ = wire.receive(sock)
        if not isinstance(greeting, Greeting):
            raise Unavailable(f"{path} is not a zygote's socket")
        if greeting.trouble:
            raise Unavailable(f"the zygote on {path} {greeting.trouble}")
        _set_patience(sock, 0)
        return sock
    except (OSError, EOFError, SystemFailure) as error:
        sock.close()
        raise Unavailable(f"no zygote answers on {path}: {error}") from None
    except BaseException:
        sock.close()
        raise


def _call(path: str, word: bytes) -> socket.socket:
    """A connection on which `word` has been said and the greeting is yet to come. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        _dial(sock, path)
        sock.send(word)
        return sock
    except BaseException:
        sock.close()
        raise


def _dial(sock: socket.socket, path: str) -> None:
    """Connect, with the kernel's own time-outs: a non-blocking connect (as under Python's time-outs) fails at once while many
    others stand in line, and a zygote that is only busy would be taken for dead."""
    _set_patience(sock, _ANSWER_SECONDS)
    sock.connect(path)


def _set_patience(sock: socket.socket, seconds: float) -> None:
    """How long a call on a blocking socket may take; 0: for ever (socket(7))."""
    limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
    for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, option, limit)


def reach(path: str) -> socket.socket:
    """A connection to the zygote; when it has died, to the one that takes its place. Blocks for about 0.1 seconds then.

    Raises Unavailable, and SystemFailure when no new one comes up.
    """
    try:
        return connect(path)
    except Unavailable:
        _revive(path)
        return connect(path)


def _revive(path: str) -> None:
    with _reviving:
        spawn_zygote(os.path.dirname(path))


def greet(path: str) -> Greeting | None:
    """What the zygote at `path` says of itself; None without one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        try:
            _dial(sock, path)
            greeting, _ = wire.receive(sock)
        except (OSError, EOFError, SystemFailure):
            return None
        return greeting if isinstance(greeting, Greeting) else None


def dismiss_zygote(path: str) -> None:
    """Ask the zygote to exit, and wait until it has. What it forked goes on. Nothing happens without one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        try:
            _dial(sock, path)
            wire.send(sock, Leave())
            while sock.recv(wire.PACKET_BYTES):
                pass
        except OSError:
            return


def order_start(path: str, order: StartOrder, fds: Sequence[int]) -> socket.socket:
    """Have a shim forked; its answers come by the conversation's socket. `fds` as StartOrder says; they stay open here.

    Waits for nobody, unless the zygote has died and another must come up. Close the socket that is returned when it can be read,
    and not before: a greeting that nobody has read when its reader closes takes what was sent with it. Raises Unavailable, and
    SystemFailure when no zygote comes up.
    """
    try:
        return _order_start(path, order, fds)
    except (ConnectionError, FileNotFoundError):
        _revive(path)
    try:
        return _order_start(path, order, fds)
    except ConnectionError as error:
        raise Unavailable(f"no zygote answers on {path}: {error}") from None


def _order_start(path: str, order: StartOrder, fds: Sequence[int]) -> socket.socket:
    sock = _call(path, messages.START)
    try:
        wire.send(sock, order, fds, sealed=True)
        return sock
    except BaseException:
        sock.close()
        raise


def order_names(path: str, socket_path: str, listener_fd: int, conversation_fd: int) -> None:
    """Have the names process of an instance forked: see `ServeNames`. The descriptors stay open here.

    Raises Unavailable when no zygote answers, SystemFailure when no new one comes up.
    """
    with reach(path) as sock:
        wire.send(sock, ServeNames(socket_path), (listener_fd, conversation_fd))


def fingerprint() -> str:
    """Which code a zygote of this installation would hold: the files' sizes and times."""
    parts = [sys.version, str(messages.VERSION)]
    root = os.path.dirname(carrack.__file__)
    for folder in _FOLDERS:
        for directory, _, names in sorted(os.walk(os.path.join(root, folder))):
            for name in sorted(names):
                if name.endswith(".py"):
                    status = os.stat(os.path.join(directory, name))
                    parts.append(f"{directory}/{name} {status.st_size} {status.st_mtime_ns}")
    import hashlib

    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _execute(socket_path: str, build: str) -> None:
    """Execute the interpreter and wait until it is ready."""
    interpreter = os.path.realpath(sys.executable)
    readable, writable = os.pipe()
    try:
        image_fd = _read_only_interpreter(interpreter)
        try:
            program = _BOOTSTRAP.format(path=_import_path(), socket=socket_path, build=build, ready_fd=writable)
            process = subprocess.Popen(
                [interpreter, "-I", "-S", "-B", "-X", "utf8", "-c", program],
                executable=f"/proc/self/fd/{image_fd}",
                pass_fds=(image_fd, writable),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            )
            open_files.give_back(process.pid)  # long before it has imported what it needs, and looks
        finally:
            os.close(image_fd)
            os.close(writable)
        process.wait()  # it forks away at once
        ready, _, _ = select.select([readable], [], [], _START_SECONDS)
        if not ready or not os.read(readable, 1):
            raise SystemFailure("the zygote did not start; its standard error says why")
    finally:
        os.close(readable)


def _read_only_interpreter(path: str) -> int:
    """A detached read-only mount of the interpreter's file, as a descriptor."""
    try:
        fd = mount.clone_tree(path)
        mount.set_attributes(fd, add=mount.ATTR_RDONLY)
    except OSError as error:
        raise SystemFailure(f"cannot make a read-only mount of {path}: {error.strerror}") from None
    return fd


def _import_path() -> list[str]:
    """Where Carrack and the two libraries it needs there were imported from."""
    found = [os.path.dirname(os.path.dirname(each.__file__ or "")) for each in (carrack, msgspec, isal)]
    return list(dict.fromkeys(found))
