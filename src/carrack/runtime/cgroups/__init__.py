"""Control groups of versions 1 and 2 behind one Protocol; which of them is found by looking at what is mounted.

A `CgroupPlan` is pure: the path below every hierarchy's root and the files to write, computed from runtime-spec `resources`
for a given `Layout`. `make` carries it out and gives the living `Cgroup`. On a hybrid machine (v2 beside v1) version 1 rules.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from carrack.oci.runtime_spec import Resources
from carrack.runtime.cgroups.directories import below, pids_below
from carrack.runtime.cgroups.layout import Layout, detect
from carrack.runtime.cgroups.limits import Write, devices_of, writes_of
from carrack.runtime.cgroups.statistics import Statistics
from carrack.runtime.cgroups.version1 import CgroupV1
from carrack.runtime.cgroups.version2 import CgroupV2

__all__ = ["Cgroup", "CgroupPlan", "Layout", "Statistics", "detect", "idle_below", "make", "open", "plan"]


class CgroupPlan(NamedTuple):
    """A cgroup to be made: its path below every hierarchy's root and the files to write, in order."""

    path: str
    layout: Layout
    writes: tuple[Write, ...]
    devices: tuple[tuple[bool, str], ...] = ()
    """Device rules in order, the last that matches counts: (allow, ``type major:minor access``)."""
    inherited: bool = False
    """The path is that of a cgroup which stays: nothing is written, and remove leaves it."""


class Cgroup(Protocol):
    """A living cgroup."""

    path: str
    joined_by_birth: bool
    """Whether a process born into `directory_fd` is in it altogether, or still has to join."""

    def create_birthplace(self) -> None:
        """Make the directory of `directory_fd`, when there is to be one."""

    def create(self) -> None:
        """Make every directory; those that exist are fine."""

    def apply(self, writes: tuple[Write, ...]) -> list[str]:
        """Write limits; returns what the machine lacks, in Docker's words. Raises OSError when the kernel refuses a value."""

    def restrict_devices(self, rules: tuple[tuple[bool, str], ...]) -> None:
        """Put device rules in force in place of those before."""

    def directory(self, controller: str) -> str:
        """The cgroup's directory for that controller; empty when the machine has none."""

    def update(self, resources: Resources) -> list[str]:
        """Write changed limits; returns warnings. Raises OSError when the kernel refuses a value."""

    def join(self) -> None:
        """Move the calling (single-threaded) process into the cgroup."""

    def add(self, pid: int) -> None:
        """Move another single-threaded process into the cgroup."""

    def directory_fd(self) -> int:
        """A descriptor for CLONE_INTO_CGROUP (the caller closes it); -1 on a machine of version 1 alone."""

    def directory_fd_of(self, pid: int) -> int:
        """As `directory_fd`, for the cgroup at or below this one that a process is in; -1 where there is none of version 2."""

    def freeze(self) -> None:
        """Stop everything below the cgroup; returns when it stands still."""

    def thaw(self) -> None:
        """Let its processes go on. Idempotent."""

    def frozen(self) -> bool:
        """Whether it is frozen, or about to be."""

    def processes(self) -> list[int]:
        """The pids, as this process sees them, of everything below the cgroup."""

    def kill(self) -> None:
        """SIGKILL everything below the cgroup."""

    def remove(self) -> None:
        """Remove the directories; what is already gone is fine. Waits up to some seconds for the kernel to empty them."""

    def watch_out_of_memory(self) -> int:
        """A descriptor that becomes readable at an out-of-memory event (read it to clear it); -1 without a memory controller."""

    def out_of_memory_kills(self) -> int:
        """How many processes the kernel has killed here for want of memory."""

    def statistics(self) -> Statistics:
        """What its processes have used, and may use."""


def plan(path: str, resources: Resources | None, layout: Layout | None = None) -> CgroupPlan:
    """What a cgroup at `path` with these limits is made of. Raises InvalidParameter on values that cannot be meant."""
    layout = layout or detect()
    resources = resources or Resources()
    return CgroupPlan("/" + path.strip("/"), layout, writes_of(resources, layout.version), devices_of(resources))


def make(wanted: CgroupPlan) -> tuple[Cgroup, list[str]]:
    """Create the directories and write the limits; returns the cgroup and what the machine could not do.

    Raises OSError with everything undone when the kernel refuses a value.
    """
    cgroup = begin(wanted)
    return cgroup, complete(wanted, cgroup)


def begin(wanted: CgroupPlan) -> Cgroup:
    """Create only what a process must be born into: everything on version 2, next to nothing on version 1. Raises OSError."""
    cgroup = _living(wanted.path, wanted.layout)
    if not wanted.inherited:
        cgroup.create_birthplace()
    return cgroup


def complete(wanted: CgroupPlan, cgroup: Cgroup) -> list[str]:
    """Create the rest and write the limits; returns what the machine could not do. Raises OSError with everything undone."""
    if wanted.inherited:
        return []
    try:
        cgroup.create()
        warnings = cgroup.apply(wanted.writes)
        cgroup.restrict_devices(wanted.devices)
    except OSError:
        cgroup.kill()
        cgroup.remove()
        raise
    return warnings


def open(path: str) -> Cgroup:
    """The living cgroup at that path, for one that did not make it."""
    return _living("/" + path.strip("/"), detect())


def idle_below(parent: str) -> list[str]:
    """The directories right below that path, in every hierarchy, in which no process is."""
    layout = detect()
    roots = [*(each.mountpoint for each in layout.hierarchies), *([layout.unified] if layout.unified else [])]
    found: list[str] = []
    for root in roots:
        place = f"{root}/{parent.strip('/')}"
        found += [each for each in below(place) if each.count("/") == place.count("/") + 1 and not pids_below(each, "cgroup.procs")]
    return sorted(found)


def _living(path: str, layout: Layout) -> CgroupV1 | CgroupV2:
    return CgroupV1(path, layout) if layout.version == 1 else CgroupV2(path, layout)
