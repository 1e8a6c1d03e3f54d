"""Work that the loop must not wait for (compressing a rotated log), done by a forked child that dies with the shim."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from isal import isal_zlib

from carrack.kernel import process
from carrack.kernel.loop import READ, Loop

_BLOCK_BYTES = 256 * 1024
_LEVEL = 2
_GZIP = 31
"""zlib's window bits for a gzip wrapper."""
_NICENESS = 10


class AsideCompressor:
    """Compresses files with gzip in children of this process."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def __call__(self, source_fd: int, target: str, done: Callable[[bool], None]) -> None:
        run_aside(self._loop, source_fd, lambda: compress(source_fd, target), done)


def compress(source_fd: int, target: str) -> None:
    """Write what `source_fd` reads to `target` as gzip; closes it. Raises OSError."""
    squeeze = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP)
    with open(source_fd, "rb", 0) as plain, open(target, "wb", 0) as packed:
        while block := plain.read(_BLOCK_BYTES):
            packed.write(squeeze.compress(block))
        packed.write(squeeze.flush())


def run_aside(loop: Loop, fd: int, work: Callable[[], None], done: Callable[[bool], None]) -> None:
    """Fork, run `work` in the child, which has no descriptor but `fd`; tell `done` from the loop whether it worked."""
    pid = os.fork()
    if pid == 0:
        _child(fd, work)
    os.close(fd)
    pidfd = os.pidfd_open(pid)

    def ended(_: int) -> None:
        loop.forget(pidfd)
        os.close(pidfd)
        done(os.waitpid(pid, 0)[1] == 0)

    loop.watch(pidfd, READ, ended)


def _child(fd: int, work: Callable[[], None]) -> None:
    code = 1
    try:
        process.set_parent_death_signal(signal.SIGKILL)
        process.close_all_but((fd,))
        os.nice(_NICENESS)
        work()
        code = 0
    except OSError:
        pass
    finally:
        os._exit(code)
