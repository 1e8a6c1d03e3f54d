"""runtime-spec → the plan of a container: frozen, ordered, without a single system call, so that a test reads it without root.

The order is that of the kernel's needs: namespaces, root, mounts as the spec lists them, devices, console, parameters, masks, and
last the root itself. A value that cannot be carried out is refused here, before anything exists.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from carrack.errors import InvalidParameter
from carrack.kernel import mount, process
from carrack.oci import runtime_spec
from carrack.oci.runtime_spec import Linux, MountTree, RuntimeSpec, SpecMount
from carrack.runtime.cgroups.layout import Layout
from carrack.runtime.device_steps import LinkDevices, MakeDevices, MakeDirectory, OpenConsole
from carrack.runtime.mount_options import MountOptions, parse, propagation
from carrack.runtime.mount_steps import BindCgroups, BindUnified, MountBind, MountFile, MountFileSystem
from carrack.runtime.steps import (
    AttachRoot,
    DetachPropagation,
    EnterCgroup,
    EnterRoot,
    MakeReadonly,
    MaskPaths,
    RaiseLoopback,
    ReadonlyPaths,
    SetDomainname,
    SetHostname,
    Step,
    WriteSysctls,
    sysctl_path,
)

NAMESPACE_FLAGS = {
    "user": process.CLONE_NEWUSER,
    "mount": process.CLONE_NEWNS,
    "uts": process.CLONE_NEWUTS,
    "ipc": process.CLONE_NEWIPC,
    "network": process.CLONE_NEWNET,
    "pid": process.CLONE_NEWPID,
    "cgroup": process.CLONE_NEWCGROUP,
    "time": process.CLONE_NEWTIME,
}

DEFAULT_DEVICES = (
    ("/dev/null", 1, 3),
    ("/dev/random", 1, 8),
    ("/dev/full", 1, 7),
    ("/dev/tty", 5, 0),
    ("/dev/zero", 1, 5),
    ("/dev/urandom", 1, 9),
)

_PLAIN_BIND = MountOptions(bind=True)
_FILE_OPTIONS = (("mode", "400", 8), ("uid", "0", 10), ("gid", "0", 10))

_DEVICE_TYPES = {"b": stat.S_IFBLK, "c": stat.S_IFCHR, "u": stat.S_IFCHR, "p": stat.S_IFIFO}

_DEVICE_LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
)

_IPC_SYSCTLS = frozenset(
    (
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    )
)


class HeldMount(NamedTuple):
    """A mount of the host to be cloned before init is born, in the host's own mount namespace (law 9)."""

    source: str
    options: MountOptions
    tree: MountTree | None = None
    """What is cloned in place of `source`."""


class Join(NamedTuple):
    """A namespace to be entered instead of made."""

    type: str
    path: str


class Plan(NamedTuple):
    """All that is to be done for a container, in order."""

    clone_flags: int
    """The namespaces to be born in, the cgroup namespace excepted: it is unshared once init is in its cgroup."""
    joins: tuple[Join, ...]
    held: tuple[HeldMount, ...]
    steps: tuple[Step, ...]

    def describe(self) -> list[str]:
        """One line for each thing, in order."""
        lines = [f"clone {name}" for name, flag in NAMESPACE_FLAGS.items() if self.clone_flags & flag]
        lines += [f"join {join.type} {join.path}" for join in self.joins]
        return lines + [step.describe() for step in self.steps]


def plan(spec: RuntimeSpec, *, cgroup_path: str, layout: Layout, pivot: bool = True, root_path: str = "/") -> Plan:
    """The plan of `spec`, whose root mount is handed over apart and attached at `root_path`. Raises InvalidParameter."""
    linux = spec.linux or Linux()
    flags, joins = _namespaces(linux)
    if not flags & process.CLONE_NEWNS:
        raise InvalidParameter("a container needs a mount namespace of its own")
    cgroup_namespace = bool(flags & process.CLONE_NEWCGROUP)
    parsed = _parsed(spec)
    user_namespace = bool(flags & process.CLONE_NEWUSER) or any(join.type == "user" for join in joins)
    # whom the cgroups are the host's sees them all, as with runc; but not where its root is nobody on the host
    shown = cgroup_path if user_namespace or layout.version == 1 else ""
    furnishing, held = _mounts(parsed, layout, shown, cgroup_namespace)
    steps = [
        *_identity(spec, flags, joins),
        *_sysctls_first(linux, flags, joins, spec.domainname),
        *_root(linux, root_path),
        *furnishing,
        *_devices(parsed, linux, held if user_namespace else None),
        *_console(spec),
        *_working_directory(spec),
        *_restrictions(spec, parsed, linux),
        _enter(linux, pivot),
    ]
    return Plan(flags & ~process.CLONE_NEWCGROUP, joins, tuple(held), tuple(steps))


def _namespaces(linux: Linux) -> tuple[int, tuple[Join, ...]]:
    flags = 0
    joins: list[Join] = []
    seen: set[str] = set()
    for namespace in linux.namespaces:
        if namespace.type not in NAMESPACE_FLAGS:
            raise InvalidParameter(f"namespace {namespace.type!r} does not exist")
        if namespace.type in seen:
            raise InvalidParameter(f"malformed spec file: duplicated ns {namespace.type!r}")
        seen.add(namespace.type)
        if namespace.path:
            joins.append(Join(namespace.type, namespace.path))
        else:
            flags |= NAMESPACE_FLAGS[namespace.type]
    return flags, tuple(joins)


def _identity(spec: RuntimeSpec, flags: int, joins: tuple[Join, ...]) -> list[Step]:
    steps: list[Step] = []
    has_uts = flags & process.CLONE_NEWUTS or any(join.type == "uts" for join in joins)
    if flags & process.CLONE_NEWNET:
        steps.append(RaiseLoopback())
    if spec.hostname:
        if not has_uts:
            raise InvalidParameter("unable to set hostname without a private UTS namespace")
        steps.append(SetHostname(spec.hostname))
    if spec.domainname:
        if not has_uts:
            raise InvalidParameter("unable to set domainname without a private UTS namespace")
        steps.append(SetDomainname(spec.domainname))
    return steps


def _root(linux: Linux, path: str) -> list[Step]:
    wanted = propagation(linux.rootfs_propagation)[0] if linux.rootfs_propagation else mount.MS_SLAVE
    # a root that is to be shared becomes so at the end; until then nothing may travel to the host
    outward = mount.MS_PRIVATE if wanted == mount.MS_PRIVATE else mount.MS_SLAVE
    return [DetachPropagation(outward), AttachRoot(path)]


# ── mounts ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Parsed(NamedTuple):
    """A mount of the spec, its destination cleaned and its options sorted."""

    wanted: SpecMount
    target: str
    options: MountOptions


def _parsed(spec: RuntimeSpec) -> list[_Parsed]:
    found = []
    for wanted in spec.mounts:
        if not wanted.destination.startswith("/"):
            raise InvalidParameter(f"invalid mount destination {wanted.destination!r}: not an absolute path")
        options = parse(wanted.options, wanted.type) if wanted.content is None else MountOptions()
        if wanted.uid_mappings or wanted.gid_mappings:
            options = options._replace(idmap=_same_maps(wanted, spec.linux))
        found.append(_Parsed(wanted, os.path.normpath(wanted.destination), options))
    return found


def _same_maps(wanted: SpecMount, linux: Linux | None) -> bool:
    """A mount may be shifted into the container's own user namespace, and no other."""
    if linux is None or (wanted.uid_mappings, wanted.gid_mappings) != (linux.uid_mappings, linux.gid_mappings):
        raise InvalidParameter(f"mount at {wanted.destination}: its id mappings must be those of the container's user namespace")
    return True


def _mounts(mounts: list[_Parsed], layout: Layout, shown: str, cgroup_namespace: bool) -> tuple[list[Step], list[HeldMount]]:
    steps: list[Step] = []
    held: list[HeldMount] = []
    in_cgroup = False
    for wanted, target, options in mounts:
        if wanted.type in ("cgroup", "cgroup2") and not options.bind and not in_cgroup:
            # late, so that the parent has time to make it; a namespace of cgroups is rooted where init is
            in_cgroup = True
            steps.append(EnterCgroup(cgroup_namespace))
        if wanted.content is not None:
            steps.append(_file(wanted, target))
        elif options.bind:
            held.append(HeldMount(wanted.source, options, wanted.tree))
            steps.append(MountBind(target, wanted.source, len(held) - 1, options))
        elif wanted.type in ("cgroup", "cgroup2"):
            steps.append(_cgroup(target, options, layout, shown, cgroup_namespace))
        else:
            steps.append(_file_system(wanted, target, options))
    if not in_cgroup:
        steps.append(EnterCgroup(cgroup_namespace))
    return steps, held


def _file(wanted: SpecMount, target: str) -> Step:
    values = dict(option.partition("=")[::2] for option in wanted.options)
    mode, uid, gid = (int(values.get(name, default), base) for name, default, base in _FILE_OPTIONS)
    return MountFile(target, wanted.content or b"", mode, uid, gid)


def _file_system(wanted: SpecMount, target: str, options: MountOptions) -> Step:
    if not wanted.type:
        raise InvalidParameter(f"mount at {target}: no type")
    if target == "/dev" and options.attributes & mount.ATTR_RDONLY:
        # read-only once its nodes are made: see _restrictions
        data = tuple(option for option in options.data if option != "ro")
        options = options._replace(attributes=options.attributes & ~mount.ATTR_RDONLY, data=data)
    plain = wanted.type in ("proc", "sysfs")
    return MountFileSystem(target, wanted.type, wanted.source or wanted.type, options, plain)


def _cgroup(target: str, options: MountOptions, layout: Layout, path: str, namespaced: bool) -> Step:
    if layout.version == 1:
        return BindCgroups(target, layout.hierarchies, path, options, namespaced)
    if namespaced:
        return MountFileSystem(target, "cgroup2", "cgroup", options._replace(data=()))
    return BindUnified(target, layout.unified + path, options)


# ── devices and console ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _owns_dev(mounts: list[_Parsed]) -> bool:
    """Whether /dev is the container's own; one bound from the host keeps what it has."""
    return not any(each.target == "/dev" and each.options.bind for each in mounts)


def _devices(mounts: list[_Parsed], linux: Linux, held: list[HeldMount] | None) -> list[Step]:
    """Nodes to make; in a user namespace, where none can be made, the host's own bound (and `held` grows)."""
    if not _owns_dev(mounts):
        return []
    nodes: dict[str, tuple[str, int, int, int, int, int]] = {}
    for path, major, minor in DEFAULT_DEVICES:
        nodes[path] = (path, stat.S_IFCHR | 0o666, major, minor, 0, 0)
    for device in linux.devices:
        nodes[os.path.normpath(device.path)] = _node(device)
    if held is None:
        ordered = sorted(nodes.values(), key=lambda node: node[0].rpartition("/")[0])
        return [MakeDevices(tuple(ordered)), LinkDevices(_DEVICE_LINKS)]
    steps: list[Step] = []
    for path in nodes:
        held.append(HeldMount(path, _PLAIN_BIND))
        steps.append(MountBind(path, path, len(held) - 1, _PLAIN_BIND))
    return [*steps, LinkDevices(_DEVICE_LINKS)]


def _node(device: runtime_spec.Device) -> tuple[str, int, int, int, int, int]:
    if device.type not in _DEVICE_TYPES:
        raise InvalidParameter(f"device {device.path}: type {device.type!r} is not one of b, c, u, p")
    if not device.path.startswith("/"):
        raise InvalidParameter(f"device {device.path}: not an absolute path")
    permissions = 0o666 if device.file_mode is None else device.file_mode & 0o7777
    path = os.path.normpath(device.path)
    return path, _DEVICE_TYPES[device.type] | permissions, device.major, device.minor, device.uid or 0, device.gid or 0


def _console(spec: RuntimeSpec) -> list[Step]:
    if spec.process is None or not spec.process.terminal:
        return []
    size = spec.process.console_size or runtime_spec.ConsoleSize()
    return [OpenConsole(size.height, size.width)]


def _working_directory(spec: RuntimeSpec) -> list[Step]:
    """A directory that the image lacks is made, and before the root may become read-only."""
    cwd = os.path.normpath(spec.process.cwd) if spec.process else "/"
    return [] if cwd in ("/", "//", "", ".") else [MakeDirectory(cwd)]


# ── restrictions ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _sysctls_first(linux: Linux, flags: int, joins: tuple[Join, ...], domainname: str) -> list[Step]:
    values = tuple((linux.sysctl or {}).items())
    if domainname and (linux.sysctl or {}).get("kernel.domainname", domainname) != domainname:
        raise InvalidParameter("the sysctl `kernel.domainname` conflicts with OCI field `domainname`")
    joined = {join.type for join in joins}
    for name, _ in values:
        _check_sysctl(name.replace("/", "."), flags, joined)
    return [WriteSysctls(values)] if values else []


def _check_sysctl(name: str, flags: int, joined: set[str]) -> None:
    if {"", ".", ".."} & set(sysctl_path(name).split("/")):
        raise InvalidParameter(f'sysctl "{name}" is not a name')  # it would lead out of the namespace's own part (CVE-2022-0811)
    if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
        needed = "ipc"
    elif name.startswith("net."):
        needed = "network"
    elif name == "kernel.domainname":
        needed = "uts"
    elif name == "kernel.hostname":
        raise InvalidParameter(f'sysctl "{name}" is not allowed as it conflicts with the OCI "hostname" field')
    else:
        raise InvalidParameter(f'sysctl "{name}" is not in a separate kernel namespace')
    if not flags & NAMESPACE_FLAGS[needed] and needed not in joined:
        raise InvalidParameter(f'sysctl "{name}" is not allowed in the hosts {needed} namespace')


def _restrictions(spec: RuntimeSpec, mounts: list[_Parsed], linux: Linux) -> list[Step]:
    steps: list[Step] = []
    for each in mounts:
        if each.target == "/dev" and not each.options.bind and each.options.attributes & mount.ATTR_RDONLY:
            steps.append(MakeReadonly("/dev"))
    if linux.readonly_paths:
        steps.append(ReadonlyPaths(linux.readonly_paths))
    if linux.masked_paths:
        steps.append(MaskPaths(linux.masked_paths))
    if spec.root and spec.root.readonly:
        steps.append(MakeReadonly("/"))
    return steps


def _enter(linux: Linux, pivot: bool) -> EnterRoot:
    if not linux.rootfs_propagation:
        return EnterRoot(pivot)
    wanted, recursive = propagation(linux.rootfs_propagation)
    if wanted in (mount.MS_SHARED, mount.MS_UNBINDABLE):
        return EnterRoot(pivot, wanted, recursive)
    return EnterRoot(pivot)
