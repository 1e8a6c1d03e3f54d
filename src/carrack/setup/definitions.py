"""What one engine says of a container or network, as an order for another engine to make the like. Pure.

`inspect` shows resolved things: ids of other containers, addresses that nobody asked for, the engine's own defaults. An order names
what was asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

Document = dict[str, Any]

OWN_NETWORKS = ("bridge", "host", "none")
SWARM_TASK = "com.docker.swarm.task.id"
_POOLS = ((ip_network("172.16.0.0/12"), 16), (ip_network("192.168.0.0/16"), 20))
"""What dockerd takes networks from whose subnet nobody names, and of which size."""
_RUNTIMES = ("runc", "io.containerd.runc.v2")


@dataclass(frozen=True, slots=True)
class Source:
    """What has to be known of the engine that a container comes from."""

    names: Mapping[str, str] = field(default_factory=dict)
    """Of its containers, by id, without the slash."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Image ids by tag."""
    log_driver: str = ""
    """The one that a container gets which asks for none."""

    def name(self, ref: str) -> str:
        """Of a container that is meant by name, id, or the beginning of an id."""
        if ref.lstrip("/") in self.names.values():
            return ref.lstrip("/")
        return next((name for full, name in self.names.items() if ref and full.startswith(ref)), ref.lstrip("/"))


def name_of(found: Document) -> str:
    return str(found["Name"]).lstrip("/")


def container(found: Document, source: Source) -> Document:
    """The body of a create for what `inspect` said."""
    config = dict(found["Config"])
    if found["Id"].startswith(config.get("Hostname") or "-"):
        config.pop("Hostname")  # the default: a container's own id
    if source.tags.get(_with_tag(config.get("Image", "")), found["Image"]) != found["Image"]:
        config["Image"] = found["Image"]  # the name has moved on to another image since
    return {**config, "HostConfig": _host_config(found, source), "NetworkingConfig": {"EndpointsConfig": _endpoints(found)}}


def needed(found: Document, source: Source) -> Iterator[str]:
    """Names of the containers that must be there before this one."""
    host = found["HostConfig"]
    for kind in ("NetworkMode", "IpcMode", "PidMode"):
        word, colon, ref = (host.get(kind) or "").partition(":")
        if word == "container" and colon:
            yield source.name(ref)
    for each in host.get("VolumesFrom") or []:
        yield source.name(each.partition(":")[0])
    links = [*(host.get("Links") or [])]
    for settings in _user_networks(found).values():
        links += settings.get("Links") or []
    for link in links:
        yield source.name(link.partition(":")[0])


def in_order(all_found: Iterable[Document], source: Source) -> list[Document]:
    """Those that others need before these; else the oldest first."""
    waiting = {name_of(found): found for found in sorted(all_found, key=lambda each: str(each["Created"]))}
    ordered: list[Document] = []

    def take(name: str) -> None:
        found = waiting.pop(name, None)
        if found is None:
            return
        for other in needed(found, source):
            take(other)
        ordered.append(found)

    while waiting:
        take(next(iter(waiting)))
    return ordered


def network(found: Document, containers: Iterable[Document]) -> Document:
    """The body of a create. A subnet that dockerd has chosen itself is left to who makes the network now."""
    wanted = ("Name", "Driver", "Internal", "Attachable", "EnableIPv6", "IPAM", "Options", "Labels")
    document = {key: found[key] for key in wanted if found.get(key) is not None}
    if is_chosen_by_docker(found, containers):
        document.pop("IPAM")
    return {**document, "CheckDuplicate": True}


def is_chosen_by_docker(found: Document, containers: Iterable[Document]) -> bool:
    """Whether nobody can have asked for these addresses: they are of dockerd's own pool, and no container has one of its own."""
    ipam = found.get("IPAM") or {}
    configs = ipam.get("Config") or []
    if len(configs) != 1 or ipam.get("Options") or configs[0].keys() - {"Subnet", "Gateway"}:
        return False
    subnet = ip_network(configs[0]["Subnet"])
    if not any(subnet.version == 4 and subnet.subnet_of(pool) and subnet.prefixlen == size for pool, size in _POOLS):  # type: ignore[arg-type]
        return False
    if configs[0].get("Gateway", str(subnet[1])).partition("/")[0] != str(subnet[1]):
        return False
    return not any(
        (settings.get("IPAMConfig") or {}).get("IPv4Address")
        for each in containers
        for name, settings in _user_networks(each).items()
        if name == found["Name"]
    )


def _host_config(found: Document, source: Source) -> Document:
    host = dict(found["HostConfig"])
    bound = {bind.split(":")[1] for bind in host.get("Binds") or [] if ":" in bind}
    bound |= {mount["Target"] for mount in host.get("Mounts") or []}
    kept = [
        f"{mount['Name']}:{mount['Destination']}{'' if mount.get('RW', True) else ':ro'}"
        for mount in found.get("Mounts") or []
        if mount["Type"] == "volume" and mount["Destination"] not in bound and not host.get("VolumesFrom")
    ]
    host["Binds"] = [*(host.get("Binds") or []), *kept]
    for private in ("ConsoleSize", "Isolation"):
        host.pop(private, None)
    if host.get("Runtime") in _RUNTIMES:
        host.pop("Runtime")
    log = host.get("LogConfig") or {}
    if log.get("Type") == source.log_driver and not log.get("Config"):
        host.pop("LogConfig")
    for kind in ("NetworkMode", "IpcMode", "PidMode"):
        word, colon, ref = (host.get(kind) or "").partition(":")
        if word == "container" and colon:
            host[kind] = f"container:{source.name(ref)}"
    host["VolumesFrom"] = [":".join((source.name(ref), *mode)) for ref, *mode in _split(host.get("VolumesFrom"))]
    # `/other:/this/alias`
    host["Links"] = [f"{source.name(ref)}:{alias[0].rpartition('/')[2]}" for ref, *alias in _split(host.get("Links"))]
    return host


def _split(words: Iterable[str] | None) -> list[list[str]]:
    return [word.split(":", 1) for word in words or []]


def _endpoints(found: Document) -> Document:
    kept = ("Aliases", "Links", "DriverOpts", "IPAMConfig", "GwPriority")
    endpoints = {}
    for name, settings in _user_networks(found).items():
        endpoint = {key: settings[key] for key in kept if settings.get(key)}
        endpoint["Aliases"] = [alias for alias in settings.get("Aliases") or [] if not found["Id"].startswith(alias)]
        endpoints[name] = endpoint
    return endpoints


def _user_networks(found: Document) -> Document:
    networks = (found.get("NetworkSettings") or {}).get("Networks") or {}
    return {name: settings for name, settings in networks.items() if name not in OWN_NETWORKS}


def _with_tag(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] or "@" in name else f"{name}:latest"
