"""`Networks`: everything the engine orders of networks. Records, addresses, ports, the firewall and the drivers come together here.

An endpoint's life: `allocate` (address and record, no kernel object) → `plug` (interface) → `hold` and `publish` (ports) →
`unplug` → `release`. The record of an endpoint is the journal entry for its kernel objects (law 7): it is written before the first
of them and removed after the last, and `open` takes away what a dead daemon's records name and nobody needs.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Collection, Sequence
from ipaddress import IPv4Address, ip_address, ip_network

import msgspec

from carrack.errors import CarrackError, Forbidden, InvalidParameter, NotFound, SystemFailure
from carrack.kernel import netns
from carrack.kernel.conntrack import Conntrack
from carrack.kernel.netlink import Link, Netlink
from carrack.networks import creation
from carrack.networks.addresses import Addresses
from carrack.networks.drivers.bridge import BridgeDriver, add_default_routes, endpoint_sysctls, gateway_mode
from carrack.networks.drivers.driver import Driver
from carrack.networks.drivers.host import HostDriver
from carrack.networks.drivers.none import NoneDriver, loopback_up
from carrack.networks.endpoint import Endpoint, EndpointWish, HeldPort, PortBinding, Publication
from carrack.networks.firewall import TOKEN_SET, Firewall, Forwarding
from carrack.networks.forwarding import ForwardingSwitch
from carrack.networks.network import Network
from carrack.networks.options import NetworkOptions, table_name
from carrack.networks.ports import PortRefused, PortTable, hold_one, host_addresses
from carrack.networks.records import Records
from carrack.networks.watch import Watch
from carrack.state.database import Database

log = logging.getLogger(__name__)

Emit = Callable[[str, str, str, dict[str, str]], None]
_VETH = "ve"


class Networks:
    """The networks of one instance. Blocking, thread-safe; `open` first."""

    def __init__(self, database: Database, instance: str, options: NetworkOptions, emit: Emit) -> None:
        self.instance = instance
        self.options = options
        self._records = Records(database)
        self._emit = emit
        self._lock = threading.RLock()
        self._shaping = threading.Lock()  # one network is made or removed at a time
        self._networks: dict[str, Network] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._ports = PortTable()
        self._namespace_sockets_ready = False

    # ── the daemon's start and end ─────────────────────────────────────────────────────────────────────────────────────

    def open(self) -> None:
        """Make or find again the default networks, forwarding and the table; keep what running containers have, remove the rest.

        Raises SystemFailure, InvalidParameter (options that cannot be), NotFound (no address pool left).
        """
        self._netlink = Netlink()
        self._conntrack = Conntrack()
        self._firewall = Firewall(table_name(self.instance))
        self._bridges = BridgeDriver(self._netlink)
        self._drivers: dict[str, Driver] = {d.name: d for d in (self._bridges, HostDriver(), NoneDriver())}
        self._addresses = Addresses(self._conntrack.forget_address, self._delete_link)
        self._forwarding = ForwardingSwitch(self._records, self._firewall)
        self._watch = Watch(self._firewall.table, TOKEN_SET, self._link_gone, self._ruleset_changed)
        self._namespace_sockets_ready = True
        try:
            self._restore()
        except BaseException:
            self.close(keep=True)
            raise
        self._watch.start()

    def close(self, keep: bool = True) -> None:
        """Stop listening. `keep`: containers go on, everything stays; else every kernel object of the instance is removed."""
        if not self._namespace_sockets_ready:
            return
        self._namespace_sockets_ready = False
        self._watch.close()
        if not keep:
            self._tear_down()
        self._firewall.close(keep=keep)
        self._netlink.close()
        self._conntrack.close()

    def _restore(self) -> None:
        self._networks = {network.id: network for network in self._records.networks()}
        creation.add_predefined(self)
        links = {link.name: link for link in self._netlink.links()}
        self._restore_endpoints(links)
        bridged = self._bridged()
        if not self._firewall.intact():
            for network in bridged:
                self._bridges.set_loopback_routing(network, False)
        for network in bridged:
            self._bridges.create(network, {e.gateway for e in self.in_use(network)})
            self._firewall.rules.networks[network.id] = self._bridges.rules(network)
        self._firewall.assert_table()
        if self.options.ip_forward:
            self._forwarding.turn_on(4)
            if any(network.enable_ipv6 for network in bridged):
                self._forwarding.turn_on(6)
        for network in bridged:
            self._bridges.set_loopback_routing(network, True)

    def _restore_endpoints(self, links: dict[str, Link]) -> None:
        """Keep the endpoints whose link is there; forget those whose namespace ended; delete links that no record names."""
        for network in self._networks.values():
            self._addresses.add_network(network)
        dead = []
        for endpoint in self._records.endpoints():
            if endpoint.network_id not in self._networks or (endpoint.host_interface and endpoint.host_interface not in links):
                dead.append(endpoint.id)
                continue
            self._endpoints[endpoint.id] = endpoint
            self._addresses.restore(endpoint)
            self._firewall.restore(self._forwardings(endpoint))
            for publication in endpoint.publications:
                self._ports.add(publication.protocol, publication.host_ip, publication.host_port, endpoint.container_id)
        if dead:
            self._records.remove_endpoints(dead)
        ours = {network.bridge for network in self._networks.values() if network.bridge}
        masters = {links[name].index for name in ours if name in links}
        named = {endpoint.host_interface for endpoint in self._endpoints.values()}
        for link in links.values():
            if link.master in masters and link.name.startswith(_VETH) and len(link.name) == 14 and link.name not in named:
                self._delete_link(link.name)

    def _tear_down(self) -> None:
        for endpoint in self._endpoints.values():
            if endpoint.host_interface:
                self._delete_link(endpoint.host_interface)
        for resting in self._addresses.resting_links():
            self._delete_link(resting)
        for network in self._bridged():
            self._bridges.set_loopback_routing(network, False)
        self._forwarding.turn_off()
        for network in self._networks.values():
            if not network.config_only:
                self._drivers[network.driver].remove(network)

    def reconcile(self, live: Collection[str]) -> None:
        """Release every endpoint of a container that is not among those that live: after a start, when the engine knows."""
        with self._lock:
            dead = {endpoint.container_id for endpoint in self._endpoints.values()} - set(live)
        for container_id in dead:
            for endpoint in self.endpoints(container_id):
                self.unplug(endpoint, now=True)
            self.release(container_id)

    @property
    def kernel(self) -> Netlink:
        """The conversation with the host's network namespace."""
        return self._netlink

    def driver(self, name: str) -> Driver:
        return self._drivers[name]

    def has_driver(self, name: str) -> bool:
        return name in self._drivers

    def adopt(self, network: Network) -> None:
        """Record a network without making anything: its kernel objects follow."""
        self._records.put_network(network)
        with self._lock:
            self._networks[network.id] = network

    def abandon(self, network: Network) -> None:
        """Forget the default bridge of other options, and remove its kernel objects."""
        self._drivers[network.driver].remove(network)
        self._records.remove_network(network.id)
        with self._lock:
            self._networks.pop(network.id, None)

    # ── networks ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, ref: str) -> Network:
        """A network by id, name or unique beginning of its id. Raises NotFound, InvalidParameter when ambiguous."""
        with self._lock:
            if network := self._networks.get(ref):
                return network
            named = [network for network in self._networks.values() if network.name == ref]
            if named:
                return named[0]
            begun = [network for network in self._networks.values() if ref and network.id.startswith(ref)]
        if len(begun) == 1:
            return begun[0]
        if begun:
            raise InvalidParameter(f"network {ref} is ambiguous ({len(begun)} matches found based on ID prefix)")
        raise NotFound(f"network {ref} not found")

    def list(self) -> Sequence[Network]:
        """Every network, as they are now."""
        with self._lock:
            return list(self._networks.values())

    def create(self, request: creation.NetworkRequest) -> Network:
        """Make a network. Raises Conflict (name), Forbidden, InvalidParameter, NotFound (no pool), SystemFailure, nothing left."""
        with self._shaping:
            network = creation.plan(self, request)
            self._add(network)
        self._emit("network", "create", network.id, {"name": network.name, "type": network.driver})
        return network

    def _add(self, network: Network) -> None:
        """Record a network, make its kernel objects, and let the table know; undone when one fails."""
        self._records.put_network(network)
        try:
            if not network.config_only:
                self._drivers[network.driver].create(network)
                if network.driver == "bridge":
                    self._firewall.set_network(network.id, self._bridges.rules(network))
                    self._bridges.set_loopback_routing(network, True)
                    if network.enable_ipv6 and self.options.ip_forward:
                        self._forwarding.turn_on(6)
        except (CarrackError, OSError):
            self._take_apart(network)
            self._records.remove_network(network.id)
            raise
        with self._lock:
            self._networks[network.id] = network
        self._addresses.add_network(network)

    def _take_apart(self, network: Network) -> None:
        if network.config_only:
            return
        if network.driver == "bridge":
            self._bridges.set_loopback_routing(network, False)
        self._drivers[network.driver].remove(network)
        if network.driver == "bridge":
            self._firewall.set_network(network.id, None)

    def remove(self, ref: str) -> None:
        """Remove a network. Raises NotFound, Forbidden (predefined, endpoints, used as a configuration)."""
        with self._shaping:
            network = self.get(ref)
            if network.predefined:
                raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
            with self._lock:
                endpoints = [endpoint for endpoint in self._endpoints.values() if endpoint.network_id == network.id]
                if endpoints:
                    listed = ", ".join(f'name:"{endpoint.name}" id:"{endpoint.id[:12]}"' for endpoint in endpoints)
                    raise Forbidden(f"error while removing network: network {network.name} has active endpoints ({listed})")
                if any(other.config_from == network.name for other in self._networks.values()):
                    raise Forbidden(f'configuration network "{network.name}" is in use')
                del self._networks[network.id]  # from here on nothing is plugged into it
            try:
                self._take_apart(network)
            except BaseException:
                with self._lock:
                    self._networks[network.id] = network
                raise
            self._addresses.remove_network(network.id)
            self._records.remove_network(network.id)
        self._emit("network", "destroy", network.id, {"name": network.name, "type": network.driver})

    def _bridged(self) -> Sequence[Network]:
        """The networks that are bridges of this host."""
        return [network for network in self.list() if network.driver == "bridge" and not network.config_only]

    def in_use(self, network: Network) -> Sequence[Endpoint]:
        """The endpoints of a network."""
        with self._lock:
            return [endpoint for endpoint in self._endpoints.values() if endpoint.network_id == network.id]

    def address_use(self, network: Network, version: int) -> int:
        """How many of its addresses are in use, the gateway's included."""
        return self._addresses.used(network.id, version)

    # ── endpoints ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def endpoints(self, container_id: str) -> Sequence[Endpoint]:
        """A container's endpoints, the one that gives the default route first."""
        with self._lock:
            found = [endpoint for endpoint in self._endpoints.values() if endpoint.container_id == container_id]
        return sorted(found, key=self._gateway_order)

    def _gateway_order(self, endpoint: Endpoint) -> tuple[bool, int, str]:
        return not (endpoint.gateway or endpoint.gateway6), -endpoint.wish.gateway_priority, endpoint.network_name

    def allocate(self, network: Network, container_id: str, wish: EndpointWish) -> Endpoint:
        """Give a container a place in a network: addresses and a record; no kernel object yet.

        Raises InvalidParameter, Forbidden (in use, already connected), Unavailable (no address left), NotFound (removed meanwhile).
        """
        driver = self._drivers[network.driver]
        _check_wish(network, wish)
        addresses = self._addresses.take(network, wish) if driver.addressed else {}
        endpoint = self._endpoint(network, container_id, wish, addresses)
        try:
            with self._lock:
                self._admit(network, endpoint)
                if driver.addressed:
                    interface = self._free_interface(network, container_id)
                    endpoint = msgspec.structs.replace(endpoint, interface=interface)
                self._endpoints[endpoint.id] = endpoint
            self._records.put_endpoint(endpoint)
        except BaseException:
            with self._lock:
                self._endpoints.pop(endpoint.id, None)
            self._addresses.give_back(endpoint)
            raise
        return endpoint

    def _admit(self, network: Network, endpoint: Endpoint) -> None:
        if network.id not in self._networks:
            raise NotFound(f"network {network.name} not found")
        if network.config_only:
            raise Forbidden("configuration-only networks cannot be used to connect containers")
        for other in self._endpoints.values():
            if other.network_id == network.id and other.container_id == endpoint.container_id:
                raise Forbidden(f"endpoint with name {endpoint.name or other.name} already exists in network {network.name}")

    def _free_interface(self, network: Network, container_id: str) -> str:
        prefix = network.options.get("com.docker.network.container_iface_prefix") or "eth"
        used = {endpoint.interface for endpoint in self._endpoints.values() if endpoint.container_id == container_id}
        number = 0
        while f"{prefix}{number}" in used:
            number += 1
        return f"{prefix}{number}"

    def _endpoint(self, network: Network, container_id: str, wish: EndpointWish, addresses: dict[int, str]) -> Endpoint:
        ipv4, ipv6 = addresses.get(4, ""), addresses.get(6, "")
        linked = self._drivers[network.driver].addressed
        return Endpoint(
            id=secrets.token_hex(32),
            network_id=network.id,
            network_name=network.name,
            driver=network.driver,
            container_id=container_id,
            wish=wish,
            ipv4=ipv4,
            prefix=_prefix(network, 4) if ipv4 else 0,
            gateway=_gateway(network, 4) if ipv4 else "",
            ipv6=ipv6,
            prefix6=_prefix(network, 6) if ipv6 else 0,
            gateway6=_gateway(network, 6) if ipv6 else "",
            mac=(wish.mac.lower().replace("-", ":") or _mac_for(ipv4)) if linked else "",
            host_interface=_VETH + secrets.token_hex(6) if linked else "",
            mtu=network.mtu,
        )

    def plug(self, endpoint: Endpoint, netns_fd: int) -> None:
        """Make the endpoint's interface in the container's namespace, up, with addresses and routes. Raises SystemFailure."""
        network = self.get(endpoint.network_id)
        first = self.endpoints(endpoint.container_id)[:1]
        default_route = bool(first) and first[0].id == endpoint.id
        self._drivers[network.driver].plug(network, endpoint, netns_fd, default_route=default_route)

    def loopback(self, netns_fd: int) -> None:
        """Set lo up in a namespace that is plugged into nothing."""
        loopback_up(netns_fd)

    def unplug(self, endpoint: Endpoint, *, now: bool = False, netns_fd: int = -1) -> None:
        """Close the endpoint's ports. Its interface goes with the container's namespace.

        `now`: it goes at once, from a container that lives on; with that one's `netns_fd` the next network gives the default route.
        """
        self._unpublish(endpoint)
        if not now:
            return
        with self._lock:
            network = self._networks.get(endpoint.network_id)
        if network is None:
            return
        others = [other for other in self.endpoints(endpoint.container_id) if other.id != endpoint.id]
        self._drivers[network.driver].unplug(network, endpoint)
        if netns_fd >= 0 and others:
            netns.inside(netns_fd, lambda: _reroute(others[0]))

    def release(self, container_id: str, endpoint_id: str = "") -> None:
        """Forget a container's endpoints (or one of them); their addresses rest until the links are gone. Idempotent."""
        with self._lock:
            found = [e for e in self._endpoints.values() if e.container_id == container_id and endpoint_id in ("", e.id)]
            for endpoint in found:
                del self._endpoints[endpoint.id]
        if not found:
            return
        for endpoint in found:
            self._unpublish(endpoint)
            if not endpoint.host_interface:
                continue
            self._addresses.rest(endpoint)
            if self._netlink.find_link(endpoint.host_interface) is None:
                self._addresses.link_gone(endpoint.host_interface)
        self._records.remove_endpoints([endpoint.id for endpoint in found])

    def rename(self, container_id: str, name: str) -> None:
        """The container has another name: its endpoints show it."""
        for endpoint in self.endpoints(container_id):
            self._update(msgspec.structs.replace(endpoint, wish=msgspec.structs.replace(endpoint.wish, container_name=name)))

    def _update(self, endpoint: Endpoint) -> None:
        with self._lock:
            if endpoint.id not in self._endpoints:
                raise NotFound(f"endpoint {endpoint.id} not found")
            self._endpoints[endpoint.id] = endpoint
        self._records.put_endpoint(endpoint)

    # ── ports ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def hold(self, bindings: Sequence[PortBinding], container_id: str) -> tuple[HeldPort, ...]:
        """Bind every host port, all or none. The sockets are the caller's; the port is entered as the container's until `release`.

        Raises SystemFailure in Docker's words when one is taken, InvalidParameter, NotImplementedHere (no such IP version there).
        """
        endpoints = self.endpoints(container_id)
        reachable = [e for e in endpoints if e.host_interface and not self.get(e.network_id).internal]
        if not reachable:
            return ()
        held: list[HeldPort] = []
        try:
            for binding in bindings:
                held += self._open_ports(binding, reachable)
                addresses = host_addresses(
                    binding, self._default_ip(reachable[0]),
                    ipv4=any(e.ipv4 and self._translated(e, 4) for e in reachable),
                    ipv6=any(e.ipv6 and self._translated(e, 6) for e in reachable),
                )  # fmt: skip
                with self._lock:
                    held += hold_one(self._ports, binding, addresses, container_id)
        except CarrackError as error:
            self._let_go(held)
            if isinstance(error, PortRefused):
                who = f"{endpoints[0].name} ({endpoints[0].id})"
                raise SystemFailure(
                    f"driver failed programming external connectivity on endpoint {who}: {error.message}"
                ) from error
            raise
        return tuple(held)

    def _translated(self, endpoint: Endpoint, version: int) -> bool:
        return gateway_mode(self.get(endpoint.network_id), version) in ("nat", "nat-unprotected")

    def _open_ports(self, binding: PortBinding, reachable: Sequence[Endpoint]) -> Sequence[HeldPort]:
        """In a routed network a port is not the host's: it is opened at the container's own address (host port 0, no socket)."""
        routed4 = any(e.ipv4 and not self._translated(e, 4) for e in reachable)
        routed6 = any(e.ipv6 and not self._translated(e, 6) for e in reachable)
        addresses = (*(("0.0.0.0",) if routed4 else ()), *(("::",) if routed6 else ()))
        return [HeldPort(binding.container_port, binding.protocol, address, 0) for address in addresses]

    def _default_ip(self, endpoint: Endpoint) -> str:
        network = self.get(endpoint.network_id)
        chosen = network.options.get("com.docker.network.bridge.host_binding_ipv4", "") or self.options.ip
        return "" if chosen == "0.0.0.0" else chosen

    def _let_go(self, held: Sequence[HeldPort]) -> None:
        for port in held:
            port.close()
            with self._lock:
                self._ports.remove(port.protocol, port.host_ip, port.host_port)

    def publish(self, endpoint: Endpoint, held: Sequence[HeldPort]) -> None:
        """Lead the held host ports to the container; recorded first. Raises SystemFailure; then none is led."""
        by_endpoint: dict[str, list[Publication]] = {}
        for port in held:
            publication = Publication(port.container_port, port.protocol, port.host_ip, port.host_port)
            by_endpoint.setdefault(self._serving(endpoint, publication).id, []).append(publication)
        for endpoint_id, publications in by_endpoint.items():
            with self._lock:
                current = self._endpoints[endpoint_id]
            current = msgspec.structs.replace(current, publications=(*current.publications, *publications))
            self._update(current)
            self._firewall.publish(self._forwardings(current))
            for publication in publications:
                if publication.protocol == "udp" and publication.host_port:
                    self._conntrack.forget_udp_port(publication.host_port, 6 if ":" in publication.host_ip else 4)

    def _serving(self, endpoint: Endpoint, publication: Publication) -> Endpoint:
        """The endpoint whose address a port leads to: the one named if it has that IP version, else the first that has."""
        version6 = ":" in publication.host_ip
        for candidate in (endpoint, *self.endpoints(endpoint.container_id)):
            network = self.get(candidate.network_id)
            has_address = bool(candidate.ipv6 if version6 else candidate.ipv4) and not network.internal
            if has_address and self._translated(candidate, 6 if version6 else 4) == (publication.host_port != 0):
                return candidate
        raise SystemFailure(f"no network of {endpoint.name} can be reached at {publication.host_ip}")

    def _forwardings(self, endpoint: Endpoint) -> Sequence[Forwarding]:
        return [
            Forwarding(p.protocol, p.host_ip, p.host_port, endpoint.ipv6 if ":" in p.host_ip else endpoint.ipv4, p.container_port)
            for p in endpoint.publications
        ]

    def _unpublish(self, endpoint: Endpoint) -> None:
        with self._lock:
            endpoint = self._endpoints.get(endpoint.id, endpoint)
            if endpoint.id in self._endpoints:
                self._endpoints[endpoint.id] = msgspec.structs.replace(endpoint, publications=())
            for publication in endpoint.publications:
                self._ports.remove(publication.protocol, publication.host_ip, publication.host_port)
        if endpoint.publications:
            self._firewall.unpublish(self._forwardings(endpoint))

    # ── what the watch hears ───────────────────────────────────────────────────────────────────────────────────────────

    def _link_gone(self, name: str | None) -> None:
        if name is not None:
            self._addresses.link_gone(name)
            return
        present = {link.name for link in self._netlink.links()}
        for resting in self._addresses.resting_links():
            if resting not in present:
                self._addresses.link_gone(resting)

    def _ruleset_changed(self, token: int | None, lost: bool) -> None:
        if lost:
            self._firewall.forget_tokens()
            if self._firewall.intact():
                return
        if not lost and self._firewall.recognise(token):
            return
        log.warning("table inet %s was changed by somebody else: putting it back", self._firewall.table)
        bridged = self._bridged()
        for network in bridged:
            self._bridges.set_loopback_routing(network, False)
        self._firewall.assert_table()
        for network in bridged:
            self._bridges.set_loopback_routing(network, True)

    def _delete_link(self, name: str) -> None:
        link = self._netlink.find_link(name)
        if link is not None:
            try:
                self._netlink.delete_link(link.index)
            except OSError as error:
                log.info("interface %s was gone before it was deleted: %s", name, error)


def _check_wish(network: Network, wish: EndpointWish) -> None:
    """Raises InvalidParameter in Docker's words."""
    for version, text in ((4, wish.ipv4), (6, wish.ipv6)):
        if not text:
            continue
        try:
            if ip_address(text).version != version:
                raise ValueError(text)
        except ValueError:
            raise InvalidParameter(f"invalid IPv{version} address: {text}") from None
        if network.predefined:
            raise InvalidParameter("user specified IP address is supported on user defined networks only")
        if not network.configured_subnet:
            raise InvalidParameter(
                "user specified IP address is supported only when connecting to networks with user configured subnets"
            )
    endpoint_sysctls(wish.driver_options)
    if wish.mac:
        octets = wish.mac.replace("-", ":").split(":")
        if len(octets) != 6 or not all(len(octet) == 2 and octet.isalnum() for octet in octets):
            raise InvalidParameter(f"invalid MAC address: {wish.mac}")
        try:
            first = bytes.fromhex("".join(octets))[0]
        except ValueError:
            raise InvalidParameter(f"invalid MAC address: {wish.mac}") from None
        if first & 1:
            raise InvalidParameter(f"invalid MAC address: {wish.mac}: it is a group's address")


def _prefix(network: Network, version: int) -> int:
    pool = network.pool4 if version == 4 else network.pool6
    return ip_network(pool.subnet).prefixlen if pool is not None else 0


def _gateway(network: Network, version: int) -> str:
    """The address the default route leads to: none in an internal or isolated network."""
    pool = network.pool4 if version == 4 else network.pool6
    if pool is None or network.internal or gateway_mode(network, version) == "isolated":
        return ""
    return pool.gateway


def _mac_for(ipv4: str) -> str:
    """A MAC that follows from the address (so a neighbour's cache stays right when the address is reused), else a random one."""
    tail = IPv4Address(ipv4).packed if ipv4 else secrets.token_bytes(4)
    return (b"\x02\x42" + tail).hex(":")


def _reroute(endpoint: Endpoint) -> None:
    with Netlink() as netlink:
        link = netlink.find_link(endpoint.interface)
        if link is not None:
            add_default_routes(netlink, endpoint, link.index)
