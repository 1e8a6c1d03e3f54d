"""A small number of its own for each test process on this machine, so that address ranges never meet."""

import fcntl
import os
from functools import cache
from pathlib import Path

_FOLDER = Path("/tmp/carrack-test-slots")
_SLOTS = 120


@cache
def slot() -> int:
    """The number of this process, 0 to 119. Held by a file lock, so that the kernel gives it back however the process ends."""
    _FOLDER.mkdir(mode=0o1777, exist_ok=True)
    for number in range(_SLOTS):
        fd = os.open(_FOLDER / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        return number
    raise AssertionError(f"more than {_SLOTS} test processes on this machine")
