"""One daemon per instance and host: bridge, firewall table and cgroups carry the instance's name, and two daemons would take them
from each other without end. The roots have locks of their own.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carrack.errors import Unavailable

LOCKS = Path("/run")


@contextmanager
def hold_instance(name: str) -> Iterator[None]:
    """Hold `/run/carrack.NAME.lock` while the daemon lives. Raises Unavailable when another process holds it, with its pid."""
    path = LOCKS / f"carrack.{name}.lock"
    fd = _lock(path, name)
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def _lock(path: Path, name: str) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
            os.close(fd)
            raise Unavailable(
                f"another carrackd (pid {holder}) is instance {name} of this host: choose another name with --instance"
            ) from None
        if os.fstat(fd).st_nlink:
            return fd
        os.close(fd)  # whoever held it has just taken it away
