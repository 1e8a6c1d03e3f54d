"""How many files a shim may have open: as many as it can, because it holds a socket for each published port.

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


def restore_limit() -> None:
    """Back to what was given, before something is started that inherits it."""
    if _given is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, _given)
