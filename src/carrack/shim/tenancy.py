"""One shim per container at a time: the next start waits until the shim before has given everything back.

Cgroup, socket and the overlay's upper directory are the same for every run of a container (law 6), and a daemon may order the next
start before the last shim's root is unmounted. The lock goes with its process, whatever ends that.
"""

from __future__ import annotations

import fcntl
import os
import time

from carrack.errors import Conflict

NAME = "shim.lock"
WAIT_SECONDS = 20.0
_PAUSE_SECONDS = 0.002


def take(state_directory: str) -> int:
    """A descriptor that holds the container; close it to give it back. Raises Conflict when another keeps it too long."""
    fd = os.open(os.path.join(state_directory, NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() > until:
                os.close(fd)
                raise Conflict("the container's last run has not been cleared away yet") from None
            time.sleep(_PAUSE_SECONDS)
