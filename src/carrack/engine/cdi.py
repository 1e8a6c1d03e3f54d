"""Devices by the Container Device Interface: a vendor's description of what a container needs for one (CDI specification 0.8).

A description is a JSON or YAML file in one of the directories of `--cdi-spec-dir`; the later directory wins over the earlier. A
name is ``vendor/class=device``. What is injected goes into the runtime-spec document: nodes with their cgroup rules, mounts,
environment, groups, hooks. Blocking: the files are read at each start, so that a new one counts at once.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from carrack.engine.config import DeviceRequest
from carrack.errors import InvalidParameter, SystemFailure
from carrack.oci.runtime_spec import Device, DeviceRule, Hook, Hooks, Linux, Process, Resources, RuntimeSpec, SpecMount

DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
_GPU_KINDS = ("nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu")
_HOOKS = {
    "prestart": "prestart",
    "createRuntime": "create_runtime",
    "createContainer": "create_container",
    "startContainer": "start_container",
    "poststart": "poststart",
    "poststop": "poststop",
}
"""By their names in CDI."""


class _Document(msgspec.Struct, rename="camel", frozen=True):
    pass


class _Node(_Document, frozen=True):
    path: str
    host_path: str = ""
    type: str = ""
    major: int | None = None
    minor: int | None = None
    file_mode: int | None = None
    permissions: str = ""
    uid: int | None = None
    gid: int | None = None


class _Mount(_Document, frozen=True):
    host_path: str
    container_path: str
    options: list[str] | None = None
    type: str = ""


class _Hook(_Document, frozen=True):
    hook_name: str
    path: str
    args: list[str] | None = None
    env: list[str] | None = None
    timeout: int | None = None


class _Edits(_Document, frozen=True):
    env: list[str] | None = None
    device_nodes: list[_Node] | None = None
    mounts: list[_Mount] | None = None
    hooks: list[_Hook] | None = None
    additional_gids: list[int] | None = msgspec.field(default=None, name="additionalGids")
    intel_rdt: msgspec.Raw | None = None
    net_devices: msgspec.Raw | None = None


class _Device(_Document, frozen=True):
    name: str
    container_edits: _Edits = _Edits()


class _Specification(_Document, frozen=True):
    cdi_version: str
    kind: str
    devices: list[_Device]
    container_edits: _Edits = _Edits()


class Devices:
    """What the directories describe now."""

    def __init__(self, directories: Sequence[str]) -> None:
        """A file that cannot be read or understood counts as not there; `problems` says why."""
        self.problems: list[str] = []
        self._found: dict[str, tuple[_Specification, _Device]] = {}
        for directory in directories:
            for path in _files(directory):
                try:
                    described = _read(path)
                except (OSError, msgspec.MsgspecError, ValueError) as error:
                    self.problems.append(f"{path}: {error}")
                    continue
                for device in described.devices:
                    self._found[f"{described.kind}={device.name}"] = (described, device)

    @property
    def names(self) -> list[str]:
        return sorted(self._found)

    def of_kind(self, kind: str) -> list[str]:
        """The devices of one kind, the one called `all` alone where there is one."""
        names = [name for name in self.names if name.startswith(f"{kind}=")]
        return [f"{kind}=all"] if f"{kind}=all" in names else names

    def inject(self, spec: RuntimeSpec, names: Iterable[str]) -> RuntimeSpec:
        """The document with these devices in it. Raises InvalidParameter for one that nobody describes."""
        wanted = list(dict.fromkeys(names))
        missing = [name for name in wanted if name not in self._found]
        if missing:
            told = "".join(f" ({problem})" for problem in self.problems)
            raise InvalidParameter(f"CDI device injection failed: unresolvable CDI devices {', '.join(missing)}{told}")
        general: list[_Edits] = []
        for name in wanted:
            described, device = self._found[name]
            if described.container_edits not in general:
                general.append(described.container_edits)
                spec = _edited(spec, described.container_edits)
            spec = _edited(spec, device.container_edits)
        return spec


def wanted(requests: Sequence[DeviceRequest], devices: Devices) -> list[str]:
    """The CDI names that device requests mean: given by name, or the GPUs that `--gpus` counts. Raises InvalidParameter."""
    found: list[str] = []
    for request in requests:
        capabilities = request.capabilities or []
        if request.driver == "cdi":
            if request.count:
                raise InvalidParameter("unexpected count in CDI device request")
            if request.options:
                raise InvalidParameter("unexpected options in CDI device request")
            found += request.device_ids or []
            continue
        if request.count and request.device_ids:
            raise InvalidParameter("cannot set both Count and DeviceIDs on device request")
        kind = next((kind for kind in _kinds(request) if devices.of_kind(kind)), "")
        if not kind:
            shown = " ".join(f"[{' '.join(each)}]" for each in capabilities)
            raise InvalidParameter(f'could not select device driver "{request.driver}" with capabilities: [{shown}]')
        if request.device_ids:
            found += [name if "=" in name else f"{kind}={name}" for name in request.device_ids]
        elif request.count < 0:
            found += devices.of_kind(kind)
        else:
            single = [name for name in devices.names if name.startswith(f"{kind}=") and not name.endswith("=all")]
            if len(single) < request.count:
                raise InvalidParameter(f"{request.count} devices of {kind} asked for, and there are {len(single)}")
            found += single[: request.count]
    return found


def _kinds(request: DeviceRequest) -> tuple[str, ...]:
    if not any("gpu" in each for each in request.capabilities or []):
        return ()
    return tuple(kind for kind in _GPU_KINDS if request.driver.removesuffix(".cdi") in ("", kind.partition(".")[0]))


def _files(directory: str) -> list[Path]:
    try:
        return sorted(path for path in Path(directory).iterdir() if path.suffix in (".json", ".yaml", ".yml"))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _read(path: Path) -> _Specification:
    content = path.read_bytes()
    if path.suffix == ".json":
        return msgspec.json.decode(content, type=_Specification)
    import yaml

    try:
        return msgspec.convert(yaml.safe_load(content), _Specification)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _edited(spec: RuntimeSpec, edits: _Edits) -> RuntimeSpec:
    process, linux = spec.process or Process(), spec.linux or Linux()
    for what, asked in (("intelRdt", edits.intel_rdt), ("netDevices", edits.net_devices)):
        if asked is not None:
            raise InvalidParameter(f"CDI device injection failed: {what} is not supported")
    if edits.env:
        process = msgspec.structs.replace(process, env=(*process.env, *edits.env))
    if edits.additional_gids:
        gids = (*process.user.additional_gids, *edits.additional_gids)
        process = msgspec.structs.replace(process, user=msgspec.structs.replace(process.user, additional_gids=gids))
    for node in edits.device_nodes or ():
        device, rule = _node(node)
        resources = linux.resources or Resources()
        resources = msgspec.structs.replace(resources, devices=(*resources.devices, rule))
        kept = tuple(each for each in linux.devices if each.path != device.path)
        linux = msgspec.structs.replace(linux, devices=(*kept, device), resources=resources)
    mounts = list(spec.mounts)
    for mount in edits.mounts or ():
        options = tuple(mount.options or ())
        bind = () if {"bind", "rbind"} & set(options) or mount.type not in ("", "bind") else ("rbind",)
        mounts.append(SpecMount(mount.container_path, mount.type or "bind", mount.host_path, (*bind, *options)))
    hooks = spec.hooks or Hooks()
    for hook in edits.hooks or ():
        field = _HOOKS.get(hook.hook_name)
        if field is None:
            raise InvalidParameter(f"CDI device injection failed: hook {hook.hook_name!r} is none that can be run")
        made = Hook(hook.path, tuple(hook.args or ()), tuple(hook.env or ()), hook.timeout)
        hooks = msgspec.structs.replace(hooks, **{field: (*getattr(hooks, field), made)})
    return msgspec.structs.replace(
        spec, process=process, linux=linux, mounts=tuple(mounts), hooks=hooks if hooks != Hooks() else None
    )


def _node(node: _Node) -> tuple[Device, DeviceRule]:
    """A device node as the file has it, and what it leaves out from the host's own."""
    kind, major, minor, mode = node.type, node.major, node.minor, node.file_mode
    host = node.host_path or node.path
    if not kind or major is None or minor is None:
        try:
            status = os.stat(host)
        except OSError as error:
            raise InvalidParameter(f"CDI device injection failed: device node {host}: {error.strerror}") from error
        kind = kind or ("b" if stat.S_ISBLK(status.st_mode) else "c" if stat.S_ISCHR(status.st_mode) else "p")
        major = os.major(status.st_rdev) if major is None else major
        minor = os.minor(status.st_rdev) if minor is None else minor
        mode = stat.S_IMODE(status.st_mode) if mode is None else mode
    if kind not in ("b", "c", "u", "p"):
        raise SystemFailure(f"CDI device injection failed: device node {host} is of type {kind!r}")
    return (
        Device(kind, node.path, major, minor, mode, node.uid, node.gid),
        DeviceRule(True, "c" if kind in ("c", "u") else kind, major, minor, node.permissions or "rwm"),
    )
