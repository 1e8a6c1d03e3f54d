"""The body of POST /containers/create, read and brought to today's meaning: what older API versions meant by it, or left out.

The rules are those of Docker's router, one paragraph per version. What the values themselves may be is the engine's to judge.
"""

from __future__ import annotations

import json

import msgspec

from carrack.api.json import decode
from carrack.api.versions import at_least
from carrack.engine.config import (
    BindOptions,
    ContainerConfig,
    CreateRequest,
    EndpointSettings,
    HostConfig,
    MountRequest,
    PortBinding,
)
from carrack.errors import InvalidParameter

STRINGS_OR_LISTS = frozenset(("Cmd", "Entrypoint", "Shell", "CapAdd", "CapDrop"))
"""Fields where Docker takes a bare string for a list of one."""

_ENDPOINT_SYSCTLS = "com.docker.network.endpoint.sysctls"
_CONFIG_KEYS = frozenset(field.encode_name.lower() for field in msgspec.structs.fields(ContainerConfig))
_NO_OWN_NETWORK = ("host", "none")
_DEFAULT_NETWORK = "bridge"


def decode_create(body: bytes) -> CreateRequest:
    """Read the body. Raises InvalidParameter, also when nothing of a Config is in it."""
    request = decode(body, CreateRequest, lists=STRINGS_OR_LISTS)
    keys = msgspec.json.decode(body, type=dict[str, msgspec.Raw] | None) or {}
    if not any(key.lower() in _CONFIG_KEYS for key in keys):
        raise InvalidParameter("config cannot be empty in order to create a container")
    return request


def check_legacy(body: bytes, version: str) -> None:
    """Raises InvalidParameter for the field that only 1.40 had: capabilities in full, which must not be lost silently."""
    if version == "1.40" and b"Capabilities" in body:
        host = msgspec.json.decode(body).get("HostConfig")
        if isinstance(host, dict) and host.get("Capabilities"):
            raise InvalidParameter("HostConfig.Capabilities is no longer supported: use CapAdd and CapDrop")


def adapt(request: CreateRequest, version: str, *, unified_cgroups: bool = False) -> list[str]:
    """Give a request the meaning it has in this version; returns warnings. Raises InvalidParameter."""
    host = request.host_config
    mounts = host.mounts or []
    _name_default_network(request)
    if not at_least(version, "1.25"):
        host.auto_remove = False
    if not at_least(version, "1.40"):
        for mount in mounts:
            if mount.bind_options is not None:
                mount.bind_options.non_recursive = False
        host.kernel_memory_tcp = 0
        host.ipc_mode = host.ipc_mode or "shareable"
    if not at_least(version, "1.41"):
        host.cgroupns_mode = host.cgroupns_mode or ("" if unified_cgroups else "host")
    if at_least(version, "1.42"):
        host.kernel_memory = 0
        for mount in mounts:
            _check_options(mount)
    else:
        host.console_size = (0, 0)
        for mount in mounts:
            _drop_foreign_options(mount)
    if not at_least(version, "1.43"):
        host.annotations = None
    if not at_least(version, "1.44"):
        _before_1_44(request, mounts)
    if not at_least(version, "1.45") and any(m.volume_options is not None and m.volume_options.subpath for m in mounts):
        raise InvalidParameter("VolumeOptions.Subpath needs API v1.45 or newer")
    if not at_least(version, "1.48"):
        for endpoint in _endpoints(request).values():
            if endpoint is not None:
                endpoint.gw_priority = 0
        if any(mount.type == "image" for mount in mounts):
            raise InvalidParameter('Mount type "Image" needs API v1.48 or newer')
    if at_least(version, "1.52"):
        host.kernel_memory_tcp = 0
    if not at_least(version, "1.56"):
        host.umask = None
    if host.pids_limit is not None and host.pids_limit <= 0:
        host.pids_limit = None
    if host.memory_swappiness == -1:  # how the command line says that nothing was asked
        host.memory_swappiness = None
    warnings = (
        _volume_driver(host, version),
        _hardware_address(request, version),
        _interface_sysctls(request, version),
        _empty_bindings(host, version),
    )
    return [warning for warning in warnings if warning]


def _before_1_44(request: CreateRequest, mounts: list[MountRequest]) -> None:
    if request.healthcheck is not None and request.healthcheck.start_interval:
        request.healthcheck = msgspec.structs.replace(request.healthcheck, start_interval=0)
    for mount in mounts:  # what is mounted below a read-only bind could be written before
        if mount.type == "bind" and mount.read_only and not (mount.bind_options and mount.bind_options.read_only_force_recursive):
            mount.bind_options = mount.bind_options or BindOptions()
            mount.bind_options.read_only_non_recursive = True
    if any(m.type == "bind" and m.bind_options is not None and m.bind_options.read_only_force_recursive for m in mounts):
        raise InvalidParameter("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
    if len(endpoints := _endpoints(request)) > 1:
        raise InvalidParameter(f"Container cannot be created with multiple network endpoints: {', '.join(endpoints)}")


def _endpoints(request: CreateRequest) -> dict[str, EndpointSettings | None]:
    return request.networking_config.endpoints_config or {}


def _name_default_network(request: CreateRequest) -> None:
    host = request.host_config
    if host.network_mode in ("", "default"):
        host.network_mode = _DEFAULT_NETWORK
        endpoints = request.networking_config.endpoints_config
        if endpoints and "default" in endpoints:
            endpoints[_DEFAULT_NETWORK] = endpoints.pop("default")


def _drop_foreign_options(mount: MountRequest) -> None:
    """Before 1.42 options of another mount type were not looked at."""
    if mount.type != "volume":
        mount.volume_options = None
    if mount.type != "tmpfs":
        mount.tmpfs_options = None
    if mount.bind_options is not None:
        mount.bind_options.create_mountpoint = False


def _check_options(mount: MountRequest) -> None:
    given = (
        ("Volume", "volume", mount.volume_options),
        ("Bind", "bind", mount.bind_options),
        ("Tmpfs", "tmpfs", mount.tmpfs_options),
    )
    for name, type, options in given:
        if options is not None and mount.type != type:
            raise InvalidParameter(f'{name}Options must not be specified on mount type "{mount.type}"')


def _volume_driver(host: HostConfig, version: str) -> str:
    if not host.volume_driver or not at_least(version, "1.48"):
        return ""
    for mount in host.mounts or []:
        options = mount.volume_options
        if mount.type == "volume" and not (
            options is not None and options.driver_config is not None and options.driver_config.name
        ):
            return (
                "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. "
                "Use '--mount type=volume,volume-driver=...' instead"
            )
    return ""


def _hardware_address(request: CreateRequest, version: str) -> str:
    """The container-wide MacAddress belongs to the endpoint of the main network since 1.44; before, only it counted."""
    mode = request.host_config.network_mode
    has_network = mode not in _NO_OWN_NETWORK and not mode.startswith("container:")
    if not at_least(version, "1.44"):
        if not request.mac_address:
            for endpoint in _endpoints(request).values():
                if endpoint is not None:
                    endpoint.mac_address = ""
        elif not has_network:
            raise InvalidParameter("conflicting options: mac-address and the network mode")
        else:
            _main_endpoint(request).mac_address = request.mac_address
        return ""
    if not request.mac_address:
        main = _endpoints(request).get(mode)
        request.mac_address = main.mac_address if main is not None else ""  # kept over stop and start, shown before 1.52
        return ""
    if at_least(version, "1.52"):
        raise InvalidParameter("container-wide MAC address no longer supported; use endpoint-specific MAC address instead")
    if has_network:
        endpoint = _main_endpoint(request)
        if endpoint.mac_address not in ("", request.mac_address):
            raise InvalidParameter(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty"
            )
        endpoint.mac_address = request.mac_address
    else:
        request.mac_address = ""
    return "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."


def _interface_sysctls(request: CreateRequest, version: str) -> str:
    """A sysctl of eth0 belongs to the main network's endpoint: moved there up to 1.47, refused since."""
    host = request.host_config
    if host.network_mode in _NO_OWN_NETWORK or host.network_mode.startswith("container:"):
        return ""
    moved: dict[str, str] = {}
    for name, value in (host.sysctls or {}).items():
        parts = name.split(".", 4)
        if len(parts) != 5 or parts[0] != "net" or not parts[3].startswith("eth"):
            continue
        if at_least(version, "1.48"):
            raise InvalidParameter(
                f"interface specific sysctl setting {json.dumps(name)} must be supplied using driver option '{_ENDPOINT_SYSCTLS}'"
            )
        if parts[3] != "eth0":
            raise InvalidParameter(
                f"unable to determine network endpoint for sysctl {name}, use driver option '{_ENDPOINT_SYSCTLS}' "
                "to set per-interface sysctls"
            )
        moved[name] = f"{parts[0]}.{parts[1]}.{parts[2]}.IFNAME.{parts[4]}={value}"
    if not moved:
        return ""
    endpoint = _main_endpoint(request)
    options = dict(endpoint.driver_opts or {})
    text = ",".join(moved.values())
    options[_ENDPOINT_SYSCTLS] = ",".join(filter(None, (text, options.get(_ENDPOINT_SYSCTLS))))
    endpoint.driver_opts = options
    host.sysctls = {name: value for name, value in (host.sysctls or {}).items() if name not in moved}
    return f"Migrated sysctl {json.dumps(','.join(moved))} to DriverOpts{{{json.dumps(_ENDPOINT_SYSCTLS)}:{json.dumps(text)}}}."


def _empty_bindings(host: HostConfig, version: str) -> str:
    """A port with an empty list of bindings gets any port of any address; since 1.52 that is warned of."""
    empty = [port for port, bindings in (host.port_bindings or {}).items() if not bindings]
    for port in empty:
        assert host.port_bindings is not None
        host.port_bindings[port] = [PortBinding()]
    if not empty or not at_least(version, "1.52"):
        return ""
    return (
        f"Following container port(s) have an empty list of port-bindings: {', '.join(empty)}. "
        "Such bindings will be discarded in a future version."
    )


def _main_endpoint(request: CreateRequest) -> EndpointSettings:
    config = request.networking_config
    if config.endpoints_config is None:
        config.endpoints_config = {}
    found = config.endpoints_config.get(request.host_config.network_mode)
    if found is None:
        found = config.endpoints_config[request.host_config.network_mode] = EndpointSettings()
    return found
