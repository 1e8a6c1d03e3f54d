"""A running container by descriptors, for those who must find it though they did not start it."""

from __future__ import annotations

import os

from carrack.engine.container import Container
from carrack.engine.state import LIVE


def open_init(container: Container) -> tuple[int, int]:
    """Its network namespace, and the pidfd of its init; the caller closes both. Raises OSError for one that does not run."""
    if container.state.status not in LIVE or not container.state.pid:
        raise ProcessLookupError(f"container {container.id} is not running")
    pidfd = os.pidfd_open(container.state.pid)
    try:
        return os.open(f"/proc/{container.state.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC), pidfd
    except BaseException:
        os.close(pidfd)
        raise
