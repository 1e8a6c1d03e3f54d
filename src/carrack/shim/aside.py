"""Work that the loop must not wait for (compressing a rotated log), done by a forked child that dies with the shim."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from isal import isal_zlib

from carrack.kernel import process
from carrack.shim.loop import READ, Loop

_BLOCK_BYTES = 256 * 1024
_LEVEL = 2
_GZIP = 31
"""zlib's window bits for a gzip wrapper."""
_NICENESS = 10


class AsideCompressor:
    """Compresses files with gzip in children of this process."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def __call__(self, source: str, target: str, done: Callable[[bool], None]) -> None:
        run_aside(self._loop, lambda: compress(source, target), done)


def compress(source: str, target: str) -> None:
    """Write `source` to `target` as gzip. Raises OSError."""
    squeeze = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP)
    with open(source, "rb", 0) as plain, open(target, "wb", 0) as packed:
        while block := plain.read(_BLOCK_BYTES):
            packed.write(squeeze.compress(block))
        packed.write(squeeze.flush())


def run_aside(loop: Loop, work: Callable[[], None], done: Callable[[bool], None]) -> None:
    """Fork, run `work` in the child, call `done(whether it worked)` from the loop when the child has ended."""
    pid = os.fork()
    if pid == 0:
        _child(work)
    pidfd = os.pidfd_open(pid)

    def ended(_: int) -> None:
        loop.forget(pidfd)
        os.close(pidfd)
        done(os.waitpid(pid, 0)[1] == 0)

    loop.watch(pidfd, READ, ended)


def _child(work: Callable[[], None]) -> None:
    code = 1
    try:
        process.set_parent_death_signal(signal.SIGKILL)
        process.close_range(0)
        os.nice(_NICENESS)
        work()
        code = 0
    except OSError:
        pass
    finally:
        os._exit(code)
