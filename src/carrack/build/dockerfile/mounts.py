"""`RUN --mount=…` and `RUN --device=…`: their keys, which types take which, what follows when a key is absent.

A mount is read twice: when the file is parsed, to refuse what is wrong whatever the variables hold, and when RUN is reached, with
variables expanded. Source: Dockerfile reference, "RUN --mount".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from carrack.build.dockerfile.failure import Fault, suggestion
from carrack.build.dockerfile.instruction import Device, Mount
from carrack.build.dockerfile.quantity import fields, number, size, truth

_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING = ("shared", "private", "locked")
_KEYS = (
    "type", "from", "source", "target", "readonly", "id", "sharing", "required", "size", "mode", "uid", "gid",
    "src", "dst", "destination", "ro", "rw", "readwrite", "env",
)  # fmt: skip
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}


def check_mount(text: str) -> str:
    """Refuse now what no variable can make right: an unknown key, and a variable in `from`. Returns what `from` names."""
    stage = ""
    for written in fields("mounts", text):
        name, equals, value = written.partition("=")
        _known(name.lower(), written, bool(equals))
        if name.lower() == "from" and equals:
            if "$" in value[:-1]:
                raise Fault("'from' doesn't support variable expansion, define alias stage instead", written)
            stage = value
        if name.lower() == "type" and value.isalnum():
            _one_of("mount type", value, _TYPES)
    return stage


def read_mount(text: str, expand: Callable[[str], str]) -> Mount:
    """The mount a flag means once its values are expanded. Raises Fault."""
    mount = Mount()
    said_readonly = False
    for written in fields("mounts", text):
        name, equals, value = written.partition("=")
        key = name.lower()
        _known(key, written, bool(equals))
        key = _ALIASES.get(key, key)
        said_readonly = said_readonly or key in ("readonly", "readwrite")
        mount = _with(mount, key, expand(value) if equals else "true")
    if not said_readonly:
        mount = replace(mount, readonly=mount.type not in ("cache", "tmpfs"))
    _check(mount)
    return mount


def read_device(text: str) -> Device:
    """`name[,required]`, the name with or without `name=`. Raises Fault."""
    device = Device()
    for written in fields("devices", text):
        name, equals, value = written.partition("=")
        key = name.lower()
        if key == "required":
            device = replace(device, required=truth(key, value) if equals else True)
        elif key == "name" and equals:
            if device.name:
                raise Fault(f"device name already set to {device.name}", written)
            device = replace(device, name=value)
        elif not device.name:
            device = replace(device, name=written)
        elif not equals:
            raise Fault(f"invalid field '{written}' must be a key=value pair", written)
        else:
            raise Fault(f"unexpected key '{key}' in '{written}'{suggestion(key, ('name', 'required'))}", written)
    return device


def _known(key: str, written: str, has_value: bool) -> None:
    if key not in _KEYS:
        if not has_value:
            raise Fault(f"invalid field '{written}' must be a key=value pair", written)
        raise Fault(f"unexpected key '{key}' in '{written}'{suggestion(key, _KEYS)}", written)
    if not has_value and _ALIASES.get(key, key) not in ("readonly", "readwrite", "required"):
        raise Fault(f"invalid field '{written}' must be a key=value pair", written)


def _one_of(what: str, value: str, options: tuple[str, ...]) -> str:
    if value.lower() not in options:
        raise Fault(f'unsupported {what} "{value}"{suggestion(value, options)}', value)
    return value.lower()


def _with(mount: Mount, key: str, value: str) -> Mount:
    match key:
        case "type":
            return replace(mount, type=_one_of("mount type", value, _TYPES))
        case "from":
            return replace(mount, source_stage=value)
        case "source":
            return replace(mount, source=value)
        case "target":
            return replace(mount, target=value)
        case "readonly":
            return replace(mount, readonly=truth(key, value))
        case "readwrite":
            return replace(mount, readonly=not truth(key, value))
        case "required":
            _only(key, mount, ("secret", "ssh"))
            return replace(mount, required=truth(key, value))
        case "size":
            _only(key, mount, ("tmpfs",))
            return replace(mount, size=size(key, value))
        case "id":
            return replace(mount, id=value)
        case "sharing":
            return replace(mount, sharing=_one_of("sharing value", value, _SHARING))
        case "mode":
            return replace(mount, mode=number(key, value, 8))
        case "uid":
            return replace(mount, uid=number(key, value))
        case "gid":
            return replace(mount, gid=number(key, value))
        case _:
            return replace(mount, env=value)


def _only(key: str, mount: Mount, types: tuple[str, ...]) -> None:
    if mount.type not in types:
        raise Fault(f"unexpected key '{key}' for mount type '{mount.type}'", key)


def _check(mount: Mount) -> None:
    for key, value in (("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)):
        if value is not None and mount.type in ("bind", "tmpfs"):
            raise Fault(f'{key} not allowed for "{mount.type}" type mounts', key)
    if mount.type == "secret":
        if mount.source_stage:
            raise Fault("secret mount should not have a from", "from")
        if mount.sharing:
            raise Fault("secret mount should not define sharing", "sharing")
        if not (mount.source or mount.target or mount.id):
            raise Fault("invalid secret mount. one of source, target required")
        if mount.source and mount.id:
            raise Fault("both source and id can't be set", "id")
    if mount.sharing and mount.type != "cache":
        raise Fault(f"invalid cache sharing set for {mount.type} mount", "sharing")
