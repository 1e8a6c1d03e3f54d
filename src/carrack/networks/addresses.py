"""The addresses that endpoints have: taken, given back, and resting in between.

An address that is given back rests until its link is gone (RTM_DELLINK): deleting a link takes the kernel 15 ms, and the end of the
container's namespace does it anyway. Resting, it is given to nobody, so that two containers never answer for one address. Then the
connections that led to it are forgotten (`sweep`), of many addresses at once: that is a walk through all that the host tracks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from carrack.errors import Forbidden, InvalidParameter
from carrack.networks.endpoint import Endpoint, EndpointWish
from carrack.networks.ipam import AddressAllocator, PoolExhausted, allocator_for
from carrack.networks.network import Network

Address = IPv4Address | IPv6Address

_REST_LIMIT_SECONDS = 5.0
"""How long an order waits for a resting address: by far longer than a namespace takes to end."""


class Addresses:
    """Address use of all networks. Thread-safe; the lock is never held while the kernel is asked."""

    def __init__(
        self,
        forget: Callable[[Collection[Address]], None],
        delete_link: Callable[[str], None],
        is_had: Callable[[str, str], bool],
        sweep_later: Callable[[], None],
    ) -> None:
        """`sweep_later` has `sweep` called before long."""
        self._forget = forget
        self._delete_link = delete_link
        self._sweep_later = sweep_later
        self._is_had = is_had
        """Whether an endpoint of a network has an address: else it is merely on its way back."""
        self._allocators: dict[tuple[str, int], list[AddressAllocator]] = {}
        """By network and IP version, one for each subnet."""
        self._resting: dict[str, list[tuple[str, Address]]] = {}
        self._leaving: list[tuple[str, Address]] = []
        """Whose links are gone, and whose connections are not yet forgotten."""
        self._sweeping = 0
        """How many addresses' connections are being forgotten right now."""
        self._changed = threading.Condition()

    def add_network(self, network: Network) -> None:
        """Keep account of a network's pools."""
        with self._changed:
            for pool in network.pools:
                allocator = allocator_for(pool)
                self._allocators.setdefault((network.id, allocator.subnet.version), []).append(allocator)

    def use(self, network_id: str) -> dict[str, tuple[int, int]]:
        """For each subnet of a network: how many of its addresses are taken, and how many can still be given away."""
        with self._changed:
            return {
                str(allocator.subnet): (allocator.in_use(), allocator.available())
                for version in (4, 6)
                for allocator in self._allocators.get((network_id, version), ())
            }

    def remove_network(self, network_id: str) -> None:
        """Forget a network's pools and what is in use of them. Idempotent."""
        with self._changed:
            for version in (4, 6):
                self._allocators.pop((network_id, version), None)

    def restore(self, endpoint: Endpoint) -> None:
        """Mark the addresses of a recorded endpoint as used, unless its network has other subnets by now."""
        with self._changed:
            for address in _addresses(endpoint):
                allocator = self._having(endpoint.network_id, address)
                if allocator is not None:
                    allocator.claim(address)

    def _having(self, network_id: str, address: Address) -> AddressAllocator | None:
        """The allocator whose subnet an address is of."""
        allocators = self._allocators.get((network_id, address.version), ())
        return next((allocator for allocator in allocators if address in allocator.subnet), None)

    def take(self, network: Network, wish: EndpointWish) -> dict[int, str]:
        """An address per IP version of the network, the wished ones where there are wishes.

        Raises Forbidden ("Address already in use"), InvalidParameter (not of the subnet), PoolExhausted.
        """
        taken: dict[int, str] = {}
        try:
            for version, wished in ((4, wish.ipv4), (6, wish.ipv6)):
                allocators = self._allocators.get((network.id, version))
                if not allocators:
                    if wished:
                        raise InvalidParameter(f"invalid endpoint settings: no configured subnet contains IP address {wished}")
                    continue
                if wished:
                    allocator = self._having(network.id, ip_address(wished)) or allocators[0]
                    taken[version] = str(self._claim(network.id, allocator, ip_address(wished)))
                else:
                    taken[version] = str(self._take_any(allocators))
        except BaseException:
            self._free([(network.id, ip_address(text)) for text in taken.values()])
            raise
        return taken

    def _take_any(self, allocators: Sequence[AddressAllocator]) -> Address:
        """The lowest free address of the first subnet that has one. Raises PoolExhausted."""
        with self._changed:
            found: list[Address] = []
            if _try_take(allocators, found):
                return found[0]
        deadline = time.monotonic() + _REST_LIMIT_SECONDS
        while True:  # what rests will be free soon
            self.sweep()
            with self._changed:
                if _try_take(allocators, found):
                    return found[0]
                left = deadline - time.monotonic()
                if left <= 0 or not (self._resting or self._leaving or self._sweeping):
                    return allocators[-1].take()
                if not self._leaving:
                    self._changed.wait(left)

    def _claim(self, network_id: str, allocator: AddressAllocator, address: Address) -> Address:
        """Take exactly this address; often it is wanted by the same container that starts again, whose last run is still ending."""
        deadline = time.monotonic() + _REST_LIMIT_SECONDS
        while True:
            with self._changed:
                if allocator.claim(address):
                    return address
                resting_on = next((link for link, ours in self._resting.items() if (network_id, address) in ours), "")
                if not resting_on and not self._leaving:
                    left = deadline - time.monotonic()
                    if self._is_had(network_id, str(address)) or left <= 0:
                        raise Forbidden("Address already in use")
                    self._changed.wait(left)  # its endpoint is being released this moment
                    continue
            if resting_on:  # deleting the link does not wait for the end of the namespace
                self._delete_link(resting_on)
                self.link_gone(resting_on)
            self.sweep()

    def rest(self, endpoint: Endpoint) -> None:
        """Give the endpoint's addresses back once its link is gone. The caller then checks that the link is there at all."""
        with self._changed:
            self._resting[endpoint.host_interface] = [(endpoint.network_id, address) for address in _addresses(endpoint)]
            self._changed.notify_all()

    def link_gone(self, name: str) -> None:
        """A link is no more: what rested with it is free after the next sweep."""
        with self._changed:
            freed = self._resting.pop(name, None)
            if freed is None:
                return
            first = not self._leaving
            self._leaving += freed
            self._changed.notify_all()
        if first:
            self._sweep_later()

    def sweep(self) -> None:
        """Forget the connections that led to addresses whose links are gone, and free those."""
        with self._changed:
            leaving, self._leaving = self._leaving, []
            self._sweeping += len(leaving)
        if not leaving:
            return
        try:
            self._forget([address for _, address in leaving])
        finally:
            with self._changed:
                self._sweeping -= len(leaving)
                self._free(leaving)

    def resting_links(self) -> list[str]:
        """Interfaces whose addresses rest until the kernel says that they are gone."""
        with self._changed:
            return list(self._resting)

    def give_back(self, endpoint: Endpoint) -> None:
        """Free the addresses of an endpoint that never had a link."""
        self._free([(endpoint.network_id, address) for address in _addresses(endpoint)])

    def used(self, network_id: str, version: int) -> int:
        """How many addresses of a network are in use, the gateway's included."""
        with self._changed:
            return sum(allocator.used() for allocator in self._allocators.get((network_id, version), ()))

    def _free(self, addresses: list[tuple[str, Address]]) -> None:
        with self._changed:
            for network_id, address in addresses:
                if allocator := self._having(network_id, address):
                    allocator.give_back(address)
            self._changed.notify_all()


def _addresses(endpoint: Endpoint) -> list[Address]:
    return [ip_address(text) for text in (endpoint.ipv4, endpoint.ipv6) if text]


def _try_take(allocators: Sequence[AddressAllocator], found: list[Address]) -> bool:
    for allocator in allocators:
        try:
            found.append(allocator.take())
        except PoolExhausted:
            continue
        return True
    return False
