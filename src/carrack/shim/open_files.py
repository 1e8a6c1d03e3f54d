"""How many files a shim, and carrackd, may have open: as many as they can, because a shim holds a socket for each published port,
and carrackd two descriptors for each container.

What it starts begins with the limit that carrackd was given, as every container of Docker's does.
"""

from __future__ import annotations

import resource

_given: tuple[int, int] | None = None


def raise_limit() -> None:
    """Lift the soft limit to the hard one, in this process."""
    global _given
    _given = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_given[1], _given[1]))


def give_back(pid: int) -> None:
    """Give a child that was just started the limit that this process was given."""
    if _given is not None:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, _given)


def restore_limit() -> None:
    """Back to what was given, before something is started that inherits it."""
    if _given is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, _given)
