"""What an engine leaves on a machine, as a set of sentences: processes, mounts, links, firewall tables, cgroups, namespaces.

`scripts/test` saves the set before the tests and compares after them (``python -m tests.rig.leaks save|compare FILE``); a test that
must leave nothing half-made compares the narrower set of one engine.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.rig.commands import run

CGROUP_ROOT = Path("/sys/fs/cgroup")
_PROCESS_NAMES = ("carrack", "ck-", "dockerd", "containerd", "runc", "docker-proxy")


def processes() -> set[str]:
    """Engine processes by name, as ``process NAME PID``."""
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            comm = Path(f"/proc/{name}/comm").read_text().strip()
            argv = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if argv == [b""]:  # a kernel thread, or a zombie that whoever is process one has not reaped yet
            continue
        program = os.path.basename(argv[0].decode(errors="replace"))
        if comm.startswith(_PROCESS_NAMES) or program.startswith(_PROCESS_NAMES):
            found.add(f"process {comm} {name}")
    return found


def mounts() -> set[str]:
    """Mount points of this mount namespace."""
    rows = Path("/proc/self/mountinfo").read_text().splitlines()
    return {f"mount {row.split()[4]} ({row.partition(' - ')[2].split()[0]})" for row in rows}


def links() -> set[str]:
    """Network interfaces of this network namespace."""
    return {f"link {name}" for name in os.listdir("/sys/class/net")}


def firewall_tables() -> set[str]:
    """nftables tables of this network namespace; none when the program is absent."""
    try:
        listed = run(["nft", "-j", "list", "tables"])
    except FileNotFoundError:
        return set()
    rows = json.loads(listed.stdout or '{"nftables": []}')["nftables"]
    return {f"nft table {row['table']['family']} {row['table']['name']}" for row in rows if "table" in row}


def cgroups() -> set[str]:
    """Control group directories, two levels below each hierarchy's root."""
    found = set()
    for hierarchy in [CGROUP_ROOT, *_folders(CGROUP_ROOT)]:
        for first in _folders(hierarchy):
            found |= {f"cgroup {path}" for path in [first, *_folders(first)] if (path / "cgroup.procs").exists()}
    return found


def _folders(path: Path) -> list[Path]:
    """Its directories; none when it goes away meanwhile."""
    try:
        with os.scandir(path) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def named_namespaces() -> set[str]:
    """Network namespaces kept by name, as iproute2 does."""
    folder = Path("/run/netns")
    return {f"netns {entry.name}" for entry in folder.iterdir()} if folder.is_dir() else set()


_SOURCES: tuple[Callable[[], set[str]], ...] = (processes, mounts, links, firewall_tables, cgroups, named_namespaces)


def observe() -> set[str]:
    """Everything above in one set."""
    return set().union(*(source() for source in _SOURCES))


def settled(before: set[str], *, timeout_seconds: float = 20.0, look: Callable[[], set[str]] = observe) -> set[str]:
    """What is there now and was not before, after giving the kernel a moment to finish taking things down."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        left = look() - before
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def origin(item: str) -> str:
    """The last words of a process's command line: they name its folder, and that names the test."""
    kind, _, rest = item.partition(" ")
    try:
        words = Path(f"/proc/{rest.rpartition(' ')[2]}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
    return f" ({words[-200:].strip()})" if kind == "process" else ""


def main() -> int:
    """Save or compare; exit code 1 when something was left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=["save", "compare"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="", help="compare only what contains this text")
    options = parser.parse_args()
    if options.action == "save":
        options.file.write_text(json.dumps(sorted(observe())))
        return 0
    before = set(json.loads(options.file.read_text()))
    # a name server that has nobody to serve and hears of no daemon ends by itself within a minute
    left = settled(before, timeout_seconds=75, look=lambda: {item for item in observe() if options.only in item})
    for item in sorted(left):
        print(f"left behind: {item}{origin(item)}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
