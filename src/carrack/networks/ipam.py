"""Address management: which subnet a network gets, and which address an endpoint gets. Pure arithmetic, no kernel, no lock.

The lowest free address is given, as Docker does. An address that was given back may rest (its link may still answer for it) before
it is free again: the caller decides when.
"""

from __future__ import annotations

import heapq
import secrets
from collections.abc import Iterable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from carrack.errors import Forbidden, InvalidParameter, NotFound, Unavailable
from carrack.networks.network import IpamConfig
from carrack.networks.options import AddressPool

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network

NO_MORE_SUBNETS = "all predefined address pools have been fully subnetted"


class PoolExhausted(Unavailable):
    """Every address of the pool is in use."""


class AddressAllocator:
    """The addresses of one subnet, or of the range of it that may be given away."""

    def __init__(self, subnet: Prefix, *, within: Prefix | None = None, reserved: Iterable[Address] = ()) -> None:
        self.subnet = subnet
        area = within or subnet
        self._first = self._next = int(area.network_address)
        self._last = int(area.broadcast_address)
        self._make = IPv4Address if subnet.version == 4 else IPv6Address
        self._returned: list[int] = []
        self._used: set[int] = {int(address) for address in reserved}
        self._edges: set[int] = set()
        if subnet.num_addresses > 2:
            # The network's own number, and for IPv4 the broadcast address, are no host's (RFC 3021 spares /31, RFC 6164 /127).
            self._edges.add(int(subnet.network_address))
            if subnet.version == 4:
                self._edges.add(int(subnet.broadcast_address))

    def take(self) -> Address:
        """The lowest free address. Raises PoolExhausted."""
        while self._returned:
            number = heapq.heappop(self._returned)
            if number not in self._used:
                self._used.add(number)
                return self._make(number)
        while self._next <= self._last:
            number = self._next
            self._next += 1
            if number not in self._used and number not in self._edges:
                self._used.add(number)
                return self._make(number)
        raise PoolExhausted(
            "no available IPv4 addresses on this network's address pools"
            if self.subnet.version == 4
            else "no available addresses on this pool"
        )

    def claim(self, address: Address) -> bool:
        """Mark an address as used; False when it is already. Raises InvalidParameter when it is not a host of the subnet."""
        if address not in self.subnet or int(address) in self._edges:
            raise InvalidParameter(
                f"invalid endpoint settings: no configured subnet contains IP address {address}"
                if address not in self.subnet
                else f"invalid address {address}: it is the network or broadcast address of {self.subnet}"
            )
        if int(address) in self._used:
            return False
        self._used.add(int(address))
        return True

    def give_back(self, address: Address) -> None:
        """Make an address free again. Idempotent."""
        number = int(address)
        if number in self._used:
            self._used.discard(number)
            if number < self._next:
                heapq.heappush(self._returned, number)

    def in_use(self) -> int:
        """How many addresses of the subnet nobody can be given: those in use, the gateway's, and those that are no host's."""
        return len(self._used | self._edges)

    def available(self) -> int:
        """How many are left to be given away."""
        taken = sum(1 for number in self._used | self._edges if self._first <= number <= self._last)
        return self._last - self._first + 1 - taken

    def used(self) -> int:
        """How many addresses are in use."""
        return len(self._used)


def allocator_for(pool: IpamConfig) -> AddressAllocator:
    """The allocator of a network's recorded pool: its gateway and auxiliary addresses are taken already."""
    reserved = [ip_address(text) for text in (pool.gateway, *pool.auxiliary_addresses.values()) if text]
    within = ip_network(pool.ip_range) if pool.ip_range else None
    return AddressAllocator(pool.network, within=within, reserved=reserved)


def choose_subnet(pools: Sequence[AddressPool], taken: Iterable[Prefix], routed: Iterable[tuple[Prefix, str]]) -> IPv4Network:
    """The first IPv4 subnet of the default pools that overlaps neither another network nor a route of the host.

    `routed` gives each route with the words that name it. Raises NotFound with Docker's sentence, and the route in the way.
    """
    taken4 = [prefix for prefix in taken if prefix.version == 4]
    routes4 = [(prefix, name) for prefix, name in routed if prefix.version == 4 and prefix.prefixlen > 0]
    obstacle = ""
    for pool in pools:
        if pool.base.version != 4:
            continue
        for candidate in pool.base.subnets(new_prefix=max(pool.size, pool.base.prefixlen)):
            if any(candidate.overlaps(prefix) for prefix in taken4):
                continue
            blocking = next((name for prefix, name in routes4 if candidate.overlaps(prefix)), None)
            if blocking is None:
                return candidate
            obstacle = f": {candidate} collides with the host's route {blocking}"
    raise NotFound(NO_MORE_SUBNETS + obstacle)


def choose_subnet6(pools: Sequence[AddressPool], taken: Iterable[Prefix]) -> IPv6Network:
    """An IPv6 subnet: the first free one of the configured IPv6 pools, else a /64 of a random unique local prefix (RFC 4193)."""
    taken6 = [prefix for prefix in taken if prefix.version == 6]
    configured = [pool for pool in pools if pool.base.version == 6]
    for pool in configured:
        base = pool.base
        assert isinstance(base, IPv6Network)
        step = 1 << (128 - pool.size)
        for index in range(1 << min(pool.size - base.prefixlen, 20)):
            candidate = IPv6Network((int(base.network_address) + index * step, pool.size))
            if not any(candidate.overlaps(prefix) for prefix in taken6):
                return candidate
    if configured:
        raise NotFound(NO_MORE_SUBNETS)
    number = (0xFD << 120) | (secrets.randbits(40) << 80)
    return IPv6Network((number, 64))


def checked_pool(wish: IpamConfig) -> IpamConfig:
    """A subnet that was asked for, its fields checked against each other. Raises InvalidParameter in Docker's words."""
    try:
        subnet = ip_network(wish.subnet)
    except ValueError:
        try:
            loose = ip_network(wish.subnet, strict=False)
        except ValueError:
            raise InvalidParameter(f"invalid network config:\ninvalid subnet {wish.subnet}: invalid CIDR block notation") from None
        raise InvalidParameter(f"invalid network config:\ninvalid subnet {wish.subnet}: it should be {loose}") from None
    if wish.ip_range:
        _check_range(wish.ip_range, subnet)
    for label, text in (("gateway", wish.gateway), *(("auxiliary address", a) for a in wish.auxiliary_addresses.values())):
        if text:
            _check_member(label, text, subnet)
    return IpamConfig(
        subnet=str(subnet), ip_range=wish.ip_range, gateway=wish.gateway, auxiliary_addresses=dict(wish.auxiliary_addresses)
    )


def _check_range(text: str, subnet: Prefix) -> None:
    try:
        area = ip_network(text)
    except ValueError:
        raise InvalidParameter(f"invalid network config:\ninvalid ip-range {text}: invalid CIDR block notation") from None
    if area.version != subnet.version or not area.subnet_of(subnet):  # type: ignore[arg-type]
        raise InvalidParameter(f"invalid network config:\ninvalid ip-range {text}: parent subnet {subnet} doesn't contain ip-range")


def _check_member(label: str, text: str, subnet: Prefix) -> None:
    try:
        address = ip_address(text)
    except ValueError:
        raise InvalidParameter(f"invalid network config:\ninvalid {label} {text}: invalid address") from None
    if address not in subnet:
        raise InvalidParameter(
            f"invalid network config:\ninvalid {label} {text}: parent subnet {subnet} doesn't contain this address"
        )


def with_gateway(pool: IpamConfig) -> IpamConfig:
    """The pool with a gateway: the one it has, else the first address of its range that is free."""
    if pool.gateway:
        return pool
    gateway = allocator_for(pool).take()
    return IpamConfig(
        subnet=pool.subnet, ip_range=pool.ip_range, gateway=str(gateway), auxiliary_addresses=pool.auxiliary_addresses
    )


def refuse_overlap(pool: Prefix, taken: Iterable[Prefix]) -> None:
    """Raises Forbidden with Docker's sentence when another network has some of these addresses."""
    if any(pool.version == other.version and pool.overlaps(other) for other in taken):
        raise Forbidden("invalid pool request: Pool overlaps with other one on this address space")
