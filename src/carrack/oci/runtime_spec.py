"""The runtime-spec's `config.json` (1.2) as values: what the engine asks for, what `runtime/` carries out, what a bundle holds.

Only names and defaults live here; what each field does is the runtime's affair. Unknown fields of a bundle are ignored.
"""

from __future__ import annotations

import msgspec


class _Document(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    pass


class User(_Document, frozen=True):
    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: tuple[int, ...] = ()
    username: str = ""
    """Not part of the specification's Linux fields: a name or `name:group` to look up inside the root file system."""
    additional_groups: tuple[str, ...] = ()
    """Nor this: names or numbers of further groups to look up there, beside a `username`."""


class ConsoleSize(_Document, frozen=True):
    height: int = 0
    width: int = 0


class Capabilities(_Document, frozen=True):
    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


class Rlimit(_Document, frozen=True):
    type: str
    hard: int
    soft: int


class Process(_Document, frozen=True):
    args: tuple[str, ...] = ()
    cwd: str = "/"
    env: tuple[str, ...] = ()
    terminal: bool = False
    console_size: ConsoleSize | None = None
    user: User = User()
    capabilities: Capabilities | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    apparmor_profile: str = ""
    selinux_label: str = ""
    oom_score_adj: int | None = None


class Root(_Document, frozen=True):
    path: str
    readonly: bool = False


class IDMapping(_Document, frozen=True):
    container_id: int = msgspec.field(name="containerID")
    host_id: int = msgspec.field(name="hostID")
    size: int


class MountTree(_Document, frozen=True):
    """Not part of the specification: a stack of directories, topmost first, of which a place is bound into a build step.

    With `upper` and `work`, directories of the step's own, the stack is writable and what is written stays there; it need
    not outlive a power cut, so that such a stack can be mounted once.
    """

    lower: tuple[str, ...]
    path: str = ""
    """The place inside, looked up without leaving the stack; "": its root."""
    upper: str = ""
    work: str = ""


class SpecMount(_Document, frozen=True):
    """`mounts[]`. (`Mount` is the value that crosses our own walls.)"""

    destination: str
    type: str = ""
    source: str = ""
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    tree: MountTree | None = None
    """Nor this part of it: what a bind binds, in place of `source`."""
    content: bytes | None = None
    """Nor this: the mount is a read-only file of this content, in memory; options ``mode=``, ``uid=``, ``gid=``."""


class Hook(_Document, frozen=True):
    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    timeout: int | None = None


class Hooks(_Document, frozen=True):
    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


class Namespace(_Document, frozen=True):
    type: str
    path: str = ""


class Device(_Document, frozen=True):
    type: str
    path: str
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class DeviceRule(_Document, frozen=True):
    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = ""


class MemoryLimits(_Document, frozen=True):
    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = msgspec.field(default=None, name="kernelTCP")
    swappiness: int | None = None
    disable_oom_killer: bool | None = msgspec.field(default=None, name="disableOOMKiller")
    use_hierarchy: bool | None = None
    check_before_update: bool = False


class CpuLimits(_Document, frozen=True):
    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str = ""
    mems: str = ""
    idle: int | None = None


class PidsLimit(_Document, frozen=True):
    limit: int


class WeightDevice(_Document, frozen=True):
    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


class ThrottleDevice(_Document, frozen=True):
    major: int
    minor: int
    rate: int


class BlockIOLimits(_Document, frozen=True):
    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = msgspec.field(default=(), name="throttleReadIOPSDevice")
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = msgspec.field(default=(), name="throttleWriteIOPSDevice")


class HugepageLimit(_Document, frozen=True):
    page_size: str
    limit: int


class NetworkPriority(_Document, frozen=True):
    name: str
    priority: int


class NetworkLimits(_Document, frozen=True):
    class_id: int | None = msgspec.field(default=None, name="classID")
    priorities: tuple[NetworkPriority, ...] = ()


class RdmaLimit(_Document, frozen=True):
    hca_handles: int | None = None
    hca_objects: int | None = None


class Resources(_Document, frozen=True):
    devices: tuple[DeviceRule, ...] = ()
    memory: MemoryLimits | None = None
    cpu: CpuLimits | None = None
    pids: PidsLimit | None = None
    block_io: BlockIOLimits | None = msgspec.field(default=None, name="blockIO")
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: NetworkLimits | None = None
    rdma: dict[str, RdmaLimit] | None = None
    unified: dict[str, str] | None = None


class SeccompArg(_Document, frozen=True):
    index: int
    value: int
    op: str
    value_two: int = 0


class SeccompRule(_Document, frozen=True):
    names: tuple[str, ...]
    action: str
    errno_ret: int | None = None
    args: tuple[SeccompArg, ...] = ()


class Seccomp(_Document, frozen=True):
    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    listener_path: str = ""
    listener_metadata: str = ""
    syscalls: tuple[SeccompRule, ...] = ()


class Personality(_Document, frozen=True):
    domain: str
    flags: tuple[str, ...] = ()


class TimeOffset(_Document, frozen=True):
    secs: int = 0
    nanosecs: int = 0


class Linux(_Document, frozen=True):
    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IDMapping, ...] = ()
    gid_mappings: tuple[IDMapping, ...] = ()
    devices: tuple[Device, ...] = ()
    cgroups_path: str = ""
    resources: Resources | None = None
    rootfs_propagation: str = ""
    seccomp: Seccomp | None = None
    sysctl: dict[str, str] | None = None
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str = ""
    personality: Personality | None = None
    time_offsets: dict[str, TimeOffset] | None = None


class RuntimeSpec(_Document, frozen=True):
    oci_version: str = "1.2.0"
    process: Process | None = None
    root: Root | None = None
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[SpecMount, ...] = ()
    hooks: Hooks | None = None
    annotations: dict[str, str] | None = None
    linux: Linux | None = None
