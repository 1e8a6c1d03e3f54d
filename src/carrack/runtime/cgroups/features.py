"""What this machine's cgroups can limit, found by making one and looking at its files: some files a hierarchy's root has not.

The answer decides which limits are discarded with a warning when a container is made, as Docker does; see `engine/request.py`.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from carrack.runtime.cgroups.layout import Layout
from carrack.runtime.cgroups.version1 import CgroupV1
from carrack.runtime.cgroups.version2 import CgroupV2


class Features(NamedTuple):
    """Which limits there are. The defaults are those of a machine that lacks nothing."""

    memory: bool = True
    swap: bool = True
    swappiness: bool = True
    memory_reservation: bool = True
    oom_kill_disable: bool = True
    cpu_shares: bool = True
    cpu_quota: bool = True
    cpu_realtime: bool = True
    cpuset: bool = True
    pids: bool = True
    block_weight: bool = True
    block_weight_device: bool = True
    block_throttle: bool = True


_FILES_V1 = {
    "memory": ("memory.limit_in_bytes",),
    "swap": ("memory.memsw.limit_in_bytes",),
    "swappiness": ("memory.swappiness",),
    "memory_reservation": ("memory.soft_limit_in_bytes",),
    "oom_kill_disable": ("memory.oom_control",),
    "cpu_shares": ("cpu.shares",),
    "cpu_quota": ("cpu.cfs_quota_us",),
    "cpu_realtime": ("cpu.rt_runtime_us",),
    "cpuset": ("cpuset.cpus",),
    "pids": ("pids.max",),
    "block_weight": ("blkio.weight", "blkio.bfq.weight"),
    "block_weight_device": ("blkio.weight_device", "blkio.bfq.weight_device"),
    "block_throttle": ("blkio.throttle.read_bps_device",),
}
_FILES_V2: dict[str, tuple[str, ...]] = {
    "memory": ("memory.max",),
    "swap": ("memory.swap.max",),
    "swappiness": (),
    "memory_reservation": ("memory.low",),
    "oom_kill_disable": (),
    "cpu_shares": ("cpu.weight",),
    "cpu_quota": ("cpu.max",),
    "cpu_realtime": (),
    "cpuset": ("cpuset.cpus",),
    "pids": ("pids.max",),
    "block_weight": ("io.weight", "io.bfq.weight"),
    "block_weight_device": ("io.weight", "io.bfq.weight"),
    "block_throttle": ("io.max",),
}
"""The files that tell, any of which will do. Version 2 has no swappiness, no switch for the OOM killer and no real-time share."""


def probe(path: str, layout: Layout) -> Features:
    """Make a cgroup at `path` for a moment and see what it has. Raises OSError."""
    cgroup = CgroupV1(path, layout) if layout.version == 1 else CgroupV2(path, layout)
    directories = [h.mountpoint + path for h in layout.hierarchies] if layout.version == 1 else [layout.unified + path]
    roots = {directory[: -len(path)] for directory in directories}
    above = [path[:end] for end in range(len(path) - 1, 0, -1) if path[end] == "/"]
    made = [root + parent for root in roots for parent in above if not os.path.isdir(root + parent)]
    try:
        cgroup.create()
        present = {name for directory in directories for name in os.listdir(directory)}
    finally:
        cgroup.remove()
        for directory in made:
            try:
                os.rmdir(directory)
            except OSError:
                pass  # somebody has come to use it
    return found_among(present, layout.version)


def found_among(names: set[str], version: int) -> Features:
    """The features of a cgroup with files of these names."""
    wanted = _FILES_V1 if version == 1 else _FILES_V2
    return Features(**{field: any(name in names for name in files) for field, files in wanted.items()})
