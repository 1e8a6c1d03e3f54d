"""Where the cgroup hierarchies are: read from mountinfo once per process. See cgroups(7), cgroup-v2.rst."""

from __future__ import annotations

from typing import NamedTuple

from carrack.errors import SystemFailure

_ROOT = "/sys/fs/cgroup"


class Hierarchy(NamedTuple):
    """One version 1 hierarchy: its controllers (``name=systemd`` for a named one) and where it is mounted."""

    controllers: tuple[str, ...]
    mountpoint: str

    @property
    def label(self) -> str:
        """The name of its folder below /sys/fs/cgroup."""
        return self.mountpoint.rpartition("/")[2]


class Layout(NamedTuple):
    """Where a machine has its cgroup hierarchies (cgroups(7))."""

    version: int
    """1 (also when a v2 hierarchy lies beside) or 2."""
    hierarchies: tuple[Hierarchy, ...]
    """Of version 1; empty on version 2."""
    unified: str
    """Where cgroup2 is mounted; empty: nowhere."""

    def mountpoint(self, controller: str) -> str:
        """Where a version 1 controller lives; empty: not on this machine."""
        for hierarchy in self.hierarchies:
            if controller in hierarchy.controllers:
                return hierarchy.mountpoint
        return ""


_detected: Layout | None = None


def detect() -> Layout:
    """The machine's layout. Raises SystemFailure when no hierarchy is mounted."""
    global _detected
    if _detected is None:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            _detected = parse(lines.read())
    return _detected


def parse(mountinfo: str) -> Layout:
    """Read the cgroup mounts out of the text of /proc/self/mountinfo (proc_pid_mountinfo(5))."""
    hierarchies: list[Hierarchy] = []
    unified = ""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        file_system, _, rest = after.partition(" ")
        if file_system not in ("cgroup", "cgroup2"):
            continue
        fields = before.split(" ")
        root, mountpoint = fields[3], fields[4]
        if mountpoint != _ROOT and not mountpoint.startswith(_ROOT + "/"):
            continue
        if file_system == "cgroup2":
            unified = mountpoint
        elif root == "/" or not root.startswith("/.."):
            hierarchies.append(Hierarchy(_controllers(rest.rpartition(" ")[2]), mountpoint))
    if unified == _ROOT or (unified and not hierarchies):
        return Layout(2, (), unified)
    if not hierarchies:
        raise SystemFailure("no cgroup mount found in mountinfo")
    return Layout(1, tuple(hierarchies), unified)


_MOUNT_FLAGS = frozenset(("rw", "ro", "xattr", "clone_children", "noprefix", "nosuid", "nodev", "noexec", "relatime"))


def _controllers(options: str) -> tuple[str, ...]:
    return tuple(option for option in options.split(",") if option not in _MOUNT_FLAGS and not option.startswith("release_agent="))


def own_paths(text: str) -> dict[str, str]:
    """/proc/PID/cgroup as controller → path; the key of version 2 is the empty string."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found
