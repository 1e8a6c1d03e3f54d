"""What is made once per machine, below /var/cache/carrack-tests, whoever needs it first."""

import fcntl
from collections.abc import Callable
from pathlib import Path

_CACHE = Path("/var/cache/carrack-tests")


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """The path of that name; `make` puts it there, whole or not at all, while all others wait."""
    _CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
    made = _CACHE / name
    with open(_CACHE / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            make(made)
    return made
