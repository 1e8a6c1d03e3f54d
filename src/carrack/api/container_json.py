"""A container as Docker's clients read it: one line of the list, and the whole of inspect. Pure: record in, document out.

Documents keep the order of Docker's own, because `docker inspect` prints them as they come. What a version does not know is
left out by the tables below (`shapes`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from carrack.api.moments import human_duration, rfc3339
from carrack.api.shapes import Document, Field, Shape, fields
from carrack.api.versions import at_least
from carrack.engine.config import ContainerConfig, EndpointSettings, HostConfig
from carrack.engine.container import Container, ContainerState, MountPoint, PublishedPort, Sizes
from carrack.engine.launch import uses_own_network
from carrack.engine.state import Status

_BEFORE_NETWORKS = (
    "Bridge HairpinMode LinkLocalIPv6Address LinkLocalIPv6PrefixLen SecondaryIPAddresses SecondaryIPv6Addresses EndpointID Gateway "
    "GlobalIPv6Address GlobalIPv6PrefixLen IPAddress IPPrefixLen IPv6Gateway MacAddress"
)
SUMMARY = Shape(
    Field("HostConfig.Annotations", since="1.46", omitted_empty="1.46"),
    Field("ImageManifestDescriptor", since="1.48", omitted_empty="1.48"),
    *fields("GwPriority", inside="NetworkSettings.Networks.*", since="1.48"),
    Field("NetworkSettings.Networks.*.DNSNames", since="1.44"),
    Field("Health", since="1.52"),
)
INSPECT = Shape(
    *fields("Annotations", inside="HostConfig", since="1.43"),
    Field("NetworkSettings.Networks.*.DNSNames", since="1.44"),
    Field("NetworkSettings.Networks.*.GwPriority", since="1.48"),
    Field("ImageManifestDescriptor", since="1.48", omitted_empty="1.48"),
    *fields(_BEFORE_NETWORKS, inside="NetworkSettings", gone="1.52"),
    Field("Config.OnBuild", omitted_empty="1.52"),
    Field("Config.MacAddress", gone="1.52", omitted_empty="1.24"),
    Field("HostConfig.KernelMemoryTCP", gone="1.52"),
    Field("HostConfig.Umask", since="1.56"),
    Field("Storage", since="1.52"),
)

_CONFIG_ORDER = (
    "Hostname", "Domainname", "User", "AttachStdin", "AttachStdout", "AttachStderr", "ExposedPorts", "Tty", "OpenStdin",
    "StdinOnce", "Env", "Cmd", "Healthcheck", "ArgsEscaped", "Image", "Volumes", "WorkingDir", "Entrypoint", "NetworkDisabled",
    "MacAddress", "OnBuild", "Labels", "StopSignal", "StopTimeout", "Shell",
)  # fmt: skip
_CONFIG_OMITTED_EMPTY = frozenset(
    ("ExposedPorts", "Healthcheck", "ArgsEscaped", "NetworkDisabled", "MacAddress", "StopSignal", "StopTimeout", "Shell")
)
_HOST_ORDER = (
    "Binds", "ContainerIDFile", "LogConfig", "NetworkMode", "PortBindings", "RestartPolicy", "AutoRemove", "VolumeDriver",
    "VolumesFrom", "ConsoleSize", "Annotations", "CapAdd", "CapDrop", "CgroupnsMode", "Dns", "DnsOptions", "DnsSearch",
    "ExtraHosts", "GroupAdd", "IpcMode", "Cgroup", "Links", "OomScoreAdj", "PidMode", "Privileged", "PublishAllPorts",
    "ReadonlyRootfs", "SecurityOpt", "StorageOpt", "Tmpfs", "UTSMode", "UsernsMode", "ShmSize", "Sysctls", "Runtime",
    "Isolation", "CpuShares", "Memory", "NanoCpus", "CgroupParent", "BlkioWeight", "BlkioWeightDevice", "BlkioDeviceReadBps",
    "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps", "CpuPeriod", "CpuQuota", "CpuRealtimePeriod",
    "CpuRealtimeRuntime", "CpusetCpus", "CpusetMems", "Devices", "DeviceCgroupRules", "DeviceRequests", "KernelMemory",
    "KernelMemoryTCP", "MemoryReservation", "MemorySwap", "MemorySwappiness", "OomKillDisable", "PidsLimit", "Ulimits",
    "CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth", "Mounts", "MaskedPaths", "ReadonlyPaths", "Init",
)  # fmt: skip
_HOST_OMITTED_EMPTY = frozenset(
    ("Annotations", "StorageOpt", "Tmpfs", "Sysctls", "Runtime", "KernelMemory", "KernelMemoryTCP", "Mounts", "Init")
)
_ENDPOINT_ORDER = (
    "IPAMConfig", "Links", "Aliases", "MacAddress", "DriverOpts", "GwPriority", "NetworkID", "EndpointID", "Gateway", "IPAddress",
    "IPPrefixLen", "IPv6Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "DNSNames",
)  # fmt: skip
_LIST_ENDPOINT_HIDES = ("Links", "Aliases", "DriverOpts", "DNSNames")
_BRIDGE_FIELDS = (
    "EndpointID", "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPAddress", "IPPrefixLen", "IPv6Gateway", "MacAddress",
)  # fmt: skip
_PREDEFINED_NETWORKS = ("bridge", "host", "none", "default")


def summary(container: Container, version: str, sizes: Sizes | None = None, further_names: Sequence[str] = ()) -> Document:
    """One entry of GET /containers/json. `further_names`: those that links give."""
    document: Document = {
        "Id": container.id,
        "Names": [f"/{container.name}", *further_names],
        "Image": container.image_reference or container.image_id,
        "ImageID": container.image_id,
        "Command": _command(container),
        "Created": container.created_at_nanoseconds // 10**9,
        "Ports": [_port(port) for port in sorted(container.ports, key=_port_order)],
    }
    if sizes is not None:
        document |= {"SizeRw": sizes.rw_bytes, "SizeRootFs": sizes.rootfs_bytes}
        document = {name: value for name, value in document.items() if value or not name.startswith("Size")}
    host: Document = {"NetworkMode": container.host_config.network_mode}
    host["Annotations"] = container.host_config.annotations
    health = container.state.health
    shown: Document = document | {
        "Labels": container.config.labels or {},
        "State": container.state.status.value,
        "Status": status_line(container.state),
        "HostConfig": host,
        "Health": {
            "Status": health.status if health is not None else "none",
            "FailingStreak": health.failing_streak if health is not None else 0,
        },
        "NetworkSettings": {"Networks": {name: _endpoint_in_list(endpoint) for name, endpoint in container.networks.items()}},
        "Mounts": _mounts(container),
        "ImageManifestDescriptor": _descriptor(container),
    }
    return SUMMARY.fit(shown, version)


def inspect(container: Container, version: str, sizes: Sizes | None = None, lower: Sequence[str] = ()) -> Document:
    """GET /containers/{id}/json. `lower` are the directories below what the container writes, topmost first."""
    started = container.state.started_at_nanoseconds > 0
    directory = container.directory
    document: Document = {
        "Id": container.id,
        "Created": rfc3339(container.created_at_nanoseconds),
        "Path": container.path,
        "Args": container.arguments,
        "State": _state(container.state),
        "Image": container.image_id,
        "ResolvConfPath": f"{directory}/resolv.conf" if started else "",
        "HostnamePath": f"{directory}/hostname" if started else "",
        "HostsPath": f"{directory}/hosts" if started else "",
        "LogPath": container.log_path,
        "Name": f"/{container.name}",
        "RestartCount": container.restart_count,
        "Driver": container.storage_driver,
        "Platform": container.platform,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": container.apparmor_profile,
        "ExecIDs": container.exec_ids or None,
        "HostConfig": host_config(container.host_config),
        "GraphDriver": {"Data": _graph(container, lower), "Name": container.storage_driver},
    }
    if sizes is not None:
        document |= {"SizeRw": sizes.rw_bytes, "SizeRootFs": sizes.rootfs_bytes}
    shown: Document = document | {
        "Mounts": _mounts(container),
        "Config": _config_of(container),
        "NetworkSettings": _network_settings(container, version),
        "ImageManifestDescriptor": _descriptor(container),
        "Storage": {"RootFS": {"Snapshot": {"Name": container.storage_driver}}},
    }
    return INSPECT.fit(shown, version)


def _graph(container: Container, lower: Sequence[str]) -> Document | None:
    """Where the storage driver keeps a container; Docker's vfs says nothing."""
    if container.storage_driver != "overlay2":
        return None
    directory = container.directory
    return {
        "ID": container.id,
        "LowerDir": ":".join(lower),
        "MergedDir": f"{directory}/merged",
        "UpperDir": f"{directory}/rw",
        "WorkDir": f"{directory}/work",
    }


def status_line(state: ContainerState, now_nanoseconds: int = 0) -> str:
    """``Up 5 minutes``, ``Exited (0) 3 seconds ago``: the column STATUS."""
    now = now_nanoseconds or time.time_ns()
    since_start = human_duration((now - state.started_at_nanoseconds) / 1e9)
    since_end = human_duration((now - state.finished_at_nanoseconds) / 1e9)
    match state.status:
        case Status.PAUSED:
            return f"Up {since_start} (Paused)"
        case Status.RESTARTING:
            return f"Restarting ({state.exit_code}) {since_end} ago"
        case Status.RUNNING if state.health is not None:
            health = "health: starting" if state.health.status == "starting" else state.health.status
            return f"Up {since_start} ({health})"
        case Status.RUNNING:
            return f"Up {since_start}"
        case Status.REMOVING:
            return "Removal In Progress"
        case Status.DEAD:
            return "Dead"
    if not state.started_at_nanoseconds and not state.finished_at_nanoseconds:
        return "Created"
    return f"Exited ({state.exit_code}) {since_end} ago" if state.finished_at_nanoseconds else ""


def host_config(config: HostConfig) -> Document:
    """A HostConfig in Docker's order."""
    document = _ordered(config, _HOST_ORDER, _HOST_OMITTED_EMPTY)
    return document if config.umask is None else document | {"Umask": config.umask}


def container_config(config: ContainerConfig) -> Document:
    """A container's Config in Docker's order."""
    return _ordered(config, _CONFIG_ORDER, _CONFIG_OMITTED_EMPTY) | {"Volumes": config.volumes or None}


def _config_of(container: Container) -> Document:
    """The Config, with the hardware address that was asked for on the main network: that is where it stood before 1.52."""
    return container_config(container.config) | {"MacAddress": container.config.mac_address}


def _descriptor(container: Container) -> Document | None:
    """What the container's image is for its platform; unknown of containers that an older Carrack made."""
    return msgspec.to_builtins(container.image_manifest) if container.image_manifest is not None else None


def endpoint_settings(settings: EndpointSettings) -> Document:
    """One network of a container in Docker's order."""
    document = _ordered(settings, _ENDPOINT_ORDER, frozenset())
    if isinstance(address := document["IPAMConfig"], dict):
        document["IPAMConfig"] = {name: value for name, value in address.items() if value}
    return document


def _ordered(value: msgspec.Struct, order: tuple[str, ...], omitted_empty: frozenset[str]) -> Document:
    fields: Mapping[str, object] = msgspec.to_builtins(value)
    # None counts as empty and so do "", 0, False, [] and {}: Go's omitempty, except that a pointer to a zero value is kept.
    pointers = ("StopTimeout", "Init")
    return {
        name: fields[name]
        for name in order
        if name not in omitted_empty or fields[name] or (name in pointers and fields[name] is not None)
    }


def _state(state: ContainerState) -> Document:
    document: Document = {
        "Status": state.status.value,
        "Running": state.running,
        "Paused": state.paused,
        "Restarting": state.status is Status.RESTARTING,
        "OOMKilled": state.out_of_memory,
        "Dead": state.status is Status.DEAD,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": rfc3339(state.started_at_nanoseconds),
        "FinishedAt": rfc3339(state.finished_at_nanoseconds),
    }
    if state.health is not None:
        document["Health"] = {
            "Status": state.health.status,
            "FailingStreak": state.health.failing_streak,
            "Log": msgspec.to_builtins(state.health.log),
        }
    return document


def _network_settings(container: Container, version: str) -> Document:
    networks = {name: endpoint_settings(endpoint) for name, endpoint in container.networks.items()}
    if not at_least(version, "1.45"):
        for name, endpoint in networks.items():
            if name not in _PREDEFINED_NETWORKS:
                aliases = [*(container.networks[name].aliases or []), container.id[:12]]
                endpoint["Aliases"] = list(dict.fromkeys(aliases))
    bridge = networks.get("bridge") or {}
    namespace = _namespace(container)
    empty: Document = {"GlobalIPv6PrefixLen": 0, "IPPrefixLen": 0}
    return {
        "Bridge": "",
        "SandboxID": container.id if namespace else "",
        "SandboxKey": namespace,
        "Ports": _ports_by_name(container.ports),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **{name: bridge.get(name, empty.get(name, "")) for name in _BRIDGE_FIELDS},
        "Networks": networks,
    }


def _namespace(container: Container) -> str:
    """Where the container's network namespace can be opened. Carrack holds it by a descriptor and mounts it nowhere."""
    if not container.state.pid or not uses_own_network(container):
        return ""
    return f"/proc/{container.state.pid}/ns/net"


def _endpoint_in_list(settings: EndpointSettings) -> Document:
    return endpoint_settings(settings) | dict.fromkeys(_LIST_ENDPOINT_HIDES)


def _command(container: Container) -> str:
    return " ".join((container.path, *(f"'{word}'" if " " in word else word for word in container.arguments)))


def _port_order(port: PublishedPort) -> tuple[int, str, str, int]:
    return port.container_port, port.protocol, port.host_ip, port.host_port


def _port(port: PublishedPort) -> Document:
    if not port.host_port:
        return {"PrivatePort": port.container_port, "Type": port.protocol}
    document: Document = {"IP": port.host_ip} if port.host_ip else {}
    return document | {"PrivatePort": port.container_port, "PublicPort": port.host_port, "Type": port.protocol}


def _ports_by_name(ports: list[PublishedPort]) -> Document:
    """``{"80/tcp": [{"HostIp": …, "HostPort": …}], "81/tcp": null}``."""
    found: dict[str, list[dict[str, str]] | None] = {}
    for port in sorted(ports, key=_port_order):
        name = f"{port.container_port}/{port.protocol}"
        bindings = found.setdefault(name, None)
        if port.host_port:
            found[name] = [*(bindings or []), {"HostIp": port.host_ip, "HostPort": str(port.host_port)}]
    return dict(found)


def _mounts(container: Container) -> list[Document]:
    """Every mount but those of `--tmpfs`, which Docker shows in the HostConfig alone."""
    elsewhere = container.host_config.tmpfs or {}
    return [_mount(point) for point in container.mounts if point.type != "tmpfs" or point.destination not in elsewhere]


def _mount(point: MountPoint) -> Document:
    document: Document = {"Type": point.type}
    if point.name:
        document["Name"] = point.name
    document |= {"Source": point.source, "Destination": point.destination}
    if point.driver:
        document["Driver"] = point.driver
    return document | {"Mode": point.mode, "RW": point.writable, "Propagation": point.propagation}
