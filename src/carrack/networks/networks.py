"""`Networks`: everything the engine orders of networks. Records, addresses, ports, names, the firewall and the drivers meet here.

An endpoint's life: `allocate` (address and record, no kernel object) → `plug` (interface) → `hold` and `publish` (ports) →
`unplug` → `release`. The record of an endpoint is the journal entry for its kernel objects (law 7): it is written before the first
of them and removed after the last, and `open` takes away what a dead daemon's records name and nobody needs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from functools import partial

import msgspec

from carrack.errors import CarrackError, Forbidden, NotFound
from carrack.kernel import netns
from carrack.kernel.conntrack import Conntrack
from carrack.kernel.netlink import Link, Netlink
from carrack.networks.addresses import Addresses
from carrack.networks.allocation import VETH_LENGTH, VETH_PREFIX, check_wish, endpoint_for, free_interface
from carrack.networks.beside_docker import FILTER_TABLE, BesideDocker
from carrack.networks.book import Book
from carrack.networks.creation import NetworkRequest, plan
from carrack.networks.default_networks import add_predefined
from carrack.networks.drivers.bridge import ICC, BridgeDriver
from carrack.networks.drivers.driver import Driver
from carrack.networks.drivers.interface import add_default_routes
from carrack.networks.drivers.ipvlan import IpvlanDriver
from carrack.networks.drivers.macvlan import MacvlanDriver
from carrack.networks.drivers.predefined import HostDriver, NoneDriver, loopback_up
from carrack.networks.endpoint import Endpoint, EndpointWish, HeldPort, PortBinding, Protocol
from carrack.networks.exposure import Exposure, Surroundings, exposures
from carrack.networks.firewall import Firewall
from carrack.networks.forwarding import ForwardingSwitch
from carrack.networks.links import Links
from carrack.networks.names import BeginNames, Init, NameService
from carrack.networks.naming import Naming
from carrack.networks.network import Network
from carrack.networks.options import NetworkOptions, table_name
from carrack.networks.publishing import Publishing
from carrack.networks.records import Records
from carrack.networks.table_marks import TOKEN_SET
from carrack.networks.upkeep import Upkeep
from carrack.networks.watch import Watch
from carrack.state.database import Database

log = logging.getLogger(__name__)

Emit = Callable[[str, str, str, dict[str, str]], None]


class Networks:
    """The networks of one instance. Blocking, thread-safe; `open` first."""

    def __init__(
        self, database: Database, instance: str, options: NetworkOptions, emit: Emit, begin_names: BeginNames | None = None
    ) -> None:
        """`begin_names` has the names process forked, when it is needed; without it, or a run directory, nobody is named."""
        self.instance = instance
        self.options = options
        self._records = Records(database)
        self._emit = emit
        self._book = Book()
        self._shaping = threading.Lock()  # one network is made or removed at a time
        service = None
        if options.run_directory is not None and begin_names is not None:
            service = NameService(options.run_directory, table_name(instance), begin_names)
        self._naming = Naming(self._book, service, options.dns)
        self._recording: dict[str, Future[None]] = {}
        """Records of endpoints on their way to the disk: `plug` waits for them."""
        self._is_open = False

    # ── the daemon's start and end ─────────────────────────────────────────────────────────────────────────────────────

    def open(self) -> None:
        """Make or find again the default networks, forwarding and the table; keep what running containers have, remove the rest.

        Raises SystemFailure, InvalidParameter (options that cannot be), NotFound (no address pool left).
        """
        self._netlink = Netlink()
        self._conntrack = Conntrack()
        self._firewall = Firewall(table_name(self.instance))
        self._firewall.rules.accept_mark = self.options.accept_mark
        self._firewall.rules.direct_routing = self.options.direct_routing
        self._bridges = BridgeDriver(self._netlink)
        self._drivers: dict[str, Driver] = {d.name: d for d in self._all_drivers()}
        self._addresses = Addresses(
            self._conntrack.forget_addresses,
            self._delete_link,
            self._book.has_address,
            lambda: self._watch.later(self._addresses.sweep),
        )
        self._publishing = Publishing(self._book, self._records, self._firewall, self._conntrack, self._naming, self.options)
        self._links = Links(self._book, self._firewall)
        self._forwarding = ForwardingSwitch(self._records, self._firewall)
        beside_docker = BesideDocker(self.instance, self._firewall)
        if not self.options.beside_docker:
            beside_docker.remove_rules()  # of an earlier start that had them
        self._beside_docker = beside_docker if self.options.beside_docker else None
        self._upkeep = Upkeep(
            book=self._book,
            kernel=self._netlink,
            firewall=self._firewall,
            bridges=self._bridges,
            addresses=self._addresses,
            beside_docker=self._beside_docker,
            naming=self._naming,
            shaping=self._shaping,
        )
        tables = (self._firewall.table, *((FILTER_TABLE,) if self.options.beside_docker else ()))
        self._watch = Watch(tables, TOKEN_SET, self._upkeep.link_gone, self._upkeep.ruleset_changed, self._upkeep.look)
        self._is_open = True
        try:
            self._restore()
            self._watch.start()
            self._naming.resume()
        except BaseException:
            self.close(keep=True)
            raise

    def _all_drivers(self) -> Sequence[Driver]:
        return (self._bridges, HostDriver(), NoneDriver(), MacvlanDriver(self._netlink), IpvlanDriver(self._netlink))

    def tell_prune(self) -> None:
        """The event that ends a prune; networks take no space."""
        self._emit("network", "prune", "", {"reclaimed": "0"})

    def close(self, keep: bool = True) -> None:
        """Stop listening. `keep`: containers go on, everything stays; else every kernel object of the instance is removed."""
        if not self._is_open:
            return
        self._is_open = False
        self._watch.close()
        self._naming.close(stop=not keep)
        if not keep:
            self._tear_down()
        self._firewall.close(keep=keep)
        self._netlink.close()
        self._conntrack.close()

    def _restore(self) -> None:
        for network in self._records.networks():
            self._book.put(network)
        add_predefined(self)
        links = {link.name: link for link in self._netlink.links()}
        self._restore_endpoints(links)
        self._delete_strays(links)
        bridged = self._book.bridged()
        if not self._firewall.intact():
            for network in bridged:
                self._bridges.set_loopback_routing(network, False)
        for network in bridged:
            self._bridges.create(network, {endpoint.gateway for endpoint in self.in_use(network)})
            self._firewall.rules.networks[network.id] = self._bridges.rules(network)
        for network in self._book.all():
            if network.driver != "bridge" and not network.config_only:
                self._drivers[network.driver].create(network)
        self._firewall.rules.links = self._links.elements()
        self._firewall.assert_table()
        if self.options.ip_forward:
            self._forwarding.turn_on(4)
            if any(network.enable_ipv6 for network in bridged):
                self._forwarding.turn_on(6)
        for network in bridged:
            self._bridges.set_loopback_routing(network, True)
        self._upkeep.stand_beside_docker()

    def _restore_endpoints(self, links: dict[str, Link]) -> None:
        """Keep the endpoints whose link is there; forget those whose namespace ended or that were never plugged."""
        for network in self._book.all():
            self._addresses.add_network(network)
        dead = []
        for endpoint in self._records.endpoints():
            if self._book.find(endpoint.network_id) is None or (endpoint.host_interface and endpoint.host_interface not in links):
                dead.append(endpoint.id)
                continue
            self._book.endpoints[endpoint.id] = endpoint
            self._book.plugged.add(endpoint.id)
            self._addresses.restore(endpoint)
            self._publishing.restore(endpoint)
        if dead:
            self._records.remove_endpoints(dead).result()

    def _delete_strays(self, links: dict[str, Link]) -> None:
        """Delete links of ours on our bridges that no record names."""
        bridges = {links[network.bridge].index for network in self._book.bridged() if network.bridge in links}
        named = {endpoint.host_interface for endpoint in self._book.endpoints.values()}
        for link in links.values():
            looks_ours = link.name.startswith(VETH_PREFIX) and len(link.name) == VETH_LENGTH
            if link.master in bridges and looks_ours and link.name not in named:
                self._delete_link(link.name)

    def _tear_down(self) -> None:
        plugged = [endpoint.host_interface for endpoint in self._book.endpoints.values() if endpoint.host_interface]
        for name in (*plugged, *self._addresses.resting_links()):
            self._delete_link(name)
        for network in self._book.bridged():
            self._bridges.set_loopback_routing(network, False)
        self._forwarding.turn_off()
        for network in self._book.all():
            if not network.config_only:
                self._drivers[network.driver].remove(network)
        if self._beside_docker is not None:
            self._beside_docker.remove_rules()

    def reconcile(self, live: Collection[str], init_of: Callable[[str], Init] | None = None) -> None:
        """Release every endpoint of a container that is not among those that live: after a start, when the engine knows.

        `init_of` opens the network namespace of a container that runs, and its init; it raises OSError for others.
        """
        with self._book.lock:
            dead = {endpoint.container_id for endpoint in self._book.endpoints.values()} - set(live)
        for container_id in dead:
            for endpoint in self.endpoints(container_id):
                self.unplug(endpoint, now=True)
            self.release(container_id)
        self._naming.refresh(init_of)

    # ── what planning a network needs (`KnownNetworks`) ────────────────────────────────────────────────────────────────────

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
        self._book.put(network)

    def abandon(self, network: Network) -> None:
        """Forget the default bridge of other options, and remove its kernel objects."""
        self._drivers[network.driver].remove(network)
        self._records.remove_network(network.id)
        self._book.remove(network.id)

    # ── networks ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, ref: str) -> Network:
        """A network by id, name or unique beginning of its id. Raises NotFound, InvalidParameter when ambiguous."""
        return self._book.get(ref)

    def list(self) -> Sequence[Network]:
        """Every network, as they are now."""
        return self._book.all()

    def in_use(self, network: Network) -> Sequence[Endpoint]:
        """The endpoints of a network."""
        return self._book.endpoints_in(network.id)

    def subnet_use(self, network: Network) -> dict[str, tuple[int, int]]:
        """For each subnet: how many of its addresses are taken, and how many can still be given away."""
        return self._addresses.use(network.id)

    def address_use(self, network: Network, version: int) -> int:
        """How many of its addresses are in use, the gateway's included."""
        return self._addresses.used(network.id, version)

    def create(self, request: NetworkRequest) -> Network:
        """Make a network. Raises Conflict (name), Forbidden, InvalidParameter, NotFound (no pool), SystemFailure, nothing left."""
        with self._shaping:
            network = plan(self, request)
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
        self._addresses.add_network(network)
        self._book.put(network)
        self._upkeep.stand_beside_docker()

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
            self._withdraw(network)
            try:
                self._take_apart(network)
            except BaseException:
                self._book.put(network)
                raise
            self._addresses.remove_network(network.id)
            self._records.remove_network(network.id)
            self._upkeep.stand_beside_docker()
        self._emit("network", "destroy", network.id, {"name": network.name, "type": network.driver})

    def _withdraw(self, network: Network) -> None:
        """Take a network out of the book, so that nothing is plugged into it from here on. Raises Forbidden when it is needed."""
        if network.predefined:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        with self._book.lock:
            endpoints = self._book.endpoints_in(network.id)
            if endpoints:
                listed = ", ".join(f'name:"{endpoint.name}" id:"{endpoint.id[:12]}"' for endpoint in endpoints)
                raise Forbidden(f"error while removing network: network {network.name} has active endpoints ({listed})")
            if any(other.config_from == network.name for other in self._book.all()):
                raise Forbidden(f'configuration network "{network.name}" is in use')
            self._book.remove(network.id)

    # ── endpoints ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def endpoints(self, container_id: str) -> Sequence[Endpoint]:
        """A container's endpoints, the one that gives the default route first."""
        return self._book.endpoints_of(container_id)

    def resolver(self, networks: Sequence[Network]) -> str:
        """The nameserver for the resolv.conf of a container that is in these networks; empty: it has the host's."""
        return next((found for network in networks if (found := self._naming.resolver_for(network))), "")

    def allocate(self, network: Network, container_id: str, wish: EndpointWish) -> Endpoint:
        """Give a container a place in a network: addresses and a record; no kernel object yet.

        Raises InvalidParameter, Forbidden (in use, already connected), Unavailable (no address left), NotFound (removed meanwhile).
        """
        driver = self._drivers[network.driver]
        check_wish(network, wish)
        addresses = self._addresses.take(network, wish) if driver.addressed else {}
        endpoint = endpoint_for(network, container_id, wish, addresses, linked=driver.addressed, host_end=driver.has_host_end)
        try:
            endpoint = self._enter(network, endpoint)
            self._recording[endpoint.id] = self._records.put_endpoint(endpoint)
            if self._naming.resolver_for(network):
                self._naming.prepare()
        except BaseException:
            self._book.take_out(container_id, endpoint.id)
            self._addresses.give_back(endpoint)
            raise
        return endpoint

    def _enter(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """Put an endpoint into the book, with an interface name that is free in its container."""
        with self._book.lock:
            if self._book.find(network.id) is None:
                raise NotFound(f"network {network.name} not found")
            if network.config_only:
                raise Forbidden("configuration-only networks cannot be used to connect containers")
            others = self._book.endpoints_of(endpoint.container_id)
            if any(other.network_id == network.id for other in others):
                raise Forbidden(f"endpoint with name {endpoint.name} already exists in network {network.name}")
            if self._drivers[network.driver].addressed:
                interface = free_interface(network, endpoint.wish, {other.interface for other in others})
                endpoint = msgspec.structs.replace(endpoint, interface=interface)
            self._book.endpoints[endpoint.id] = endpoint
        return endpoint

    def plug(self, endpoint: Endpoint, netns_fd: int, *, pidfd: int) -> None:
        """Make the endpoint's interface in the container's namespace, up, with addresses, routes and names. Raises SystemFailure.

        By the `pidfd` of its init the name server lets go of the container when it ends, though no daemon is there to say so.
        """
        network = self.get(endpoint.network_id)
        if (recording := self._recording.pop(endpoint.id, None)) is not None:
            recording.result()
        first = self.endpoints(endpoint.container_id)[:1]
        default_route = bool(first) and first[0].id == endpoint.id
        self._drivers[network.driver].plug(network, endpoint, netns_fd, default_route=default_route)
        self._book.mark_plugged(endpoint.id, True)
        if not network.flag(ICC, default=True):
            self._links.refresh()
        self._naming.serve(endpoint.container_id, netns_fd, pidfd)

    def loopback(self, netns_fd: int) -> None:
        """Set lo up in a namespace that is plugged into nothing."""
        loopback_up(netns_fd)

    def unplug(self, endpoint: Endpoint, *, now: bool = False, netns_fd: int = -1) -> None:
        """Close the endpoint's ports. Its interface goes with the container's namespace.

        `now`: it goes at once, from a container that lives on; with that one's `netns_fd` the next network gives the default route.
        """
        network = self._book.find(endpoint.network_id)
        if not now or network is None:
            self._publishing.unpublish(endpoint)
            return
        self._publishing.move(self._book.current(endpoint))
        self._book.mark_plugged(endpoint.id, False)
        self._drivers[network.driver].unplug(network, endpoint, netns_fd)
        self._naming.tell(endpoint.container_id)
        others = [other for other in self.endpoints(endpoint.container_id) if other.id != endpoint.id]
        if netns_fd >= 0 and others:
            netns.inside(netns_fd, lambda: _reroute(others[0]))

    def release(self, container_id: str, endpoint_id: str = "") -> None:
        """Forget a container's endpoints (or one of them); their addresses rest until the links are gone. Idempotent."""
        found = self._book.take_out(container_id, endpoint_id)
        for endpoint in found:
            self._recording.pop(endpoint.id, None)
            self._publishing.unpublish(endpoint)
        if not endpoint_id:
            self._publishing.release(container_id)
        if not found:
            return
        self._links.refresh()
        self._naming.tell(container_id)
        for endpoint in found:
            if endpoint.host_interface:
                self._addresses.rest(endpoint)
                self._watch.soon(partial(self._free_if_gone, endpoint.host_interface))
            else:
                self._addresses.give_back(endpoint)
        self._records.remove_endpoints([endpoint.id for endpoint in found])

    def _free_if_gone(self, link: str) -> None:
        """A link may have gone before its addresses rested with it: then no report of that comes any more."""
        if self._netlink.find_link(link) is None:
            self._addresses.link_gone(link)

    def rename(self, container_id: str, name: str) -> None:
        """The container has another name: its endpoints show it, and it is found by it."""
        for endpoint in self.endpoints(container_id):
            renamed = msgspec.structs.replace(endpoint, wish=msgspec.structs.replace(endpoint.wish, container_name=name))
            self._book.replace(renamed)
            self._records.put_endpoint(renamed).result()
        self._naming.tell(container_id)

    def relink(self, container_id: str, reaches: tuple[tuple[str, Protocol, int], ...]) -> None:
        """The container's links on the default bridge have changed: see `EndpointWish.reaches`. Raises SystemFailure."""
        for endpoint in self.endpoints(container_id):
            if endpoint.network_name == "bridge" and endpoint.wish.reaches != reaches:
                changed = msgspec.structs.replace(endpoint, wish=msgspec.structs.replace(endpoint.wish, reaches=reaches))
                self._book.replace(changed)
                self._records.put_endpoint(changed).result()
                self._links.refresh()

    # ── ports ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def hold(self, bindings: Sequence[PortBinding], container_id: str) -> tuple[HeldPort, ...]:
        """Bind every host port, all or none. The sockets are the caller's; the port is entered as the container's until `release`.

        Raises SystemFailure in Docker's words when one is taken, InvalidParameter, NotImplementedHere (no such IP version there).
        """
        return self._publishing.hold(bindings, container_id)

    def publish(self, endpoint: Endpoint, held: Sequence[HeldPort], *, pidfd: int) -> None:
        """Lead the held host ports to the container; recorded first. `pidfd` as for `plug`. Raises SystemFailure."""
        self._publishing.publish(endpoint, held, pidfd)

    def exposures(self) -> Sequence[Exposure]:
        """Which ports can be reached from beyond their networks, by whom, and why."""
        names = {link.index: link.name for link in self._netlink.links()}
        around = Surroundings(
            addresses=[(names.get(index, str(index)), address) for index, address in self._netlink.addresses()],
            bridges=frozenset(network.bridge for network in self._book.bridged()),
            direct_routing=self.options.direct_routing,
            user_rules=len(self._firewall.user_rules()),
            other_firewalls=self._firewall.others_that_drop(),
        )
        pairs = [(network, endpoint) for network in self._book.all() for endpoint in self._book.endpoints_in(network.id)]
        return exposures(pairs, around)

    def _delete_link(self, name: str) -> None:
        link = self._netlink.find_link(name)
        if link is not None:
            try:
                self._netlink.delete_link(link.index)
            except OSError as error:
                log.info("interface %s was gone before it was deleted: %s", name, error)


def _reroute(endpoint: Endpoint) -> None:
    with Netlink() as netlink:
        link = netlink.find_link(endpoint.interface)
        if link is not None:
            add_default_routes(netlink, endpoint, link.index)
