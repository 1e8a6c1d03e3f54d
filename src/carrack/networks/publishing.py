"""Published ports: held on the host, recorded, led to the container by the table, and taken away again."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from carrack.errors import CarrackError, SystemFailure
from carrack.kernel.conntrack import Conntrack
from carrack.networks.book import Book
from carrack.networks.drivers.bridge import HOST_BINDING, gateway_mode
from carrack.networks.endpoint import Endpoint, HeldPort, PortBinding, Publication
from carrack.networks.firewall import Firewall
from carrack.networks.naming import Naming, relays_of
from carrack.networks.options import NetworkOptions
from carrack.networks.ports import PortRefused, PortTable, hold_one, host_addresses
from carrack.networks.records import Records
from carrack.networks.ruleset import Forwarding

_PAUSE_SECONDS = 0.002
_REMEMBERED_LIMIT = 4096


class Publishing:
    """The published ports of one instance. Blocking, thread-safe."""

    def __init__(
        self, book: Book, records: Records, firewall: Firewall, conntrack: Conntrack, naming: Naming, options: NetworkOptions
    ) -> None:
        self._book = book
        self._records = records
        self._firewall = firewall
        self._conntrack = conntrack
        self._naming = naming
        self._default_ip = options.ip
        self._relayed = options.relays and options.run_directory is not None and _has_ipv6()
        """Whether IPv6 addresses of the host lead to containers without IPv6, too."""
        self._ports = PortTable()
        self._chosen: dict[tuple[str, int, str, str], int] = {}
        """The ephemeral port that each container's binding had last: it gets it again while that is free."""

    def restore(self, endpoint: Endpoint) -> None:
        """Enter what is recorded of an endpoint; the table follows when it is asserted."""
        self._firewall.restore(_forwardings(endpoint, endpoint.publications))
        for port in endpoint.publications:
            if port.host_port:
                self._ports.add(port.protocol, port.host_ip, port.host_port, endpoint.container_id)
                self._remember(endpoint.container_id, port)

    def hold(self, bindings: Sequence[PortBinding], container_id: str) -> tuple[HeldPort, ...]:
        """Bind every host port, all or none: see `Networks.hold`."""
        endpoints = self._book.endpoints_of(container_id)
        reachable = [e for e in endpoints if e.host_interface and not self._book.get(e.network_id).internal]
        if not reachable:
            return ()
        held: list[HeldPort] = []
        try:
            for binding in bindings:
                held += self._hold_one(binding, reachable, container_id)
        except CarrackError as error:
            for port in held:
                port.close()
                self._ports.remove(port.protocol, port.host_ip, port.host_port)
            if isinstance(error, PortRefused):
                who = f"{endpoints[0].name} ({endpoints[0].id})"
                raise SystemFailure(
                    f"driver failed programming external connectivity on endpoint {who}: {error.message}"
                ) from error
            raise
        if any(":" in port.host_ip for port in held):
            self._naming.prepare()
        return tuple(held)

    def _hold_one(self, binding: PortBinding, reachable: Sequence[Endpoint], container_id: str) -> Sequence[HeldPort]:
        ipv4 = {self._is_translated(e, 4) for e in reachable if e.ipv4}
        ipv6 = {self._is_translated(e, 6) for e in reachable if e.ipv6}
        # In a routed network a port is not the host's: it is opened at the container's own address (host port 0, no socket).
        routed = (*(("0.0.0.0",) if False in ipv4 else ()), *(("::",) if False in ipv6 else ()))
        opened = [HeldPort(binding.container_port, binding.protocol, address, 0) for address in routed]
        default_ip = self._default_ip_of(reachable[0])
        relayed = self._relayed and not ipv6 and True in ipv4 and binding.protocol != "sctp"
        addresses = host_addresses(binding, default_ip, ipv4=True in ipv4, ipv6=True in ipv6 or relayed)
        return [*opened, *self._bind(binding, addresses, container_id)]

    def _bind(self, binding: PortBinding, addresses: Sequence[str], container_id: str) -> Sequence[HeldPort]:
        if binding.host_port in ("", "0") and not binding.preferred_port and addresses:
            key = (container_id, binding.container_port, binding.protocol, addresses[0])
            binding = replace(binding, preferred_port=self._chosen.get(key, 0))
        while True:
            try:
                with self._book.lock:  # between the look into the port table and the entry into it nobody else may come
                    held = hold_one(self._ports, binding, addresses, container_id)
                    for port in held:
                        self._remember(container_id, port)
                    return held
            except PortRefused as refusal:
                if not refusal.leaving:
                    raise
            # A container that restarts: the shim of its last run is closing this very port, and nothing tells us when it has.
            time.sleep(_PAUSE_SECONDS)

    def _remember(self, container_id: str, port: HeldPort | Publication) -> None:
        while len(self._chosen) >= _REMEMBERED_LIMIT:
            del self._chosen[next(iter(self._chosen))]  # the oldest; its container may long be gone
        self._chosen[(container_id, port.container_port, port.protocol, port.host_ip)] = port.host_port

    def _is_translated(self, endpoint: Endpoint, version: int) -> bool:
        return gateway_mode(self._book.get(endpoint.network_id), version) in ("nat", "nat-unprotected")

    def _default_ip_of(self, endpoint: Endpoint) -> str:
        chosen = self._book.get(endpoint.network_id).options.get(HOST_BINDING, "") or self._default_ip
        return "" if chosen == "0.0.0.0" else chosen

    def publish(self, endpoint: Endpoint, held: Sequence[HeldPort], pidfd: int) -> None:
        """Lead held ports to the container, recorded first: see `Networks.publish`."""
        by_endpoint: dict[str, list[Publication]] = {}
        for port in held:
            publication = Publication(port.container_port, port.protocol, port.host_ip, port.host_port)
            by_endpoint.setdefault(self._serving(endpoint, publication).id, []).append(publication)
        for candidate in self._book.endpoints_of(endpoint.container_id):
            added = by_endpoint.get(candidate.id, [])
            if added:
                self._naming.relay(self._lead(candidate, added), held, pidfd)

    def move(self, endpoint: Endpoint) -> None:
        """The endpoint is about to leave a container that lives on: its ports lead by way of the others that can, from now on."""
        ports = endpoint.publications
        self.unpublish(endpoint)
        others = [e for e in self._book.endpoints_of(endpoint.container_id) if e.id != endpoint.id and e.host_interface]
        for port in ports:
            serving = self._serving_among(others, port)
            if serving is not None:
                with self._book.lock:
                    self._ports.add(port.protocol, port.host_ip, port.host_port, endpoint.container_id)
                held = HeldPort(port.container_port, port.protocol, port.host_ip, port.host_port)
                self._naming.relay(self._lead(serving, [port]), [held], -1)  # served already: it only leads elsewhere

    def _lead(self, endpoint: Endpoint, added: Sequence[Publication]) -> Endpoint:
        with self._book.lock:
            changed = self._book.current(endpoint)
            changed = msgspec.structs.replace(changed, publications=(*changed.publications, *added))
            self._book.replace(changed)
        self._records.put_endpoint(changed).result()
        self._firewall.publish(_forwardings(changed, added))
        for port in added:
            if port.protocol == "udp" and port.host_port:
                self._conntrack.forget_udp_port(port.host_port, 6 if ":" in port.host_ip else 4)
        return changed

    def _serving(self, endpoint: Endpoint, publication: Publication) -> Endpoint:
        """The endpoint whose address a port leads to: the one named if it has that IP version, else the first that has."""
        own = self._book.current(endpoint)
        serving = self._serving_among((own, *self._book.endpoints_of(endpoint.container_id)), publication)
        if serving is None:
            raise SystemFailure(f"no network of {endpoint.name} can be reached at {publication.host_ip}")
        return serving

    def _serving_among(self, candidates: Sequence[Endpoint], publication: Publication) -> Endpoint | None:
        for version in (6, 4) if ":" in publication.host_ip else (4,):  # IPv4 behind an IPv6 address of the host: relayed
            for candidate in candidates:
                has_address = bool(candidate.ipv6 if version == 6 else candidate.ipv4)
                open_to_world = has_address and not self._book.get(candidate.network_id).internal
                if open_to_world and self._is_translated(candidate, version) == (publication.host_port != 0):
                    return candidate
        return None

    def unpublish(self, endpoint: Endpoint) -> None:
        """Take the endpoint's ports out of the table. Idempotent."""
        with self._book.lock:
            endpoint = self._book.current(endpoint)
            if endpoint.id in self._book.endpoints:
                self._book.replace(msgspec.structs.replace(endpoint, publications=()))
            for port in endpoint.publications:
                self._ports.remove(port.protocol, port.host_ip, port.host_port)
        if endpoint.publications:
            self._firewall.unpublish(_forwardings(endpoint, endpoint.publications))

    def release(self, container_id: str) -> None:
        """Forget the ports that a container held, also those that never were published."""
        self._naming.unrelay(container_id)
        with self._book.lock:
            self._ports.remove_owner(container_id)


def _forwardings(endpoint: Endpoint, publications: Sequence[Publication]) -> Sequence[Forwarding]:
    targets = {6: endpoint.ipv6, 4: endpoint.ipv4}
    translated = [
        Forwarding(p.protocol, p.host_ip, p.host_port, targets[6 if ":" in p.host_ip else 4], p.container_port)
        for p in publications
        if targets[6 if ":" in p.host_ip else 4]
    ]
    relayed = relays_of(msgspec.structs.replace(endpoint, publications=tuple(publications)))
    return translated + [Forwarding(r.protocol, r.host_ip, r.host_port, r.target_ip, r.target_port, relayed=True) for r in relayed]


def _has_ipv6() -> bool:
    """Whether this host has IPv6 at all."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError:
        return False
    return True
