"""What Docker gives a container when nobody says otherwise, as values of the runtime-spec: for the engine, which builds specs.

Mounts, device rules, hidden paths, namespaces and parameters, ordinary and privileged. Pure; copies of Docker's documented
defaults, not policy of our own.
"""

from __future__ import annotations

from carrack.oci.runtime_spec import Capabilities, DeviceRule, Linux, Namespace, SpecMount

DEFAULT_SHM_BYTES = 64 << 20

DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
"""Docker 28 also masks each processor's thermal_throttle: see `masked_paths`."""

READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

DEVICE_RULES = (
    DeviceRule(allow=False, access="rwm"),
    DeviceRule(allow=True, type="c", major=1, minor=5, access="rwm"),
    DeviceRule(allow=True, type="c", major=1, minor=3, access="rwm"),
    DeviceRule(allow=True, type="c", major=1, minor=9, access="rwm"),
    DeviceRule(allow=True, type="c", major=1, minor=8, access="rwm"),
    DeviceRule(allow=True, type="c", major=5, minor=0, access="rwm"),
    DeviceRule(allow=True, type="c", major=5, minor=1, access="rwm"),
    DeviceRule(allow=False, type="c", major=10, minor=229, access="rwm"),
)

PRIVILEGED_DEVICE_RULES = (DeviceRule(allow=True, access="rwm"),)

# what lets an ordinary user of a container ping and bind low ports, inside the container's own network namespace only
NETWORK_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}


def masked_paths(cpus: int = 0) -> tuple[str, ...]:
    """The paths to hide on a machine of so many processors."""
    return MASKED_PATHS + tuple(f"/sys/devices/system/cpu/cpu{number}/thermal_throttle" for number in range(cpus))


def mounts(
    *, shm_bytes: int = DEFAULT_SHM_BYTES, privileged: bool = False, writable_cgroups: bool = False
) -> tuple[SpecMount, ...]:
    """The file systems every container has. Privileged: /sys and the cgroups writable."""
    sys_options = ("nosuid", "noexec", "nodev") if privileged else ("nosuid", "noexec", "nodev", "ro")
    cgroup_access = () if privileged or writable_cgroups else ("ro",)
    return (
        SpecMount("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
        SpecMount("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
        SpecMount("/dev/pts", "devpts", "devpts", ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5")),
        SpecMount("/sys", "sysfs", "sysfs", sys_options),
        SpecMount("/sys/fs/cgroup", "cgroup", "cgroup", (*cgroup_access, "nosuid", "noexec", "nodev")),
        SpecMount("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
        SpecMount("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", f"size={shm_bytes}")),
    )


def namespaces(*, cgroup: bool = False) -> tuple[Namespace, ...]:
    """One of each kind for the container alone. Docker's cgroup namespace is private on version 2 and the host's on version 1."""
    kinds = ("mount", "network", "uts", "pid", "ipc")
    return tuple(Namespace(kind) for kind in ((*kinds, "cgroup") if cgroup else kinds))


def capability_sets(names: tuple[str, ...]) -> Capabilities:
    """As Docker sets them: bounding, effective and permitted alike, inheritable and ambient empty (CVE-2022-24769)."""
    return Capabilities(bounding=names, effective=names, permitted=names)


def linux(*, privileged: bool = False, cgroup_namespace: bool = False, cpus: int = 0) -> Linux:
    """The `linux` part without limits, devices, seccomp and cgroup path. Privileged: nothing masked or read-only."""
    return Linux(
        namespaces=namespaces(cgroup=cgroup_namespace),
        masked_paths=() if privileged else masked_paths(cpus),
        readonly_paths=() if privileged else READONLY_PATHS,
    )
