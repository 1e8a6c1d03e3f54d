"""The lock that gives a data-root to one daemon at a time.

An flock(2) on a file inside the data-root: the kernel lets go of it when its holder dies, however it dies, so no stale lock
exists. The file's content, the holder's pid, is only there to be named in the refusal.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from carrack.errors import SystemFailure, Unavailable

_NAME = "lock"


class DataRootLock:
    """Holds a data-root until `release`.

    Raises Unavailable naming the other daemon's pid when it is held, SystemFailure when the directory cannot be written.
    """

    def __init__(self, data_root: Path) -> None:
        self._path = data_root / _NAME
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise SystemFailure(f"cannot use data-root {data_root}: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise Unavailable(f"data-root {data_root} is in use by another daemon (pid {holder or 'unknown'})") from error
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(self._fd)
            raise SystemFailure(f"cannot write to data-root {data_root}: {error.strerror}") from error

    def release(self) -> None:
        """Give the data-root back. Idempotent. The file stays: removing it would let two daemons lock two files."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
