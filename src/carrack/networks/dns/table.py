"""Who is called what, for whom: names are scoped to networks, and a container sees those of the networks that it is in."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

import msgspec

HOST_NAMES = ("host.docker.internal", "gateway.docker.internal")


class EndpointNames(msgspec.Struct, frozen=True):
    """A container's place in one user-defined network, as names see it. Names are lower-case."""

    network: str
    """The network's id."""
    network_name: str
    names: tuple[str, ...]
    ipv4: str = ""
    ipv6: str = ""
    gateway: str = ""
    gateway6: str = ""
    internal: bool = False


class ContainerNames(msgspec.Struct, frozen=True):
    """A container: its places, and where its other questions go."""

    id: str
    endpoints: tuple[EndpointNames, ...] = ()
    """The one that gives the default route first: the order in which networks are asked."""
    upstreams: tuple[str, ...] = ()
    """`--dns`; empty: the host's own servers."""
    links: tuple[tuple[str, str], ...] = ()
    """(alias, target): names that only this container knows (`--link`)."""
    outward: bool = True
    """Whether the container may ask the world: not when all its networks are internal (CVE-2024-29018)."""


class NameTable:
    """All containers of an instance. Changed by one thread at a time, read by any."""

    def __init__(self) -> None:
        self._containers: dict[str, ContainerNames] = {}
        self._names: dict[tuple[str, str], dict[str, EndpointNames]] = {}
        """(network, name) → container → its place."""
        self._addresses: dict[tuple[str, str], str] = {}
        """(network, address) → the first name of who has it."""
        self._turns = itertools.count()
        self.generation = 0
        """Another one after each change: what was answered before it may be wrong now."""

    def put(self, container: ContainerNames) -> None:
        """Add a container, or replace what was known of it."""
        self.drop(container.id)
        self.generation += 1
        self._containers[container.id] = container
        for endpoint in container.endpoints:
            for name in endpoint.names:
                self._names.setdefault((endpoint.network, name), {})[container.id] = endpoint
            for address in filter(None, (endpoint.ipv4, endpoint.ipv6)):
                self._addresses[(endpoint.network, address)] = f"{endpoint.names[0]}.{endpoint.network_name}"

    def drop(self, container_id: str) -> None:
        """Forget a container. Idempotent."""
        self.generation += 1
        container = self._containers.pop(container_id, None)
        for endpoint in container.endpoints if container else ():
            for name in endpoint.names:
                having = self._names.get((endpoint.network, name), {})
                having.pop(container_id, None)
                if not having:
                    self._names.pop((endpoint.network, name), None)
            for address in filter(None, (endpoint.ipv4, endpoint.ipv6)):
                self._addresses.pop((endpoint.network, address), None)

    def retain(self, container_ids: Sequence[str]) -> None:
        """Forget every container but these."""
        for container_id in set(self._containers) - set(container_ids):
            self.drop(container_id)

    def get(self, container_id: str) -> ContainerNames | None:
        return self._containers.get(container_id)

    def all(self) -> Sequence[ContainerNames]:
        """What is known of every container."""
        return [*self._containers.values()]

    def __len__(self) -> int:
        return len(self._containers)

    def find(self, asker: ContainerNames, name: str, version: int) -> list[IPv4Address | IPv6Address] | None:
        """The addresses that a name has for a container: None when nobody is called that, empty when only of the other version.

        Several containers of one name take turns in being first.
        """
        for wanted in (dict(asker.links).get(name), name):
            if wanted is not None and (found := self._places(asker, wanted)) is not None:
                texts = [endpoint.ipv4 if version == 4 else endpoint.ipv6 for endpoint in found]
                addresses = [ip_address(text) for text in texts if text]
                turn = next(self._turns) % len(addresses) if len(addresses) > 1 else 0
                return addresses[turn:] + addresses[:turn]
        if name in HOST_NAMES:
            gateways = [e.gateway if version == 4 else e.gateway6 for e in asker.endpoints]
            return [ip_address(gateway) for gateway in gateways if gateway][:1]
        return None

    def _places(self, asker: ContainerNames, name: str) -> list[EndpointNames] | None:
        for endpoint in asker.endpoints:
            if having := self._names.get((endpoint.network, name)):
                return list(having.values())
        head, dot, tail = name.rpartition(".")
        if dot:  # name.network
            for endpoint in asker.endpoints:
                if endpoint.network_name.lower() == tail and (having := self._names.get((endpoint.network, head))):
                    return list(having.values())
        return None

    def name_of(self, asker: ContainerNames, address: IPv4Address | IPv6Address) -> str:
        """``name.network`` of who has an address in one of the asker's networks; empty: nobody."""
        for endpoint in asker.endpoints:
            if found := self._addresses.get((endpoint.network, str(address))):
                return found
        return ""
