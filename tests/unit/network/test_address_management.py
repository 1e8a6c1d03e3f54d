"""Address arithmetic of networks."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrack.errors import InvalidParameter, NotFound
from carrack.networks.ipam import AddressAllocator, PoolExhausted, checked_pool, choose_subnet, choose_subnet6, with_gateway
from carrack.networks.network import IpamConfig
from carrack.networks.options import DEFAULT_ADDRESS_POOLS, AddressPool


def test_the_networks_number_and_its_broadcast_are_nobodys() -> None:
    allocator = AddressAllocator(ip_network("10.0.0.0/30"))
    assert [str(allocator.take()), str(allocator.take())] == ["10.0.0.1", "10.0.0.2"]
    with pytest.raises(PoolExhausted):
        allocator.take()


def test_both_addresses_of_a_point_to_point_subnet_are_given() -> None:
    allocator = AddressAllocator(ip_network("10.0.0.0/31"))
    assert [str(allocator.take()), str(allocator.take())] == ["10.0.0.0", "10.0.0.1"]


def test_the_lowest_address_that_was_given_back_comes_first() -> None:
    allocator = AddressAllocator(ip_network("10.0.0.0/24"))
    given_out = [allocator.take() for _ in range(5)]
    allocator.give_back(given_out[3])
    allocator.give_back(given_out[1])
    assert [allocator.take(), allocator.take()] == [given_out[1], given_out[3]]


def test_a_claimed_address_is_skipped() -> None:
    allocator = AddressAllocator(ip_network("10.0.0.0/24"))
    assert allocator.claim(ip_address("10.0.0.1"))
    assert str(allocator.take()) == "10.0.0.2"


def test_an_address_is_claimed_once() -> None:
    allocator = AddressAllocator(ip_network("10.0.0.0/24"))
    assert allocator.claim(ip_address("10.0.0.9"))
    assert not allocator.claim(ip_address("10.0.0.9"))


def test_an_address_of_another_subnet_cannot_be_claimed() -> None:
    with pytest.raises(InvalidParameter, match=r"no configured subnet contains IP address 10\.9\.0\.1"):
        AddressAllocator(ip_network("10.0.0.0/24")).claim(ip_address("10.9.0.1"))


@given(st.lists(st.one_of(st.just("take"), st.integers(0, 13)), max_size=60))
def test_no_address_is_ever_had_twice(steps: list[str | int]) -> None:
    """Taking and giving back in any order; the model is a set."""
    allocator = AddressAllocator(ip_network("10.0.0.0/28"))
    had: set[IPv4Address] = set()
    for step in steps:
        if step == "take":
            try:
                address = allocator.take()
            except PoolExhausted:
                assert len(had) == 14
                continue
            assert address not in had
            assert address == min(set(ip_network("10.0.0.0/28").hosts()) - had)
            had.add(address)  # type: ignore[arg-type]
        else:
            address = ip_address(f"10.0.0.{int(step) + 1}")
            allocator.give_back(address)
            had.discard(address)


def test_the_first_default_pool_is_dockers() -> None:
    assert str(choose_subnet(DEFAULT_ADDRESS_POOLS, [], [])) == "172.17.0.0/16"


def test_behind_dockers_thirty_one_default_networks_there_are_more() -> None:
    taken: list[IPv4Network] = []
    for _ in range(31):
        taken.append(choose_subnet(DEFAULT_ADDRESS_POOLS, taken, []))
    assert str(taken[-1]) == "192.168.240.0/20"
    assert str(choose_subnet(DEFAULT_ADDRESS_POOLS, taken, [])) == "10.128.0.0/24"
    with pytest.raises(NotFound, match="all predefined address pools have been fully subnetted"):
        choose_subnet(DEFAULT_ADDRESS_POOLS[:16], taken, [])


def test_a_subnet_that_overlaps_a_route_is_passed_over() -> None:
    routed = [(ip_network("172.17.3.0/24"), "172.17.3.0/24 dev eth9"), (ip_network("0.0.0.0/0"), "default")]
    assert str(choose_subnet(DEFAULT_ADDRESS_POOLS, [], routed)) == "172.18.0.0/16"


def test_an_ipv6_subnet_is_a_random_unique_local_one() -> None:
    first, second = choose_subnet6((), []), choose_subnet6((), [])
    assert first != second
    assert first.prefixlen == 64
    assert first.subnet_of(ip_network("fd00::/8"))  # type: ignore[arg-type]


def test_ipv6_pools_are_cut_in_order() -> None:
    pools = (AddressPool(ip_network("fd12::/56"), 64),)
    first = choose_subnet6(pools, [])
    assert [str(first), str(choose_subnet6(pools, [first]))] == ["fd12::/64", "fd12:0:0:1::/64"]


def test_the_gateway_is_the_first_free_address_of_the_range() -> None:
    pool = IpamConfig(subnet="10.0.0.0/16", ip_range="10.0.5.0/24", auxiliary_addresses={"a": "10.0.5.0"})
    assert with_gateway(pool).gateway == "10.0.5.1"


@pytest.mark.parametrize(
    ("pool", "complaint"),
    [
        (IpamConfig(subnet="10.0.0.1/24"), "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24"),
        (IpamConfig(subnet="ten"), "invalid subnet ten: invalid CIDR block notation"),
        (IpamConfig(subnet="10.0.0.0/24", ip_range="10.1.0.0/24"), "parent subnet 10.0.0.0/24 doesn't contain ip-range"),
        (IpamConfig(subnet="10.0.0.0/24", gateway="10.1.0.1"), "parent subnet 10.0.0.0/24 doesn't contain this address"),
        (IpamConfig(subnet="10.0.0.0/24", gateway="x"), "invalid gateway x: invalid address"),
        (IpamConfig(subnet="10.0.0.0/24", auxiliary_addresses={"a": "fd00::1"}), "doesn't contain this address"),
    ],
)
def test_a_pool_that_contradicts_itself_is_refused(pool: IpamConfig, complaint: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        checked_pool(pool)
    assert complaint in refused.value.message


def test_a_subnet_says_how_full_it_is() -> None:
    allocator = AddressAllocator(ip_network("10.1.0.0/24"), reserved=[ip_address("10.1.0.1")])
    assert (allocator.in_use(), allocator.available()) == (3, 253)
    allocator.take()
    assert (allocator.in_use(), allocator.available()) == (4, 252)
    part = AddressAllocator(ip_network("10.1.0.0/24"), within=ip_network("10.1.0.128/25"), reserved=[ip_address("10.1.0.1")])
    assert (part.in_use(), part.available()) == (3, 127)
