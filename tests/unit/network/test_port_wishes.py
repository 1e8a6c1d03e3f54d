"""Published ports before anything is bound."""

from __future__ import annotations

import pytest

from carrack.errors import InvalidParameter, NotImplementedHere
from carrack.networks.endpoint import PortBinding
from carrack.networks.ports import PortTable, candidates, host_addresses


def test_no_host_address_means_every_one_of_the_endpoints_families() -> None:
    assert host_addresses(PortBinding(80), "", ipv4=True, ipv6=True) == ("0.0.0.0", "::")
    assert host_addresses(PortBinding(80), "", ipv4=True, ipv6=False) == ("0.0.0.0",)


def test_0_0_0_0_means_ipv4_only() -> None:
    assert host_addresses(PortBinding(80, host_ip="0.0.0.0"), "", ipv4=True, ipv6=True) == ("0.0.0.0",)


def test_the_default_address_stands_in_for_none() -> None:
    assert host_addresses(PortBinding(80), "127.0.0.1", ipv4=True, ipv6=True) == ("127.0.0.1",)


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="invalid hostIP: nowhere"):
        host_addresses(PortBinding(80, host_ip="nowhere"), "", ipv4=True, ipv6=True)


def test_an_ipv6_address_without_an_ipv6_network_is_refused_and_named() -> None:
    with pytest.raises(NotImplementedHere, match=r"cannot publish \[::1\]:8080: the network has no IPv6"):
        host_addresses(PortBinding(80, host_ip="::1", host_port="8080"), "", ipv4=True, ipv6=False)


@pytest.mark.parametrize("text", ["0-5", "10-5", "x", "70000", "-"])
def test_a_host_port_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid host port"):
        list(candidates(PortBinding(80, host_port=text)))


def test_a_range_is_tried_in_order() -> None:
    assert list(candidates(PortBinding(80, host_port="8000-8003"))) == [8000, 8001, 8002, 8003]


@pytest.mark.parametrize(
    ("held", "asked", "clash"),
    [
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("::", "0.0.0.0", False),
        ("::", "::1", True),
    ],
)
def test_addresses_clash_when_one_covers_the_other(held: str, asked: str, clash: bool) -> None:
    table = PortTable()
    table.add("tcp", held, 80, "container")
    assert (table.owner("tcp", asked, 80) is not None) is clash


def test_protocols_do_not_clash() -> None:
    table = PortTable()
    table.add("tcp", "0.0.0.0", 53, "container")
    assert table.owner("udp", "0.0.0.0", 53) is None
