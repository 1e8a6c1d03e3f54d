"""The default bridge network and published ports, with real traffic."""

from __future__ import annotations

import os
import socket
import threading
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network

import pytest

from carrack.errors import InvalidParameter, SystemFailure
from carrack.kernel import conntrack, netns, sysctl
from carrack.kernel.conntrack import Conntrack
from carrack.kernel.netlink import Netlink
from carrack.networks.endpoint import EndpointWish, PortBinding
from carrack.networks.networks import Networks
from carrack.networks.options import NetworkOptions
from tests.kernel.network.lab import MACHINE4, OUTSIDE4, SECOND4, Box, Lab, reach, silent
from tests.rig.waiting import until

pytestmark = pytest.mark.root


@pytest.fixture
def networks(lab: Lab) -> Networks:
    return lab.open()


@pytest.fixture
def web(lab: Lab, networks: Networks) -> Box:
    """A container that serves port 80 by tcp and 53 by udp, published everywhere on 8080 and 5353."""
    bindings = (PortBinding(80, "tcp", "", "8080"), PortBinding(53, "udp", "", "5353"))
    box = lab.start(networks, "web", ports=bindings)
    lab.echo(box.place, 80)
    lab.echo(box.place, 53, "udp")
    return box


@pytest.fixture
def client(lab: Lab, networks: Networks, web: Box) -> Box:
    """Another container of the same network."""
    return lab.start(networks, "client")


# ── addresses ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_container_gets_the_lowest_free_address_and_the_bridge_as_its_gateway(web: Box) -> None:
    assert (web.endpoint.ipv4, web.endpoint.prefix, web.endpoint.gateway) == ("172.17.0.2", 16, "172.17.0.1")


def test_the_mac_follows_from_the_address(web: Box) -> None:
    assert web.endpoint.mac == "02:42:ac:11:00:02"


def test_inside_there_is_eth0_with_that_address_and_lo_and_nothing_else(web: Box) -> None:
    with netns.inside(web.place, Netlink) as inside:
        assert [(link.name, link.up) for link in inside.links()] == [("lo", True), ("eth0", True)]
        found = [str(interface) for _, interface in inside.addresses() if interface.version == 4]
    assert found == ["127.0.0.1/8", "172.17.0.2/16"]


def test_an_address_is_free_again_once_its_namespace_has_ended(lab: Lab, networks: Networks) -> None:
    first = lab.start(networks, "first")
    networks.unplug(first.endpoint)
    networks.release(first.id)
    during = lab.start(networks, "during")
    assert during.endpoint.ipv4 != first.endpoint.ipv4, "it rests while its link is there"
    first.end()
    with_event = networks._addresses._changed
    with with_event:
        assert with_event.wait_for(lambda: not networks._addresses._resting, 15)
    networks._addresses.sweep()
    assert lab.start(networks, "later").endpoint.ipv4 == first.endpoint.ipv4


def test_containers_reach_each_other_by_address(web: Box, client: Box) -> None:
    assert reach(client.place, web.endpoint.ipv4, 80) == client.endpoint.ipv4


# ── out, and in by published ports ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_container_reaches_the_outside_as_the_machine(lab: Lab, client: Box) -> None:
    lab.echo(lab.outside, 9000)
    assert reach(client.place, OUTSIDE4, 9000) == MACHINE4


# CVE-2021-20199
@pytest.mark.parametrize(("port", "kind"), [(8080, "tcp"), (5353, "udp")])
def test_a_published_port_answers_outside_and_sees_who_asks(lab: Lab, web: Box, port: int, kind: str) -> None:
    assert reach(lab.outside, MACHINE4, port, kind) == OUTSIDE4


@pytest.mark.parametrize("address", [MACHINE4, SECOND4, "127.0.0.1", "127.0.0.9", "172.17.0.1"])
@pytest.mark.parametrize(("port", "kind"), [(8080, "tcp"), (5353, "udp")])
def test_a_published_port_answers_the_machine_at_each_of_its_addresses(web: Box, address: str, port: int, kind: str) -> None:
    assert reach(None, address, port, kind)


@pytest.mark.parametrize("address", [MACHINE4, "172.17.0.1"])
def test_a_published_port_answers_a_neighbour(web: Box, client: Box, address: str) -> None:
    assert reach(client.place, address, 8080)
    assert reach(client.place, address, 5353, "udp")


def test_a_published_port_answers_its_own_container(web: Box) -> None:
    assert reach(web.place, MACHINE4, 8080)
    assert reach(web.place, MACHINE4, 5353, "udp")


def test_a_port_published_on_one_address_answers_there_only(lab: Lab, networks: Networks) -> None:
    box = lab.start(networks, "one", ports=(PortBinding(80, "tcp", SECOND4, "8081"),))
    lab.echo(box.place, 80)
    assert reach(lab.outside, SECOND4, 8081) == OUTSIDE4
    assert silent([(lab.outside, MACHINE4, 8081, "tcp"), (None, "127.0.0.1", 8081, "tcp")])


def test_a_range_takes_the_first_port_that_is_free(lab: Lab, networks: Networks) -> None:
    with socket.create_server(("0.0.0.0", 7000)):
        box = lab.start(networks, "ranged", ports=(PortBinding(80, "tcp", "", "7000-7005"),))
    assert [port.host_port for port in box.held] == [7001]


def test_an_ephemeral_port_is_chosen_told_and_answers(lab: Lab, networks: Networks) -> None:
    box = lab.start(networks, "any", ports=(PortBinding(80),))
    lab.echo(box.place, 80)
    assert reach(lab.outside, MACHINE4, box.held[0].host_port) == OUTSIDE4


def test_an_ephemeral_port_is_the_same_after_a_restart_of_the_container(lab: Lab, networks: Networks) -> None:
    box = lab.start(networks, "any", ports=(PortBinding(80), PortBinding(81)))
    before = [port.host_port for port in box.held]
    networks.release(box.id)
    closing = threading.Timer(0.05, box.end)
    closing.start()
    again = lab.start(networks, "any", ports=(PortBinding(80), PortBinding(81)))
    closing.join()
    assert [port.host_port for port in again.held] == before


def test_an_ephemeral_port_is_the_preferred_one_while_that_is_free(lab: Lab, networks: Networks) -> None:
    box = lab.start(networks, "again", ports=(PortBinding(80, preferred_port=49200),))
    assert box.held[0].host_port == 49200


def test_udp_that_flowed_before_its_port_was_published_is_led_to_the_container(lab: Lab, networks: Networks) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as early:
        early.bind(("", 0))
        caller = netns.inside(lab.outside, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        with caller:
            caller.settimeout(3)
            listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            listener.bind((MACHINE4, 5454))
            caller.sendto(b"?", (MACHINE4, 5454))
            assert listener.recvfrom(10)[0] == b"?"  # now it is tracked, untranslated
            listener.close()
            box = lab.start(networks, "late", ports=(PortBinding(53, "udp", "", "5454"),))
            lab.echo(box.place, 53, "udp")
            caller.sendto(b"?", (MACHINE4, 5454))
            assert caller.recv(100).decode() == OUTSIDE4


@pytest.mark.parametrize("flows_per_address", [0, 5000], ids=["many flows", "few flows"])
def test_the_connections_of_a_container_are_forgotten_soon_after_its_end_and_no_others(
    lab: Lab, networks: Networks, monkeypatch: pytest.MonkeyPatch, flows_per_address: int
) -> None:
    monkeypatch.setattr(conntrack, "_FLOWS_PER_ADDRESS", flows_per_address)
    stays, goes = lab.start(networks, "stays"), lab.start(networks, "goes", ports=(PortBinding(80, "tcp", "", "8099"),))
    lab.echo(lab.outside, 80)
    server = lab.echo(goes.place, 80)
    tracked = Conntrack()
    for box in (stays, goes):
        reach(box.place, OUTSIDE4, 80)  # begun by the container
    reach(lab.outside, MACHINE4, 8099)  # translated to it
    assert [flows_of(tracked, box) for box in (stays, goes)] == [1, 2]
    networks.release(goes.id)
    goes.end()
    server.close()
    until(lambda: flows_of(tracked, goes) == 0, "the connections of the one that has ended to be forgotten")
    assert flows_of(tracked, stays) == 1
    tracked.forget_addresses([ip_address(stays.endpoint.ipv4)])
    assert flows_of(tracked, stays) == 0
    tracked.close()


def flows_of(tracked: Conntrack, box: Box) -> int:
    """How many connections a container began or was led to; the kernel may track others of its own."""
    address = ip_address(box.endpoint.ipv4).packed
    return len(tracked._find(socket.AF_INET, b"", lambda flow: address in conntrack._sources(flow)))


# ── conflicts ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_port_of_another_container_is_refused_in_dockers_words(lab: Lab, networks: Networks, web: Box) -> None:
    box = lab.start(networks, "second")
    with pytest.raises(SystemFailure) as refused:
        networks.hold([PortBinding(80, "tcp", "", "8080")], box.id)
    assert refused.value.message == (
        f"driver failed programming external connectivity on endpoint second ({box.endpoint.id}): "
        "Bind for 0.0.0.0:8080 failed: port is already allocated"
    )


def test_a_port_of_a_process_is_refused_in_dockers_words(lab: Lab, networks: Networks) -> None:
    box = lab.start(networks, "second")
    with socket.create_server(("127.0.0.1", 8088)), pytest.raises(SystemFailure) as refused:
        networks.hold([PortBinding(80, "tcp", "", "8088")], box.id)
    assert refused.value.message == (
        f"driver failed programming external connectivity on endpoint second ({box.endpoint.id}): "
        "failed to bind host port 0.0.0.0:8088/tcp: address already in use"
    )


def test_a_host_address_that_the_machine_has_not_is_refused(lab: Lab, networks: Networks) -> None:
    box = lab.start(networks, "second")
    with pytest.raises(SystemFailure, match=r"failed to bind host port 203\.0\.113\.9:80/tcp: cannot assign requested address"):
        networks.hold([PortBinding(80, "tcp", "203.0.113.9", "80")], box.id)


def test_one_port_refused_leaves_none_held(lab: Lab, networks: Networks, web: Box) -> None:
    box = lab.start(networks, "second")
    with pytest.raises(SystemFailure):
        networks.hold([PortBinding(80, "tcp", "", "8090"), PortBinding(81, "tcp", "", "8080")], box.id)
    socket.create_server(("0.0.0.0", 8090)).close()


def test_a_port_that_was_held_and_never_published_is_free_after_release(lab: Lab, networks: Networks) -> None:
    box = lab.start(networks, "failed")
    for port in networks.hold([PortBinding(80, "tcp", "", "8090")], box.id):
        port.close()
    networks.release(box.id)
    assert lab.start(networks, "next", ports=(PortBinding(80, "tcp", "", "8090"),)).held[0].host_port == 8090


def test_a_container_that_restarts_waits_for_its_last_run_to_close_its_port(lab: Lab, networks: Networks, web: Box) -> None:
    networks.unplug(web.endpoint)
    networks.release(web.id)
    closing = threading.Timer(0.1, web.end)  # what its shim does a moment later
    closing.start()
    again = lab.start(networks, "web", ports=(PortBinding(80, "tcp", "", "8080"),))
    closing.join()
    assert again.held[0].host_port == 8080


def test_nobody_else_can_have_a_published_port(web: Box) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        socket.create_server(("0.0.0.0", 8080), reuse_port=False).close()


def test_a_published_port_is_free_again_after_the_container(lab: Lab, networks: Networks, web: Box) -> None:
    networks.unplug(web.endpoint)
    networks.release(web.id)
    web.end()
    again = lab.start(networks, "again", ports=(PortBinding(80, "tcp", "", "8080"),))
    lab.echo(again.place, 80)
    assert reach(lab.outside, MACHINE4, 8080) == OUTSIDE4


def test_a_connection_left_in_time_wait_does_not_hinder_a_port(lab: Lab, networks: Networks) -> None:
    with socket.create_server((MACHINE4, 8099)) as server:
        caller = netns.inside(lab.outside, lambda: socket.create_connection((MACHINE4, 8099), 3))
        server.accept()[0].close()  # the server's side closes first: TIME_WAIT is here
        assert caller.recv(1) == b""
        caller.close()
    box = lab.start(networks, "second", ports=(PortBinding(80, "tcp", "", "8099"),))
    lab.echo(box.place, 80)
    assert reach(lab.outside, MACHINE4, 8099) == OUTSIDE4


# ── packet size, none ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_packet_size_is_that_of_the_way_out(lab: Lab) -> None:
    uplink = lab.kernel.get_link("uplink")
    lab.kernel.set_link(uplink.index, mtu=1400)
    lab.kernel.add_route(ip_network("0.0.0.0/0"), gateway=ip_address(OUTSIDE4))
    networks = lab.open()
    box = lab.start(networks, "small")
    with netns.inside(box.place, Netlink) as inside:
        assert inside.get_link("eth0").mtu == 1400


def test_a_container_without_network_has_loopback_only(lab: Lab, networks: Networks) -> None:
    box = lab.start(networks, "alone", "none")
    with netns.inside(box.place, Netlink) as inside:
        assert [(link.name, link.up) for link in inside.links()] == [("lo", True)]


def test_a_wished_mac_is_given(lab: Lab, networks: Networks) -> None:
    box = lab.start(networks, "wished", wish=EndpointWish(container_name="wished", mac="02:11:22:33:44:55"))
    with netns.inside(box.place, Netlink) as inside:
        assert inside.get_link("eth0").mac == "02:11:22:33:44:55"


def test_the_bridge_is_where_bip_says(lab: Lab) -> None:
    bip = ip_interface("10.99.0.1/24")
    networks = lab.open(NetworkOptions(bip=bip))  # type: ignore[arg-type]
    assert lab.start(networks, "there").endpoint.ipv4 == "10.99.0.2"
    assert sysctl.read("net", "ipv4", "conf", "carrack0", "route_localnet") == "1"


def test_the_default_route_leads_where_default_gateway_says(lab: Lab) -> None:
    bip, bip6 = ip_interface("10.99.0.1/24"), ip_interface("fd00:99::1/64")
    ways = (IPv4Address("10.99.0.254"), IPv6Address("fd00:99::fe"))
    options = NetworkOptions(bip=bip, ipv6=True, bip6=bip6, default_gateway=ways[0], default_gateway_v6=ways[1])  # type: ignore[arg-type]
    networks = lab.open(options)
    box = lab.start(networks, "there")
    with netns.inside(box.place, Netlink) as inside:
        assert {route.gateway for route in inside.routes() if route.destination.prefixlen == 0} == set(ways)
    assert networks.get("bridge").pools[0].auxiliary_addresses == {"DefaultGatewayIPv4": "10.99.0.254"}
    assert networks.get("bridge").pools[0].gateway == "10.99.0.1", "the bridge has its own address"
    lab.shut(networks, keep=False)
    networks = lab.open(NetworkOptions(bip=bip))  # type: ignore[arg-type]
    assert lab.start(networks, "again").endpoint.gateway == "10.99.0.1"
    lab.shut(networks, keep=False)
    with pytest.raises(InvalidParameter, match=r"default gateway ip 10.98.0.1 must be part of the network 10.99.0.0/24"):
        lab.open(NetworkOptions(bip=bip, default_gateway=IPv4Address("10.98.0.1")))  # type: ignore[arg-type]


def test_without_icc_a_link_opens_the_exposed_ports_of_one_for_the_other(lab: Lab) -> None:
    if not os.path.exists("/proc/sys/net/bridge"):
        pytest.skip("this kernel has no br_netfilter")
    sysctl.write(1, "net", "bridge", "bridge-nf-call-iptables")
    networks = lab.open(NetworkOptions(icc=False))
    web = lab.start(networks, "web")
    for port in (80, 81):
        lab.echo(web.place, port)
    linked = lab.start(networks, "linked", wish=EndpointWish(container_name="linked", reaches=((web.id, "tcp", 80),)))
    lab.echo(linked.place, 80)
    other = lab.start(networks, "other")

    def check() -> None:
        assert reach(linked.place, web.endpoint.ipv4, 80) == linked.endpoint.ipv4
        closed = [(linked, web, 81), (web, linked, 80), (other, web, 80)]
        assert silent([(one.place, two.endpoint.ipv4, port, "tcp") for one, two, port in closed])

    check()
    lab.shut(networks, keep=True)
    networks = lab.open(NetworkOptions(icc=False))
    check()
    networks.relink(linked.id, ())
    assert silent([(linked.place, web.endpoint.ipv4, 80, "tcp")])
    networks.relink(linked.id, ((web.id, "tcp", 80),))
    networks.unplug(web.endpoint)
    networks.release(web.id)
    assert networks._firewall.rules.links == frozenset(), "its address may be another's next"
