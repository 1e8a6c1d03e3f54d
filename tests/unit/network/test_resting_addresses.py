"""Addresses on their way back."""

from __future__ import annotations

import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

from carrack.networks.addresses import Address, Addresses
from carrack.networks.endpoint import Endpoint, EndpointWish
from carrack.networks.network import IpamConfig, Network


def test_who_finds_a_network_full_waits_for_an_address_that_is_being_forgotten() -> None:
    """Between a link's end and the freedom of its address its connections are forgotten: that is no full network."""
    forgetting, go_on = threading.Event(), threading.Event()

    def forget(_: Collection[Address]) -> None:
        forgetting.set()
        assert go_on.wait(20)

    addresses = Addresses(forget, lambda _: None, lambda *_: False, lambda: None)
    pool = IpamConfig(subnet="10.0.0.0/30", gateway="10.0.0.1")
    network = Network(id="n", name="small", driver="bridge", created_nanoseconds=0, pools=(pool,))
    addresses.add_network(network)
    taken = addresses.take(network, EndpointWish())
    leaving = Endpoint(
        id="e", network_id="n", network_name="small", driver="bridge", container_id="c", ipv4=taken[4], host_interface="ve1"
    )
    addresses.rest(leaving)
    with ThreadPoolExecutor(2) as pool_of_threads:
        addresses.link_gone("ve1")
        gone = pool_of_threads.submit(addresses.sweep)
        assert forgetting.wait(20)
        second = pool_of_threads.submit(addresses.take, network, EndpointWish())
        assert not second.done()
        go_on.set()
        gone.result(20)
        assert second.result(20) == taken


def test_addresses_whose_links_are_gone_are_forgotten_together_and_at_once_when_one_is_wanted() -> None:
    forgotten: list[list[str]] = []
    later: list[bool] = []
    addresses = Addresses(
        lambda found: forgotten.append([str(each) for each in found]), lambda _: None, lambda *_: False, lambda: later.append(True)
    )
    pool = IpamConfig(subnet="10.0.0.0/29", gateway="10.0.0.1")
    network = Network(id="n", name="small", driver="bridge", created_nanoseconds=0, pools=(pool,))
    addresses.add_network(network)
    taken = [addresses.take(network, EndpointWish())[4] for _ in range(5)]
    for number, address in enumerate(taken[:2]):
        link = f"ve{number}"
        addresses.rest(
            Endpoint(
                id=link, network_id="n", network_name="small", driver="bridge", container_id="c", ipv4=address, host_interface=link
            )
        )
        addresses.link_gone(link)
    assert (forgotten, later) == ([], [True])  # one sweep is planned, for both
    assert addresses.take(network, EndpointWish(ipv4=taken[1]))[4] == taken[1]
    assert forgotten == [taken[:2]]
    assert addresses.take(network, EndpointWish())[4] == taken[0]
