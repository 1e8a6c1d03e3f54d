"""The flags of `run` with a syntax of their own: --mount, --network, --gpus."""

from __future__ import annotations

import os

from carrack.cli.values import read_bool, read_bytes, split_csv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OPTION_BLOCKS = {"volume": "VolumeOptions", "image": "ImageOptions", "bind": "BindOptions", "tmpfs": "TmpfsOptions"}


def read_mount(text: str) -> dict[str, Any]:
    """One --mount as the API's Mount. Raises ValueError with Docker's text."""
    mount: dict[str, Any] = {"Type": "volume"}
    if not text:
        raise ValueError("EOF")
    for field in split_csv(text):
        key, equals, value = field.partition("=")
        _set_mount_field(mount, key.lower(), value if equals else None, field)
    if not mount["Type"]:
        raise ValueError("type is required")
    if not mount.get("Target"):
        raise ValueError("target is required")
    for kind, block in _OPTION_BLOCKS.items():
        if block in mount and mount["Type"] != kind:
            raise ValueError(f"cannot mix '{kind}-*' options with mount type '{mount['Type']}'")
    _check_recursion(mount)
    return {key: value for key, value in mount.items() if value not in ("", False)}


def _set_mount_field(mount: dict[str, Any], key: str, value: str | None, field: str) -> None:
    if value is None:
        if key in ("readonly", "ro"):
            mount["ReadOnly"] = True
        elif key == "volume-nocopy":
            _volume(mount)["NoCopy"] = True
        elif key == "bind-nonrecursive":
            mount.setdefault("BindOptions", {})["NonRecursive"] = True
        else:
            raise ValueError(f"invalid field '{field}' must be a key=value pair")
    elif key == "type":
        mount["Type"] = value.lower()
    elif key in ("source", "src"):
        mount["Source"] = os.path.abspath(value) if value.startswith(".") else value
    elif key in ("target", "dst", "destination"):
        mount["Target"] = value
    elif key in ("readonly", "ro"):
        mount["ReadOnly"] = _bool(key, value)
    elif key == "consistency":
        mount["Consistency"] = value.lower()
    elif key.startswith("bind-"):
        _set_bind_field(mount, key, value, field)
    elif key.startswith("volume-"):
        _set_volume_field(mount, key, value, field)
    elif key == "image-subpath":
        mount.setdefault("ImageOptions", {})["Subpath"] = value
    elif key == "tmpfs-size":
        try:
            mount.setdefault("TmpfsOptions", {})["SizeBytes"] = read_bytes(value)
        except ValueError:
            raise ValueError(f"invalid value for {key}: {value}") from None
    elif key == "tmpfs-mode":
        if not value or value.strip("01234567"):
            raise ValueError(f"invalid value for {key}: {value}")
        mount.setdefault("TmpfsOptions", {})["Mode"] = int(value, 8)
    else:
        raise ValueError(f"unexpected key '{key}' in '{field}'")


def _bool(key: str, value: str) -> bool:
    try:
        return read_bool(value)
    except ValueError:
        raise ValueError(f"invalid value for {key}: {value}") from None


def _volume(mount: dict[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = mount.setdefault("VolumeOptions", {"DriverConfig": {}})
    return options


def _set_bind_field(mount: dict[str, Any], key: str, value: str, field: str) -> None:
    options = mount.setdefault("BindOptions", {}) if key != "bind-recursive" or value != "enabled" else {}
    if key == "bind-propagation":
        options["Propagation"] = value.lower()
    elif key == "bind-nonrecursive":
        options["NonRecursive"] = _bool(key, value)
    elif key == "bind-recursive":
        names = {"disabled": "NonRecursive", "writable": "ReadOnlyNonRecursive", "readonly": "ReadOnlyForceRecursive"}
        if value in names:
            options[names[value]] = True
        elif value != "enabled":
            raise ValueError(f'invalid value for {key}: {value} (must be "enabled", "disabled", "writable", or "readonly")')
    else:
        raise ValueError(f"unexpected key '{key}' in '{field}'")


def _set_volume_field(mount: dict[str, Any], key: str, value: str, field: str) -> None:
    name, _, setting = value.partition("=")
    if key == "volume-subpath":
        _volume(mount)["Subpath"] = value
    elif key == "volume-nocopy":
        _volume(mount)["NoCopy"] = _bool(key, value)
    elif key == "volume-label":
        labels = _volume(mount).setdefault("Labels", {})
        if name:
            labels[name] = setting
    elif key == "volume-driver":
        _volume(mount)["DriverConfig"]["Name"] = value
    elif key == "volume-opt":
        options = _volume(mount)["DriverConfig"].setdefault("Options", {})
        if name:
            options[name] = setting
    else:
        raise ValueError(f"unexpected key '{key}' in '{field}'")


def _check_recursion(mount: dict[str, Any]) -> None:
    options = mount.get("BindOptions", {})
    if options.get("ReadOnlyNonRecursive") and not mount.get("ReadOnly"):
        raise ValueError("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction")
    if options.get("ReadOnlyForceRecursive"):
        if not mount.get("ReadOnly"):
            raise ValueError("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction")
        if options.get("Propagation") != "rprivate":
            raise ValueError("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction")


class NetworkChoice:
    """One --network: the network and how to join it."""

    __slots__ = ("aliases", "driver_options", "gateway_priority", "ipv4", "ipv6", "link_local", "links", "mac", "target")

    def __init__(self, target: str = "") -> None:
        self.target = target
        self.aliases: list[str] = []
        self.driver_options: dict[str, str] = {}
        self.links: list[str] = []
        self.ipv4 = ""
        self.ipv6 = ""
        self.link_local: list[str] = []
        self.mac = ""
        self.gateway_priority = 0


def read_network(text: str) -> NetworkChoice:
    """One --network, a name alone or `name=…,alias=…`. Raises ValueError with Docker's text."""
    if not _is_long_syntax(text):
        return NetworkChoice(text)
    choice = NetworkChoice()
    for field in split_csv(text):
        key, equals, value = field.lower().partition("=")
        if not equals or not key:
            raise ValueError(f"invalid field {field}")
        _set_network_field(choice, key.strip(), value.strip())
    if not choice.target:
        raise ValueError("network name/id is not specified")
    return choice


def _is_long_syntax(text: str) -> bool:
    before, equals, after = text.partition("=")
    return (
        bool(equals and before and after)
        and (before[-1].isalnum() or before[-1] == "_")
        and (after[0].isalnum() or after[0] == "_")
    )


def _set_network_field(choice: NetworkChoice, key: str, value: str) -> None:
    if key == "name":
        choice.target = value
    elif key == "alias":
        choice.aliases.append(value)
    elif key == "ip":
        choice.ipv4 = value
    elif key == "ip6":
        choice.ipv6 = value
    elif key == "mac-address":
        choice.mac = value
    elif key == "link-local-ip":
        choice.link_local.append(value)
    elif key == "driver-opt":
        name, equals, setting = value.partition("=")
        if not equals or not name:
            raise ValueError("invalid key value pair format in driver options")
        choice.driver_options[name.strip()] = setting.strip()
    elif key == "gw-priority":
        try:
            choice.gateway_priority = int(value)
        except ValueError:
            raise ValueError(f"invalid gw-priority ({value}): invalid syntax") from None
    else:
        raise ValueError(f"invalid field key {key}")


def read_gpus(text: str) -> dict[str, Any]:
    """One --gpus as the API's DeviceRequest. Raises ValueError with Docker's text."""
    request: dict[str, Any] = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
    seen: set[str] = set()
    for field in split_csv(text):
        key, equals, value = field.partition("=")
        if key in seen:
            raise ValueError(f"gpu request key '{key}' can be specified only once")
        seen.add(key)
        if not equals:
            seen.add("count")
            request["Count"] = _gpu_count(key)
        elif key == "driver":
            request["Driver"] = value
        elif key == "count":
            request["Count"] = _gpu_count(value)
        elif key == "device":
            request["DeviceIDs"] = value.split(",")
        elif key == "capabilities":
            request["Capabilities"] = [[*value.split(","), "gpu"]]
        elif key == "options":
            request["Options"] = {name: setting for name, _, setting in [option.partition("=") for option in split_csv(value)]}
        else:
            raise ValueError(f"unexpected key '{key}' in '{field}'")
    if "count" not in seen and request["DeviceIDs"] is None:
        request["Count"] = 1
    return request


def _gpu_count(text: str) -> int:
    if text == "all":
        return -1
    try:
        return int(text)
    except ValueError:
        raise ValueError(f'invalid count ({text}): value must be either "all" or an integer: invalid syntax') from None
