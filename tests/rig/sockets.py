"""Who holds which unix socket: the way from a file name to a process that has renamed itself."""

import os
from pathlib import Path


def holders_below(folder: Path) -> set[int]:
    """Processes with a descriptor of a unix socket bound below the folder (proc(5): /proc/net/unix, /proc/PID/fd)."""
    rows = (row.split() for row in Path("/proc/net/unix").read_text().splitlines()[1:])
    wanted = {f"socket:[{row[6]}]" for row in rows if len(row) > 7 and row[7].startswith(f"{folder}/")}
    found: set[int] = set()
    if not wanted:
        return found
    for name in os.listdir("/proc"):
        if name.isdigit() and any(link in wanted for link in _descriptors(name)):
            found.add(int(name))
    return found


def _descriptors(pid: str) -> list[str]:
    try:
        return [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
    except OSError:  # it has ended, or closed one while we looked
        return []
