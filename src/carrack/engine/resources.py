"""Limits before they reach a cgroup: checked as Docker checks them; what the machine has no means for goes, with a warning.

The texts are the daemon's of Docker 28 (daemon_unix.go, `verifyPlatformContainerResources`). Pure, but for the warnings' effect on
the request itself: a limit that is discarded is gone from it, so that inspect shows what is in force.
"""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Mapping
from dataclasses import dataclass, field

from carrack.engine.config import HostConfig, Resources
from carrack.errors import InvalidParameter
from carrack.kernel import capabilities
from carrack.runtime.cgroups.features import Features

MINIMUM_MEMORY_BYTES = 6 * 1024 * 1024
EVERYTHING = Features()
_NO = "Your kernel does not support"
_UNMOUNTED = "or the cgroup is not mounted."


@dataclass(frozen=True, slots=True)
class Machine:
    """What a check needs to know of the host."""

    processors: int
    memory_nodes: str = "0"
    """As the kernel lists them: ``0-1,3``."""
    features: Features = EVERYTHING
    least_oom_score: int = -1000
    """The lowest that a container's oom_score_adj can be."""
    hard_limits: Mapping[str, int] = field(default_factory=dict)
    """By the name of a ulimit, what it cannot be raised above; empty where there is CAP_SYS_RESOURCE."""

    @classmethod
    def here(cls, features: Features) -> Machine:
        """This machine, of which cgroups can limit `features`."""
        try:
            with open("/sys/devices/system/node/online", encoding="ascii") as file:
                nodes = file.read().strip()
        except OSError:
            nodes = "0"
        processors = len(os.sched_getaffinity(0))
        if capabilities.get()[0] & capabilities.SYS_RESOURCE:
            return cls(processors, nodes, features)
        with open("/proc/self/oom_score_adj", encoding="ascii") as file:
            least = int(file.read())
        hard = {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1] for name in _LIMITS - {"locks"}}
        return cls(
            processors, nodes, features, least, {name: most for name, most in hard.items() if most != resource.RLIM_INFINITY}
        )


def check(resources: Resources, machine: Machine, *, update: bool = False) -> list[str]:
    """Raise InvalidParameter for what cannot be meant; discard what cannot be done, and return a warning for each.

    `update`: what is not said stays as it is, so that a limit of swap may come without one of memory.
    """
    warnings = _check_memory(resources, machine.features, update=update)
    warnings += _check_processors(resources, machine)
    warnings += _check_block_io(resources, machine.features)
    if resources.pids_limit is not None and resources.pids_limit > 0 and not machine.features.pids:
        warnings.append(f"{_NO} PIDs limit capabilities {_UNMOUNTED} PIDs limit discarded.")
        resources.pids_limit = None
    for limit in resources.ulimits or []:
        if limit.name not in _LIMITS:
            raise InvalidParameter(f"invalid ulimit type: {limit.name}")
        if limit.hard != -1 and limit.soft > limit.hard:
            raise InvalidParameter(f"ulimit soft limit must be less than or equal to hard limit: {limit.soft} > {limit.hard}")
        most = machine.hard_limits.get(limit.name)
        if most is not None and not 0 <= limit.hard <= most:
            warnings.append(f"This machine gives no CAP_SYS_RESOURCE. The ulimit {limit.name} is lowered to its hard limit {most}.")
    if resources.io_maximum_bandwidth:
        raise InvalidParameter("invalid QoS settings: linux does not support configuration of maximum bandwidth")
    if resources.io_maximum_iops:
        raise InvalidParameter("invalid QoS settings: linux does not support configuration of maximum IOPs")
    return warnings


_LIMITS = frozenset(
    "as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack".split()  # setrlimit(2)
)


def _check_memory(asked: Resources, features: Features, *, update: bool) -> list[str]:
    warnings: list[str] = []
    if asked.memory and asked.memory < MINIMUM_MEMORY_BYTES:
        raise InvalidParameter("Minimum memory limit allowed is 6MB")
    if asked.memory > 0 and not features.memory:
        warnings.append(f"{_NO} memory limit capabilities {_UNMOUNTED} Limitation discarded.")
        asked.memory, asked.memory_swap = 0, -1
    if asked.memory > 0 and asked.memory_swap != -1 and not features.swap:
        warnings.append(f"{_NO} swap limit capabilities {_UNMOUNTED} Memory limited without swap.")
        asked.memory_swap = -1
    if asked.memory > 0 and 0 < asked.memory_swap < asked.memory:
        raise InvalidParameter("Minimum memoryswap limit should be larger than memory limit, see usage")
    if asked.memory == 0 and asked.memory_swap > 0 and not update:
        raise InvalidParameter("You should always set the Memory limit when using Memoryswap limit, see usage")
    swappiness = asked.memory_swappiness
    if swappiness is not None and swappiness != -1:
        if not 0 <= swappiness <= 100:
            raise InvalidParameter(f"Invalid value: {swappiness}, valid memory swappiness range is 0-100")
        if not features.swappiness:
            warnings.append(f"{_NO} memory swappiness capabilities {_UNMOUNTED} Memory swappiness discarded.")
            asked.memory_swappiness = None
    if asked.memory_reservation and asked.memory_reservation < MINIMUM_MEMORY_BYTES:
        raise InvalidParameter("Minimum memory reservation allowed is 6MB")
    if asked.memory_reservation > 0 and not features.memory_reservation:
        warnings.append(f"{_NO} memory soft limit capabilities {_UNMOUNTED} Limitation discarded.")
        asked.memory_reservation = 0
    if asked.memory > 0 and 0 < asked.memory_reservation > asked.memory:
        raise InvalidParameter("Minimum memory limit can not be less than memory reservation limit, see usage")
    if asked.kernel_memory:
        if 0 < asked.kernel_memory < MINIMUM_MEMORY_BYTES:
            raise InvalidParameter("Minimum kernel memory limit allowed is 6MB")
        # the kernel counts its own memory within --memory, and since 5.16 has no limit of its own for it
        warnings.append("Specifying a kernel memory limit is deprecated and will be removed in a future release.")
        asked.kernel_memory = 0
    if not features.oom_kill_disable:
        if asked.oom_kill_disable:
            warnings.append(f"{_NO} OomKillDisable. OomKillDisable discarded.")
        asked.oom_kill_disable = None
        return warnings
    asked.oom_kill_disable = bool(asked.oom_kill_disable)
    if asked.oom_kill_disable and not asked.memory:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, "
            "this can result in the system running out of resources."
        )
    return warnings


def _check_processors(asked: Resources, machine: Machine) -> list[str]:
    features, warnings = machine.features, list[str]()
    if asked.nano_cpus and asked.cpu_period:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if asked.nano_cpus and asked.cpu_quota:
        raise InvalidParameter("Conflicting options: Nano CPUs and CPU Quota cannot both be set")
    if asked.nano_cpus and not features.cpu_quota:
        raise InvalidParameter(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted"
        )
    if asked.nano_cpus and (asked.nano_cpus < 0 or asked.nano_cpus > machine.processors * 1_000_000_000):
        raise InvalidParameter(
            f"range of CPUs is from 0.01 to {machine.processors:.2f}, as there are only {machine.processors} CPUs available"
        )
    if asked.cpu_shares < 0:
        raise InvalidParameter(f"invalid CPU shares ({asked.cpu_shares}): value must be a positive integer")
    if asked.cpu_shares and not features.cpu_shares:
        warnings.append(f"{_NO} CPU shares {_UNMOUNTED} Shares discarded.")
        asked.cpu_shares = 0
    if (asked.cpu_period or asked.cpu_quota) and not features.cpu_quota:
        warnings.append(f"{_NO} CPU CFS scheduler. CPU period/quota discarded.")
        asked.cpu_period = asked.cpu_quota = 0
    if asked.cpu_period and not 1000 <= asked.cpu_period <= 1_000_000:
        raise InvalidParameter("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < asked.cpu_quota < 1000:  # less than none means no limit, as with -1
        raise InvalidParameter("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if asked.cpu_percent > 0:
        warnings.append("linux does not support CPU percent. Percent discarded.")
        asked.cpu_percent = 0
    if asked.cpu_count > 0:
        warnings.append("linux does not support CPU count. Count discarded.")
        asked.cpu_count = 0
    _check_realtime(asked, features)
    return warnings + _check_cpuset(asked, machine)


def _check_realtime(asked: Resources, features: Features) -> None:
    period, runtime = asked.cpu_realtime_period, asked.cpu_realtime_runtime
    if (period or runtime) and not features.cpu_realtime:
        raise InvalidParameter("Your kernel does not support CPU real-time scheduler")
    if period < 0 or runtime < 0:
        raise InvalidParameter("cpu real-time period and runtime cannot be negative")
    if period and runtime and runtime > period:
        raise InvalidParameter("cpu real-time runtime cannot be higher than cpu real-time period")


def _check_cpuset(asked: Resources, machine: Machine) -> list[str]:
    if (asked.cpuset_cpus or asked.cpuset_mems) and not machine.features.cpuset:
        asked.cpuset_cpus = asked.cpuset_mems = ""
        return [f"{_NO} cpuset {_UNMOUNTED} Cpuset discarded."]
    if asked.cpuset_cpus:
        available = (os.cpu_count() or machine.processors) - 1
        if max(_members(asked.cpuset_cpus, "cpuset cpus")) > available:
            raise InvalidParameter(f"Requested CPUs are not available - requested {asked.cpuset_cpus}, available: 0-{available}")
    if asked.cpuset_mems and not _members(asked.cpuset_mems, "cpuset mems") <= _members(machine.memory_nodes, "memory nodes"):
        raise InvalidParameter(
            f"Requested memory nodes are not available - requested {asked.cpuset_mems}, available: {machine.memory_nodes}"
        )
    return []


def _members(text: str, what: str) -> set[int]:
    """The numbers of a list such as ``0-3,7``."""
    found: set[int] = set()
    for part in text.split(","):
        low, dash, high = part.partition("-")
        if not _NUMBER.fullmatch(low) or (dash and not _NUMBER.fullmatch(high)) or (dash and int(high) < int(low)):
            raise InvalidParameter(f"Invalid value {text} for {what}: invalid format: {text}")
        if int(high or low) > _LAST_MEMBER:
            raise InvalidParameter(f"Invalid value {text} for {what}: value of out range, maximum is {_LAST_MEMBER}")
        found |= set(range(int(low), int(high or low) + 1))
    return found


_NUMBER = re.compile("[0-9]{1,18}")
_LAST_MEMBER = 8192


def _check_block_io(asked: Resources, features: Features) -> list[str]:
    warnings: list[str] = []
    if asked.blkio_weight and not 10 <= asked.blkio_weight <= 1000:
        raise InvalidParameter("Range of blkio weight is from 10 to 1000")
    for device in asked.blkio_weight_device or []:
        if device.weight and not 10 <= device.weight <= 1000:
            raise InvalidParameter(f"Range of blkio weight is from 10 to 1000, and {device.path} is to have {device.weight}")
    if asked.blkio_weight and not features.block_weight:
        warnings.append(f"{_NO} Block I/O weight {_UNMOUNTED} Weight discarded.")
        asked.blkio_weight = 0
    if asked.blkio_weight_device and not features.block_weight_device:
        warnings.append(f"{_NO} Block I/O weight_device {_UNMOUNTED} Weight-device discarded.")
        asked.blkio_weight_device = None
    for kind, what, discarded in _THROTTLES:
        devices = getattr(asked, kind) or []
        if any(device.rate < 0 for device in devices):
            raise InvalidParameter(f"invalid rate for {kind}: it cannot be negative")
        if devices and not features.block_throttle:
            warnings.append(f"{_NO} {what} {_UNMOUNTED} Block I/O {discarded} limit discarded.")
            setattr(asked, kind, None)
    return warnings


_THROTTLES = (
    ("blkio_device_read_bps", "BPS Block I/O read limit", "BPS read"),
    ("blkio_device_write_bps", "BPS Block I/O write limit", "BPS write"),
    ("blkio_device_read_iops", "IOPS Block read limit", "IOPS read"),
    ("blkio_device_write_iops", "IOPS Block write limit", "IOPS write"),
)


def check_change(host: HostConfig, wanted: Resources) -> None:
    """Whether an `update` fits what the container has. Raises Docker's refusals."""
    if wanted.nano_cpus > 0 and host.cpu_period > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set")
    if wanted.nano_cpus > 0 and host.cpu_quota > 0:
        raise InvalidParameter("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set")
    if wanted.cpu_period > 0 and host.nano_cpus > 0:
        raise InvalidParameter("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set")
    if wanted.cpu_quota > 0 and host.nano_cpus > 0:
        raise InvalidParameter("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set")
    if wanted.memory > 0 and wanted.memory_swap == 0 and 0 < host.memory_swap < wanted.memory:
        raise InvalidParameter(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
