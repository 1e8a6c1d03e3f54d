"""The cgroup of processes that outlive the daemon which starts them: zygote, shims, names.

A service manager ends what it finds in a service's cgroup, so those must not stay where they were born. A daemon that runs under
one says once where they belong (`settle`); every starter of such a process sends it there.
"""

from __future__ import annotations

_home = ""


def settle(directory: str) -> None:
    """The directory of that cgroup; empty: they stay where they are born."""
    global _home
    _home = directory


def send_home(pid: int) -> None:
    """Move a process that was just started. Raises OSError when it cannot be moved; a process that has ended is no error."""
    if _home:
        with open(f"{_home}/cgroup.procs", "w", encoding="ascii") as file:
            try:
                file.write(str(pid))
                file.flush()
            except ProcessLookupError:
                pass
