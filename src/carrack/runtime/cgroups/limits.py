"""runtime-spec `resources` → the files of a cgroup and their values. Pure; both versions. See config-linux.md, cgroup-v2.rst."""

from __future__ import annotations

import math
from typing import NamedTuple

from carrack.errors import InvalidParameter
from carrack.oci.runtime_spec import BlockIOLimits, CpuLimits, DeviceRule, MemoryLimits, Resources, ThrottleDevice

_DEFAULT_WEIGHT = "default"
"""What takes a device's own weight back: that of the whole cgroup counts again."""


class Write(NamedTuple):
    """One value for one file of one controller."""

    controller: str
    file: str
    value: str
    warning: str = ""
    """What to say when the machine lacks the file, in Docker's words; empty: a missing file is an error."""


# What every container may use whatever the rules say, as runc has it: nodes may be made, not opened, and the usual ones opened.
_ALWAYS = (
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:8 rwm",
    "c 1:7 rwm",
    "c 5:0 rwm",
    "c 1:5 rwm",
    "c 1:9 rwm",
    "c 136:* rwm",
    "c 5:2 rwm",
)


def devices_of(resources: Resources) -> tuple[tuple[bool, str], ...]:
    """Device rules in order: everything denied first, then the spec's, then what every container has."""
    rules = [(False, "a *:* rwm")]
    rules += [(rule.allow, _device_text(rule)) for rule in resources.devices]
    if rules[-1] != (True, "a *:* rwm"):
        rules += [(True, text) for text in _ALWAYS]
    return tuple(rules)


def _device_text(rule: DeviceRule) -> str:
    if rule.type not in ("a", "b", "c", ""):
        raise InvalidParameter(f"invalid device type {rule.type!r}")
    access = "".join(letter for letter in rule.access if letter in "rwm")  # other letters are left out, as runc does
    if rule.access and not access:
        raise InvalidParameter(f"invalid device access {rule.access!r}")
    major = "*" if rule.major is None or rule.major < 0 else str(rule.major)
    minor = "*" if rule.minor is None or rule.minor < 0 else str(rule.minor)
    return f"{rule.type or 'a'} {major}:{minor} {access or 'rwm'}"


def allowed_devices(rules: tuple[tuple[bool, str], ...]) -> set[str] | None:
    """The rules as the set of what is allowed, one access letter each (``c 1:3 r``).

    None when that cannot be said as such a set: everything allowed, or something taken out of a wildcard.
    """
    allowed: set[str] = set()
    for allow, text in rules:
        device, _, access = text.rpartition(" ")
        entries = {f"{device} {letter}" for letter in access}
        if device == "a *:*":
            if allow:
                return None
            allowed.clear()
        elif device.startswith("a "):
            return None
        elif allow:
            allowed |= entries
        else:
            allowed -= entries
    return allowed


def writes_of(resources: Resources, version: int) -> tuple[Write, ...]:
    """The writes that make `resources` so, devices aside, in an order the kernel accepts on a fresh cgroup."""
    return tuple(_v1(resources) if version == 1 else _v2(resources))


def shares_to_weight(shares: int) -> int:
    """cpu.shares (2..262144) on the scale of cpu.weight (1..10000); 0 stays 0: unset.

    Both have a middle, 1024 and 100, which every cgroup has that nobody asked about: a straight line through the ends alone would
    give a container with Docker's default shares (39) less than one without. So runc since 1.3.2 and crun since 1.23 take the
    parabola of logarithms through all three, and so does this.
    """
    if shares == 0:
        return 0
    logarithm = math.log2(min(max(shares, 2), 262144))
    return math.ceil(round(10 ** ((logarithm * logarithm + 125 * logarithm) / 612 - 7 / 34), 9))


def swap_to_v2(memory: MemoryLimits) -> str | None:
    """memory.swap.max out of version 1's memory+swap total; None: leave it."""
    swap, limit = memory.swap, memory.limit
    if swap in (None, 0):
        return "max" if limit == -1 else None  # in version 1 memory without a limit is memory and swap without one
    if swap == -1:
        return "max"
    if limit == -1:
        return str(swap)
    if swap is None or limit is None or limit == 0:
        raise InvalidParameter("unable to set swap limit without memory limit")
    if swap < limit:
        raise InvalidParameter("memory+swap limit should be greater than or equal to memory limit")
    return str(swap - limit)


# ── version 1 ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _v1(resources: Resources) -> list[Write]:
    writes: list[Write] = []
    if resources.memory:
        writes += _memory_v1(resources.memory)
    if resources.cpu:
        writes += _cpu_v1(resources.cpu)
    if resources.pids and resources.pids.limit != 0:
        writes.append(Write("pids", "pids.max", _or_max(resources.pids.limit), _discarded("pids limit")))
    if resources.block_io:
        writes += _block_io_v1(resources.block_io)
    for page in resources.hugepage_limits:
        writes.append(Write("hugetlb", f"hugetlb.{page.page_size}.limit_in_bytes", str(page.limit)))
    if resources.network:
        if resources.network.class_id is not None:
            writes.append(Write("net_cls", "net_cls.classid", str(resources.network.class_id)))
        for priority in resources.network.priorities:
            writes.append(Write("net_prio", "net_prio.ifpriomap", f"{priority.name} {priority.priority}"))
    writes += _rdma(resources)
    if resources.unified:
        raise InvalidParameter("invalid configuration: cannot set unified resources with cgroup v1")
    return writes


def _discarded(what: str) -> str:
    return f"Your kernel does not support {what} capabilities or the cgroup is not mounted. Limitation discarded."


def _memory_v1(memory: MemoryLimits) -> list[Write]:
    writes: list[Write] = []
    if memory.limit:
        writes.append(Write("memory", "memory.limit_in_bytes", str(memory.limit), _discarded("memory limit")))
    if memory.swap:
        if memory.limit and memory.limit > 0 and 0 < memory.swap < memory.limit:
            raise InvalidParameter("memory+swap limit should be greater than or equal to memory limit")
        warning = "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."
        writes.append(Write("memory", "memory.memsw.limit_in_bytes", str(memory.swap), warning))
    if memory.reservation:
        warning = _discarded("memory soft limit")
        writes.append(Write("memory", "memory.soft_limit_in_bytes", str(memory.reservation), warning))
    if memory.kernel_tcp:
        writes.append(
            Write("memory", "memory.kmem.tcp.limit_in_bytes", str(memory.kernel_tcp), _discarded("kernel memory TCP limit"))
        )
    if memory.disable_oom_killer:
        warning = "Your kernel does not support OomKillDisable. OomKillDisable discarded."
        writes.append(Write("memory", "memory.oom_control", "1", warning))
    if memory.swappiness is not None and memory.swappiness != -1:
        if not 0 <= memory.swappiness <= 100:
            raise InvalidParameter(f"invalid memory swappiness value: {memory.swappiness} (valid range is 0-100)")
        writes.append(Write("memory", "memory.swappiness", str(memory.swappiness), _discarded("memory swappiness")))
    return writes


def _cpu_v1(cpu: CpuLimits) -> list[Write]:
    writes: list[Write] = []
    cfs = "Your kernel does not support CPU CFS scheduler. CPU period/quota discarded."
    if cpu.shares:
        if not 2 <= cpu.shares <= 262144:  # the kernel would take the nearest without a word
            bound = "minimum allowed cpu-shares is 2" if cpu.shares < 2 else "maximum allowed cpu-shares is 262144"
            raise InvalidParameter(f"the {bound}")
        writes.append(Write("cpu", "cpu.shares", str(cpu.shares), _discarded("CPU shares")))
    if cpu.period:
        writes.append(Write("cpu", "cpu.cfs_period_us", str(cpu.period), cfs))
    if cpu.quota:
        writes.append(Write("cpu", "cpu.cfs_quota_us", str(cpu.quota), cfs))
    if cpu.burst is not None:
        writes.append(Write("cpu", "cpu.cfs_burst_us", str(cpu.burst)))
    if cpu.realtime_period:
        writes.append(Write("cpu", "cpu.rt_period_us", str(cpu.realtime_period), _discarded("CPU real-time scheduler")))
    if cpu.realtime_runtime:
        writes.append(Write("cpu", "cpu.rt_runtime_us", str(cpu.realtime_runtime), _discarded("CPU real-time scheduler")))
    if cpu.idle is not None:
        writes.append(Write("cpu", "cpu.idle", str(cpu.idle)))
    return writes + _cpuset(cpu)


def _cpuset(cpu: CpuLimits) -> list[Write]:
    writes: list[Write] = []
    if cpu.cpus:
        writes.append(Write("cpuset", "cpuset.cpus", cpu.cpus, _discarded("cpuset")))
    if cpu.mems:
        writes.append(Write("cpuset", "cpuset.mems", cpu.mems, _discarded("cpuset")))
    return writes


def _block_io_v1(block_io: BlockIOLimits) -> list[Write]:
    writes: list[Write] = []
    if block_io.weight:
        writes.append(Write("blkio", "blkio.bfq.weight|blkio.weight", str(block_io.weight), _discarded("Block I/O weight")))
    if block_io.leaf_weight:
        writes.append(Write("blkio", "blkio.leaf_weight", str(block_io.leaf_weight), _discarded("Block I/O leaf weight")))
    for device in block_io.weight_device:
        name = f"{device.major}:{device.minor}"
        warning = "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded."
        if device.weight is not None:
            value = f"{name} {device.weight or _DEFAULT_WEIGHT}"
            writes.append(Write("blkio", "blkio.bfq.weight_device|blkio.weight_device", value, warning))
        if device.leaf_weight:
            writes.append(Write("blkio", "blkio.leaf_weight_device", f"{name} {device.leaf_weight}", warning))
    for devices, file in _throttles(block_io):
        for throttle in devices:
            writes.append(Write("blkio", f"blkio.throttle.{file}_device", f"{throttle.major}:{throttle.minor} {throttle.rate}"))
    return writes


def _throttles(block_io: BlockIOLimits) -> tuple[tuple[tuple[ThrottleDevice, ...], str], ...]:
    return (
        (block_io.throttle_read_bps_device, "read_bps"),
        (block_io.throttle_write_bps_device, "write_bps"),
        (block_io.throttle_read_iops_device, "read_iops"),
        (block_io.throttle_write_iops_device, "write_iops"),
    )


# ── version 2 ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _or_max(limit: int | None) -> str:
    return "max" if limit is None or limit < 0 else str(limit)


def _v2(resources: Resources) -> list[Write]:
    writes: list[Write] = []
    if resources.memory:
        writes += _memory_v2(resources.memory)
    if resources.cpu:
        writes += _cpu_v2(resources.cpu)
    if resources.pids and resources.pids.limit != 0:
        writes.append(Write("pids", "pids.max", _or_max(resources.pids.limit), _discarded("pids limit")))
    if resources.block_io:
        writes += _block_io_v2(resources.block_io)
    for page in resources.hugepage_limits:
        writes.append(Write("hugetlb", f"hugetlb.{page.page_size}.max", str(page.limit)))
        writes.append(
            Write("hugetlb", f"hugetlb.{page.page_size}.rsvd.max", str(page.limit), "hugetlb reservation limit not supported")
        )
    writes += _rdma(resources)
    for file, value in (resources.unified or {}).items():
        if "/" in file:
            raise InvalidParameter(f"unified resource {file!r} must be a file name (no slashes)")
        if "." not in file:
            raise InvalidParameter(f"unified resource {file!r} must be in the form CONTROLLER.PARAMETER")
        writes += [Write(file.partition(".")[0], file, line) for line in value.splitlines()]
    return writes


def _memory_v2(memory: MemoryLimits) -> list[Write]:
    writes: list[Write] = []
    swap = swap_to_v2(memory)
    if swap is not None:
        warning = "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."
        writes.append(Write("memory", "memory.swap.max", swap, warning))  # first: the sum never grows past what was asked
    if memory.limit:
        writes.append(Write("memory", "memory.max", _or_max(memory.limit), _discarded("memory limit")))
    if memory.reservation:
        writes.append(Write("memory", "memory.low", _or_max(memory.reservation), _discarded("memory soft limit")))
    return writes


def _cpu_v2(cpu: CpuLimits) -> list[Write]:
    writes: list[Write] = []
    if cpu.idle is not None:
        writes.append(Write("cpu", "cpu.idle", str(cpu.idle)))
    if cpu.shares and not cpu.idle:
        writes.append(Write("cpu", "cpu.weight", str(shares_to_weight(cpu.shares)), _discarded("CPU shares")))
    if cpu.quota or cpu.period:
        quota = str(cpu.quota) if cpu.quota and cpu.quota > 0 else "max"
        writes.append(Write("cpu", "cpu.max", f"{quota} {cpu.period or 100000}", _discarded("CPU quota")))
    if cpu.burst is not None:
        writes.append(Write("cpu", "cpu.max.burst", str(cpu.burst)))
    return writes + _cpuset(cpu)


def _block_io_v2(block_io: BlockIOLimits) -> list[Write]:
    writes: list[Write] = []
    if block_io.weight:
        writes.append(Write("io", "io.bfq.weight", str(block_io.weight), _discarded("Block I/O weight")))
    for device in block_io.weight_device:
        if device.weight is not None:
            value = f"{device.major}:{device.minor} {device.weight or _DEFAULT_WEIGHT}"
            writes.append(Write("io", "io.bfq.weight", value, _discarded("Block I/O weight_device")))
    for devices, file in _throttles(block_io):
        name = {"read_bps": "rbps", "write_bps": "wbps", "read_iops": "riops", "write_iops": "wiops"}[file]
        for throttle in devices:
            writes.append(Write("io", "io.max", f"{throttle.major}:{throttle.minor} {name}={throttle.rate or 'max'}"))
    return writes


def _rdma(resources: Resources) -> list[Write]:
    writes: list[Write] = []
    for device, limit in (resources.rdma or {}).items():
        text = device
        if limit.hca_handles is not None:
            text += f" hca_handle={limit.hca_handles}"
        if limit.hca_objects is not None:
            text += f" hca_object={limit.hca_objects}"
        writes.append(Write("rdma", "rdma.max", text))
    return writes
