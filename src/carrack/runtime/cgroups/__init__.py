"""Control groups of versions 1 and 2 behind one Protocol; which of them is found by looking at /sys/fs/cgroup (signatures first)."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from carrack.oci.runtime_spec import Resources


class CgroupPlan(NamedTuple):
    """A cgroup to be made: its path below every hierarchy's root and the files to write, in order. Pure."""

    path: str
    writes: tuple[tuple[str, str, str], ...]
    """(controller, file, value)."""
    warnings: tuple[str, ...]
    """What was asked and this machine cannot do, in Docker's words."""


class Cgroup(Protocol):
    """A living cgroup."""

    path: str

    def update(self, resources: Resources) -> list[str]:
        """Write changed limits; returns warnings."""

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...

    def frozen(self) -> bool: ...

    def processes(self) -> list[int]:
        """The pids, as this process sees them, of everything below the cgroup."""

    def kill(self) -> None:
        """SIGKILL everything below the cgroup."""

    def remove(self) -> None:
        """Remove the directories; what is already gone is fine. Retries for a moment while the kernel empties them."""

    def watch_out_of_memory(self) -> int:
        """A descriptor that becomes readable when the kernel kills for want of memory; -1 without a memory controller."""

    def out_of_memory_kills(self) -> int:
        """How many processes were killed so far."""


def plan(path: str, resources: Resources | None) -> CgroupPlan:
    raise NotImplementedError


def open(path: str) -> Cgroup:
    """The living cgroup at that path, for a shim or daemon that did not make it."""
    raise NotImplementedError
