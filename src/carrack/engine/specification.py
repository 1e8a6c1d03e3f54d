"""From a container's record to the runtime-spec document that asks the runtime for it. Pure but for reading device nodes.

What Docker calls an option becomes here what the runtime-spec calls a field; nothing is decided twice. The image's words (user
names, paths inside) go on as text: the runtime looks them up inside the container's own root.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from carrack.engine.config import HostConfig, Resources, ThrottleDevice
from carrack.engine.config import WeightDevice as WantedWeight
from carrack.engine.container import Container, MountPoint
from carrack.engine.remapping import Remap
from carrack.errors import Conflict, InvalidParameter, SystemFailure
from carrack.oci.runtime_spec import (
    BlockIOLimits,
    Capabilities,
    ConsoleSize,
    CpuLimits,
    Device,
    DeviceRule,
    Linux,
    MemoryLimits,
    MountTree,
    Namespace,
    PidsLimit,
    Process,
    Rlimit,
    Root,
    RuntimeSpec,
    SpecMount,
    User,
)
from carrack.oci.runtime_spec import Resources as Limits
from carrack.oci.runtime_spec import ThrottleDevice as Throttle
from carrack.oci.runtime_spec import WeightDevice as Weight
from carrack.runtime import capabilities, defaults
from carrack.runtime.failure import words
from carrack.runtime.mount_options import SUBPATH

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PERIOD_MICROSECONDS = 100_000


_NEVER_SHARED = ("/dev/pts", "/dev/shm", "/dev/fd", "/dev/mqueue", "/dev/console", "/dev/.lxc", "/dev/.udev")
"""What `--privileged` leaves out of the host's /dev: a container has its own."""


@dataclass(frozen=True, slots=True)
class Places:
    """What a specification refers to on this host."""

    cgroup: str
    hostname_file: str = ""
    hosts_file: str = ""
    resolv_conf_file: str = ""
    init_file: str = ""
    """The program behind `--init`."""
    namespace_of: Callable[[str], int] = lambda _: 0
    """The init pid of another container, by reference; raises when it does not run."""
    image_trees: Mapping[str, MountTree] = field(default_factory=dict)
    """What `--mount type=image` mounts, by destination."""
    remap: Remap | None = None
    """The user namespace to be born in."""


_BOOLEANS = {**dict.fromkeys("1 t T true True TRUE".split(), True), **dict.fromkeys("0 f F false False FALSE".split(), False)}
"""Go's spellings of the two."""


@dataclass(frozen=True, slots=True)
class Security:
    """`--security-opt`, read."""

    no_new_privileges: bool = False
    seccomp: str = ""
    """Empty: the default profile; ``unconfined``; else the text of a profile."""
    apparmor: str = ""
    unmasked: bool = False
    writable_cgroups: bool = False
    """The container may divide its own cgroup further, as systemd inside does."""


def security(options: Sequence[str] | None, default_no_new_privileges: bool = False) -> Security:
    """Read `--security-opt` values, in either spelling (``key=value``, ``key:value``). Raises InvalidParameter."""
    no_new_privileges, seccomp, apparmor, unmasked = default_no_new_privileges, "", "", False
    writable_cgroups = False
    for option in options or ():
        if option in ("no-new-privileges", "writable-cgroups", "disable"):
            no_new_privileges |= option == "no-new-privileges"
            writable_cgroups |= option == "writable-cgroups"
            continue
        key, separator, value = option.partition("=")
        if not separator:
            key, separator, value = option.partition(":")
        if not separator:
            raise InvalidParameter(f'invalid --security-opt 1: "{option}"')
        if key == "no-new-privileges" and value in _BOOLEANS:
            no_new_privileges = _BOOLEANS[value]
        elif key == "writable-cgroups" and value in _BOOLEANS:
            writable_cgroups = _BOOLEANS[value]
        elif key == "seccomp":
            seccomp = "" if value == "builtin" else value
        elif key == "apparmor":
            apparmor = value
        elif key == "systempaths" and value == "unconfined":
            unmasked = True
        elif key != "label":  # SELinux labels mean nothing on a host without SELinux, as with dockerd
            raise InvalidParameter(f'invalid --security-opt 2: "{option}"')
    return Security(no_new_privileges, seccomp, apparmor, unmasked, writable_cgroups)


def build(container: Container, places: Places) -> RuntimeSpec:
    """The whole document. Raises InvalidParameter, or Conflict when a container whose namespaces it joins does not run."""
    config, host = container.config, container.host_config
    options = security(host.security_opt)
    wanted = capability_names(host)
    process = Process(
        args=(*((places.init_file and "/sbin/docker-init", "--") if host.init else ()), container.path, *container.arguments),
        cwd=config.working_dir or "/",
        env=tuple(environment(container)),
        terminal=config.tty,
        console_size=ConsoleSize(*host.console_size) if config.tty and any(host.console_size) else None,
        user=User(username=config.user or "0", umask=host.umask, additional_groups=tuple(host.group_add or ())),
        capabilities=Capabilities(bounding=wanted, effective=wanted, permitted=wanted),
        rlimits=rlimits(host),
        no_new_privileges=options.no_new_privileges,
        apparmor_profile="" if container.apparmor_profile == "unconfined" else container.apparmor_profile,
        oom_score_adj=host.oom_score_adj,  # 0 too: carrackd's own, which systemd lowers, is not for containers
    )
    unmasked = host.privileged or options.unmasked
    linux = Linux(
        namespaces=tuple(_namespaces(host, places)),
        uid_mappings=places.remap.uids if places.remap else (),
        gid_mappings=places.remap.gids if places.remap else (),
        devices=tuple(_devices(host)),
        cgroups_path=places.cgroup,
        resources=limits(host, device_rules=tuple(_device_rules(host))),
        rootfs_propagation=_root_propagation(container.mounts),
        sysctl=_sysctls(host, remapped=places.remap is not None) or None,
        masked_paths=()
        if unmasked
        else tuple(host.masked_paths)
        if host.masked_paths is not None
        else defaults.masked_paths(os.cpu_count() or 0),
        readonly_paths=()
        if unmasked
        else tuple(host.readonly_paths)
        if host.readonly_paths is not None
        else defaults.READONLY_PATHS,
    )
    return RuntimeSpec(
        process=process,
        root=Root(path="rootfs", readonly=host.readonly_rootfs),
        hostname=config.hostname if host.uts_mode != "host" else "",
        domainname=config.domainname if host.uts_mode != "host" else "",
        mounts=tuple(_mounts(container, places, options)),
        linux=linux,
        annotations=host.annotations or None,
    )


def capability_names(host: HostConfig) -> tuple[str, ...]:
    """The capabilities the container's processes get, after `--cap-add` and `--cap-drop`. Raises InvalidParameter."""
    if host.privileged:
        return capabilities.available()
    for what, names in (("CapAdd", host.cap_add), ("CapDrop", host.cap_drop)):
        for name in names or ():
            try:
                capabilities.normalise(name)
            except InvalidParameter as error:
                raise InvalidParameter(f"invalid {what}: {error.message}") from None
    return capabilities.chosen(host.cap_add or (), host.cap_drop or ())


def environment(container: Container) -> list[str]:
    """PATH, HOSTNAME and TERM first, then the container's own, which win; a variable without `=` removes."""
    config = container.config
    values: dict[str, str | None] = {"PATH": DEFAULT_PATH, "HOSTNAME": config.hostname}
    if config.tty:
        values["TERM"] = "xterm"
    for variable in config.env or []:
        name, equals, value = variable.partition("=")
        values[name] = value if equals else None
    own = [f"{name}={value}" for name, value in values.items() if value is not None]
    return [*own, *(each for each in container.link_environment if each.partition("=")[0] not in values)]


def limits(resources: Resources, device_rules: tuple[DeviceRule, ...] = ()) -> Limits:
    """The cgroup part alone, as `update` needs it too."""
    cpu = CpuLimits(
        shares=resources.cpu_shares or None,
        quota=resources.nano_cpus * PERIOD_MICROSECONDS // 1_000_000_000 if resources.nano_cpus else resources.cpu_quota or None,
        period=PERIOD_MICROSECONDS if resources.nano_cpus else resources.cpu_period or None,
        cpus=resources.cpuset_cpus,
        mems=resources.cpuset_mems,
        realtime_period=resources.cpu_realtime_period or None,
        realtime_runtime=resources.cpu_realtime_runtime or None,
    )
    swappiness = resources.memory_swappiness
    memory = MemoryLimits(
        limit=resources.memory or None,
        reservation=resources.memory_reservation or None,
        swap=resources.memory_swap or None,
        swappiness=swappiness if swappiness is not None and swappiness != -1 else None,
        disable_oom_killer=resources.oom_kill_disable or None,
    )
    pids = resources.pids_limit
    return Limits(
        devices=device_rules,
        cpu=cpu if cpu != CpuLimits() else None,
        memory=memory if memory != MemoryLimits() else None,
        pids=PidsLimit(max(pids, -1)) if pids else None,
        block_io=_block_io(resources),
    )


def _block_io(resources: Resources) -> BlockIOLimits | None:
    block = BlockIOLimits(
        weight=resources.blkio_weight or None,
        weight_device=tuple(_weights(resources.blkio_weight_device)),
        throttle_read_bps_device=tuple(_throttles(resources.blkio_device_read_bps)),
        throttle_write_bps_device=tuple(_throttles(resources.blkio_device_write_bps)),
        throttle_read_iops_device=tuple(_throttles(resources.blkio_device_read_iops)),
        throttle_write_iops_device=tuple(_throttles(resources.blkio_device_write_iops)),
    )
    return block if block != BlockIOLimits() else None


def _weights(devices: list[WantedWeight] | None) -> list[Weight]:
    return [Weight(*_numbers(device.path), weight=device.weight) for device in devices or []]


def _throttles(devices: list[ThrottleDevice] | None) -> list[Throttle]:
    return [Throttle(*_numbers(device.path), rate=device.rate) for device in devices or []]


def _numbers(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise SystemFailure(f"stat {path}: {words(error)}") from error
    return os.major(status.st_rdev), os.minor(status.st_rdev)


def _namespaces(host: HostConfig, places: Places) -> list[Namespace]:
    found = [Namespace("mount")]
    shared: Mapping[str, tuple[str, str]] = {
        "pid": (host.pid_mode, "pid"),
        "ipc": (host.ipc_mode, "ipc"),
        "uts": (host.uts_mode, "uts"),
        "network": (host.network_mode, "net"),
        "cgroup": (host.cgroupns_mode, "cgroup"),
    }
    for kind, (mode, file_name) in shared.items():
        if mode == "host":
            continue
        if mode.startswith("container:"):
            pid = places.namespace_of(mode.partition(":")[2])
            if pid <= 0:
                raise Conflict(f"cannot join {kind} of a non running container: {mode.partition(':')[2]}")
            found.append(Namespace(kind, f"/proc/{pid}/ns/{file_name}"))
        else:
            found.append(Namespace(kind))
    if places.remap is not None:
        joined = next((path for path in (space.path for space in found) if path), "")
        # what belongs to another container's user namespace can only be entered from inside that
        found.append(Namespace("user", posixpath.join(posixpath.dirname(joined), "user") if joined else ""))
    return found


def _mounts(container: Container, places: Places, options: Security) -> list[SpecMount]:
    host = container.host_config
    taken = {point.destination for point in container.mounts}
    shm_bytes = host.shm_size or defaults.DEFAULT_SHM_BYTES
    usual = defaults.mounts(shm_bytes=shm_bytes, privileged=host.privileged, writable_cgroups=options.writable_cgroups)
    own_dev = "/dev" not in taken
    mounts = [each for each in usual if each.destination not in taken and (own_dev or not each.destination.startswith("/dev/"))]
    if host.ipc_mode in ("host", "none") or host.ipc_mode.startswith("container:"):
        mounts = [mount for mount in mounts if mount.destination != "/dev/shm"]
    if host.ipc_mode == "host" and "/dev/shm" not in taken:
        mounts.append(SpecMount("/dev/shm", "bind", "/dev/shm", ("rbind", "rprivate")))
    if host.ipc_mode.startswith("container:") and "/dev/shm" not in taken:
        pid = places.namespace_of(host.ipc_mode.partition(":")[2])
        mounts.append(SpecMount("/dev/shm", "bind", f"/proc/{pid}/root/dev/shm", ("bind", "rprivate")))
    for point in container.mounts:
        wanted = _mount(point)
        if point.type == "image":
            wanted = SpecMount(point.destination, "bind", "", ("bind", "ro"), tree=places.image_trees[point.destination])
        mounts.append(_shifted(wanted, places.remap if point.type in ("volume", "image") else None))
    for destination, source in (
        ("/etc/resolv.conf", places.resolv_conf_file),
        ("/etc/hostname", places.hostname_file),
        ("/etc/hosts", places.hosts_file),
        ("/sbin/docker-init", places.init_file if host.init else ""),
    ):
        if source and destination not in taken:
            access = ("ro",) if host.readonly_rootfs or destination == "/sbin/docker-init" else ()
            file = SpecMount(destination, "bind", source, ("rbind", "rprivate", *access))
            mounts.append(file if destination == "/sbin/docker-init" else _shifted(file, places.remap))
    # a mount on /etc hides neither /etc/hosts nor what was asked for below it: whatever is above comes first
    return sorted(mounts, key=lambda each: each.destination.count("/"))


def _shifted(wanted: SpecMount, remap: Remap | None) -> SpecMount:
    """With owners as the container's user namespace has them; binds of the host's own files stay as they are, as with dockerd."""
    return msgspec.structs.replace(wanted, uid_mappings=remap.uids, gid_mappings=remap.gids) if remap is not None else wanted


def _mount(point: MountPoint) -> SpecMount:
    if point.type == "tmpfs":
        return SpecMount(point.destination, "tmpfs", "tmpfs", _tmpfs_options(point.options))
    access: tuple[str, ...] = ()
    if not point.writable:
        non_recursive = "ro-non-recursive" in point.options or "bind" in point.options
        access = ("ro",) if non_recursive or "rro" not in point.options else ("rro",)
        if point.type == "bind" and not non_recursive:
            access = ("rro",)
    bind = "bind" if "bind" in point.options else "rbind"
    below = tuple(f"{SUBPATH}{option.removeprefix('subpath=')}" for option in point.options if option.startswith("subpath="))
    return SpecMount(point.destination, "bind", point.source, (bind, point.propagation or "rprivate", *access, *below))


def _tmpfs_options(words: tuple[str, ...]) -> tuple[str, ...]:
    """Docker's defaults (noexec, nosuid, nodev) unless their opposite was asked."""
    defaults_kept = tuple(word for word in ("noexec", "nosuid", "nodev") if word[2:] not in words)
    return (*defaults_kept, *(word for word in words if word not in defaults_kept), "rprivate")


def _devices(host: HostConfig) -> list[Device]:
    found: list[Device] = _host_devices("/dev", "/dev") if host.privileged else []
    for mapping in host.devices or []:
        found.extend(_host_devices(mapping.path_on_host, mapping.path_in_container or mapping.path_on_host))
    return found


def _device_rules(host: HostConfig) -> list[DeviceRule]:
    rules = list(defaults.PRIVILEGED_DEVICE_RULES if host.privileged else defaults.DEVICE_RULES)
    for mapping in host.devices or []:
        for device in _host_devices(mapping.path_on_host, mapping.path_in_container or mapping.path_on_host):
            rules.append(DeviceRule(True, device.type, device.major, device.minor, mapping.cgroup_permissions or "rwm"))
    rules.extend(parse_rule(rule) for rule in host.device_cgroup_rules or [])
    return rules


def _host_devices(source: str, target: str) -> list[Device]:
    """The device at a host path; for a directory, each device below it."""
    try:
        status = os.stat(source)
    except OSError as error:
        raise InvalidParameter(
            f'error gathering device information while adding custom device "{source}": {words(error)}'
        ) from error
    if stat.S_ISDIR(status.st_mode):
        found: list[Device] = []
        for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
            if entry.is_symlink() or entry.path in _NEVER_SHARED:
                continue
            mode = entry.stat().st_mode
            if not stat.S_ISDIR(mode) and not stat.S_ISBLK(mode) and not stat.S_ISCHR(mode):
                continue
            found.extend(_host_devices(entry.path, posixpath.join(target, entry.name)))
        return found
    kind = "b" if stat.S_ISBLK(status.st_mode) else "c" if stat.S_ISCHR(status.st_mode) else ""
    if not kind:
        raise InvalidParameter(f'error gathering device information while adding custom device "{source}": not a device node')
    return [
        Device(
            kind,
            target,
            os.major(status.st_rdev),
            os.minor(status.st_rdev),
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
        )
    ]


def parse_rule(text: str) -> DeviceRule:
    """A `--device-cgroup-rule`: ``c 1:3 rwm``, with ``*`` for any number. Raises InvalidParameter."""
    words = text.split()
    try:
        kind, numbers, access = words
        major, minor = numbers.split(":")
        if kind not in ("a", "b", "c") or not access or set(access) - set("rwm"):
            raise ValueError
        return DeviceRule(True, kind, _number(major), _number(minor), access)
    except ValueError:
        raise InvalidParameter(f"invalid device cgroup rule format: '{text}'") from None


def _number(text: str) -> int | None:
    return None if text == "*" else int(text)


def _sysctls(host: HostConfig, *, remapped: bool) -> dict[str, str]:
    """Docker's own (ping and low ports without privileges, in a network of the container's own), then what was asked."""
    values: dict[str, str] = {}
    if host.network_mode != "host" and not host.network_mode.startswith("container:"):
        values.update(defaults.NETWORK_SYSCTLS)
        if remapped:
            del values["net.ipv4.ping_group_range"]  # it counts in the host's numbers, of which a user namespace has few
    return values | (host.sysctls or {})


def _root_propagation(points: Sequence[MountPoint]) -> str:
    words = {point.propagation for point in points}
    if words & {"shared", "rshared"}:
        return "shared"
    if words & {"slave", "rslave"}:
        return "rslave"
    return ""


def rlimits(host: HostConfig) -> tuple[Rlimit, ...]:
    """Of every process in the container, those that are executed later too."""
    return tuple(Rlimit(f"RLIMIT_{u.name.upper()}", _unsigned(u.hard), _unsigned(u.soft)) for u in host.ulimits or [])


def _unsigned(value: int) -> int:
    """-1 stands for no limit."""
    return value if value >= 0 else 2**64 - 1
