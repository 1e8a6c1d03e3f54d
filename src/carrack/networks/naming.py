"""What the name server has to know of each container, and when it has to know it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from carrack.errors import SystemFailure
from carrack.networks.book import Book
from carrack.networks.dns.control import RESOLVER, RelaySpec
from carrack.networks.dns.table import ContainerNames, EndpointNames
from carrack.networks.endpoint import Endpoint, HeldPort
from carrack.networks.names import Init, NameService
from carrack.networks.network import Network

log = logging.getLogger(__name__)

_BACKLOG = 4096
"""Connections that may wait at a relayed port: the kernel's own limit (net.core.somaxconn) is what counts."""


class Naming:
    """The names of containers in user-defined networks; without a service nobody is named."""

    def __init__(self, book: Book, service: NameService | None, upstreams: tuple[str, ...]) -> None:
        self._book = book
        self._service = service
        self._upstreams = upstreams

    def resolver_for(self, network: Network) -> str:
        """The name server of a network's containers; empty: the host's."""
        return RESOLVER if self._service is not None and not network.predefined else ""

    def resume(self) -> None:
        """After a start: tell a names process that goes on how things are now."""
        if self._service is not None:
            containers = sorted({endpoint.container_id for endpoint in self._book.endpoints.values()})
            found = [names for names in map(self._names_of, containers) if names is not None]
            relayed = {endpoint.container_id for endpoint in self._book.endpoints.values() if relays_of(endpoint)}
            try:
                self._service.resume(found, relayed)
            except SystemFailure as error:
                log.error("names of running containers: %s", error.message)

    def refresh(self, init_of: Callable[[str], Init] | None = None) -> None:
        """See that the process still knows what we know, and serves whom it should. `init_of` opens a running container, from now
        on too."""
        if self._service is not None:
            self._service.init_of = init_of or self._service.init_of
            try:
                self._service.refresh()
            except SystemFailure as error:
                log.error("names of running containers: %s", error.message)

    def prepare(self) -> None:
        """Ports that must be relayed, or names, will be needed in a moment."""
        if self._service is not None:
            self._service.prepare()

    def relay(self, endpoint: Endpoint, held: Sequence[HeldPort], pidfd: int) -> None:
        """Have those of an endpoint's published ports served that the kernel cannot translate. Raises SystemFailure."""
        sockets = {(port.protocol, port.host_ip, port.host_port): port.socket for port in held}
        ports = [(spec, sockets[spec.key]) for spec in relays_of(endpoint) if spec.key in sockets]
        for spec, holder in ports:
            if spec.protocol == "tcp" and holder is not None:
                holder.listen(_BACKLOG)
        if self._service is not None and ports:
            self._service.relay(endpoint.container_id, ports, pidfd)

    def unrelay(self, container_id: str) -> None:
        """Serve a container's ports no longer. Idempotent."""
        if self._service is not None:
            self._service.unrelay(container_id)

    def serve(self, container_id: str, netns_fd: int, pidfd: int) -> None:
        """A container was plugged into one more network. Raises SystemFailure."""
        if self._service is not None and (names := self._names_of(container_id)) is not None:
            self._service.serve(names, netns_fd, pidfd)

    def tell(self, container_id: str) -> None:
        """A container's networks or names have changed, or it is gone."""
        if self._service is None:
            return
        try:
            names = self._names_of(container_id)
            if names is None:
                self._service.drop(container_id)
            else:
                self._service.update(names)
        except SystemFailure as error:
            log.error("names of container %s: %s", container_id, error.message)

    def close(self, *, stop: bool) -> None:
        """Let go of the service; `stop` ends it, otherwise it goes on answering. Idempotent."""
        if self._service is not None:
            self._service.close(stop=stop)

    def _names_of(self, container_id: str) -> ContainerNames | None:
        """What the name server is told of a container; None for one that is in no user-defined network."""
        endpoints = [e for e in self._book.endpoints_of(container_id) if e.interface and e.id in self._book.plugged]
        places, outward = [], False
        for endpoint in endpoints:
            network = self._book.find(endpoint.network_id)
            if network is None:
                continue
            outward = outward or not network.internal
            if not network.predefined:
                places.append(_place(network, endpoint))
        if not places:
            return None
        links = tuple(
            (alias.lower(), target.lower())
            for endpoint in endpoints
            for target, _, alias in (link.partition(":") for link in endpoint.wish.links)
            if alias
        )
        upstreams = next((endpoint.wish.upstreams for endpoint in endpoints if endpoint.wish.upstreams), self._upstreams)
        return ContainerNames(container_id, tuple(places), upstreams, links, outward)


def relays_of(endpoint: Endpoint) -> list[RelaySpec]:
    """The published ports of an endpoint that the kernel cannot translate: those of [::1], and of IPv6 addresses when the
    endpoint has none itself."""
    return [
        RelaySpec(port.protocol, port.host_ip, port.host_port, endpoint.ipv6 or endpoint.ipv4, port.container_port)
        for port in endpoint.publications
        if port.host_port
        and ":" in port.host_ip
        and (port.host_ip in ("::", "::1") or not endpoint.ipv6)
        and port.protocol != "sctp"
    ]


def _place(network: Network, endpoint: Endpoint) -> EndpointNames:
    called = (endpoint.name, endpoint.container_id[:12], *endpoint.wish.aliases)
    return EndpointNames(
        network=network.id,
        network_name=network.name,
        names=tuple(dict.fromkeys(name.lower() for name in called if name)),
        ipv4=endpoint.ipv4,
        ipv6=endpoint.ipv6,
        gateway=network.pool4.gateway if network.pool4 else "",
        gateway6=network.pool6.gateway if network.pool6 else "",
        internal=network.internal,
    )
