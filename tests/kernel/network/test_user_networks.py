"""Networks that users make: isolation, internal, icc, IPv6, options, joining and leaving, with real traffic."""

from __future__ import annotations

import os
import threading
import time
from ipaddress import ip_network

import pytest

from carrack.errors import Conflict, Forbidden, InvalidParameter, NotFound
from carrack.kernel import netns, sysctl
from carrack.kernel.netlink import Netlink
from carrack.networks.creation import NetworkRequest
from carrack.networks.endpoint import EndpointWish, PortBinding
from carrack.networks.network import IpamConfig
from carrack.networks.networks import Networks
from carrack.networks.options import AddressPool, NetworkOptions
from carrack.networks.ruleset import Forwarding
from tests.kernel.network.lab import MACHINE4, MACHINE6, OUTSIDE4, OUTSIDE6, Box, Lab, reach, silent
from tests.kernel.network.test_names import eventually

pytestmark = pytest.mark.root


@pytest.fixture
def networks(lab: Lab) -> Networks:
    return lab.open()


def make(networks: Networks, name: str, subnet: str = "", **rest: object) -> None:
    pools = (IpamConfig(subnet=subnet),) if subnet else ()
    networks.create(NetworkRequest(name=name, pools=pools, **rest))  # type: ignore[arg-type]


# ── making and removing ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_network_gets_the_next_pool_and_a_bridge(lab: Lab, networks: Networks) -> None:
    make(networks, "mine")
    network = networks.get("mine")
    assert network.pools == (IpamConfig(subnet="172.18.0.0/16", gateway="172.18.0.1"),)
    assert lab.kernel.get_link(f"ck-{network.id[:12]}").up


def test_a_removed_network_leaves_no_bridge_and_its_pool_is_free(lab: Lab, networks: Networks) -> None:
    make(networks, "mine")
    bridge = networks.get("mine").bridge
    networks.remove("mine")
    assert lab.kernel.find_link(bridge) is None
    assert bridge not in lab.nft.run("list table inet carrack")
    make(networks, "next")
    assert networks.get("next").pools[0].subnet == "172.18.0.0/16"


def test_a_name_is_had_once(networks: Networks) -> None:
    make(networks, "mine")
    with pytest.raises(Conflict, match="network with name mine already exists"):
        make(networks, "mine")


def test_a_subnet_is_had_once(networks: Networks) -> None:
    make(networks, "mine", "10.5.0.0/16")
    with pytest.raises(Forbidden, match="invalid pool request: Pool overlaps with other one on this address space"):
        make(networks, "other", "10.5.7.0/24")


@pytest.mark.parametrize("name", ["bridge", "host", "none"])
def test_a_predefined_network_cannot_be_removed(networks: Networks, name: str) -> None:
    with pytest.raises(Forbidden, match=f"{name} is a pre-defined network and cannot be removed"):
        networks.remove(name)


def test_a_network_with_containers_cannot_be_removed(lab: Lab, networks: Networks) -> None:
    make(networks, "mine")
    box = lab.start(networks, "web", "mine")
    with pytest.raises(Forbidden) as refused:
        networks.remove("mine")
    assert refused.value.message == (
        f'error while removing network: network mine has active endpoints (name:"web" id:"{box.endpoint.id[:12]}")'
    )


def test_a_network_that_is_not_there_is_not_found(networks: Networks) -> None:
    with pytest.raises(NotFound, match="network nope not found"):
        networks.get("nope")


def test_a_subnet_of_the_hosts_own_is_refused_and_nothing_is_left(lab: Lab, networks: Networks) -> None:
    before = lab.kernel.links()
    with pytest.raises(InvalidParameter, match=r"subnet 198\.51\.100\.0/24 collides with the host's route"):
        make(networks, "mine", "198.51.100.0/24")
    assert lab.kernel.links() == before
    assert networks._records.networks() == list(networks.list())


def test_exhausted_pools_are_told_in_dockers_words(lab: Lab) -> None:
    pools = (AddressPool(ip_network("10.50.0.0/24"), 25),)
    networks = lab.open(NetworkOptions(default_address_pools=pools))
    make(networks, "second")
    with pytest.raises(NotFound, match="all predefined address pools have been fully subnetted"):
        make(networks, "third")


def test_a_network_outlives_the_daemon(lab: Lab, networks: Networks) -> None:
    make(networks, "mine", "10.5.0.0/16", labels={"a": "b"})
    before = networks.get("mine")
    lab.shut(networks, keep=True)
    assert lab.open().get("mine") == before


def test_after_a_reboot_bridges_are_made_again(lab: Lab, networks: Networks) -> None:
    make(networks, "mine", "10.5.0.0/16")
    lab.shut(networks, keep=True)
    lab.nft.run("flush ruleset")
    for name in ("carrack0", lab_bridge(lab, "10.5.0.1")):
        lab.kernel.delete_link(lab.kernel.get_link(name).index)
    networks = lab.open()
    lab.echo(lab.outside, 9000)
    assert reach(lab.start(networks, "web", "mine").place, OUTSIDE4, 9000) == MACHINE4


def lab_bridge(lab: Lab, gateway: str) -> str:
    names = {link.index: link.name for link in lab.kernel.links()}
    return next(names[index] for index, interface in lab.kernel.addresses() if str(interface.ip) == gateway)


# ── addresses ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_wished_address_is_given_in_a_configured_subnet(lab: Lab, networks: Networks) -> None:
    make(networks, "mine", "10.5.0.0/16")
    assert lab.start(networks, "web", "mine", wish=EndpointWish(ipv4="10.5.9.9")).endpoint.ipv4 == "10.5.9.9"


def test_a_wished_address_that_is_taken_is_refused(lab: Lab, networks: Networks) -> None:
    make(networks, "mine", "10.5.0.0/16")
    lab.start(networks, "web", "mine", wish=EndpointWish(ipv4="10.5.9.9"))
    with pytest.raises(Forbidden, match="Address already in use"):
        networks.allocate(networks.get("mine"), "other", EndpointWish(ipv4="10.5.9.9"))


def test_a_wished_address_is_had_again_at_once_by_a_container_that_restarts(lab: Lab, networks: Networks) -> None:
    make(networks, "mine", "10.5.0.0/16")
    first = lab.start(networks, "web", "mine", wish=EndpointWish(ipv4="10.5.9.9"))
    networks.unplug(first.endpoint)
    networks.release(first.id)  # its namespace is still ending
    assert lab.start(networks, "web", "mine", wish=EndpointWish(ipv4="10.5.9.9")).endpoint.ipv4 == "10.5.9.9"


def test_a_wished_address_is_waited_for_while_its_endpoint_is_being_released(
    lab: Lab, networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(networks, "mine", "10.5.0.0/16")
    first = lab.start(networks, "web", "mine", wish=EndpointWish(ipv4="10.5.9.9"))
    taken_out, go_on = threading.Event(), threading.Event()
    tell = networks._naming.tell

    def slow_tell(container_id: str) -> None:
        taken_out.set()
        go_on.wait(15)
        tell(container_id)

    monkeypatch.setattr(networks._naming, "tell", slow_tell)
    releasing = threading.Thread(target=networks.release, args=(first.id,))
    releasing.start()
    taken_out.wait(15)
    threading.Timer(0.05, go_on.set).start()
    endpoint = networks.allocate(networks.get("mine"), "web-again", EndpointWish(ipv4="10.5.9.9"))
    releasing.join()
    assert endpoint.ipv4 == "10.5.9.9"


def test_the_gateways_address_cannot_be_wished(networks: Networks) -> None:
    make(networks, "mine", "10.5.0.0/16")
    with pytest.raises(Forbidden, match="Address already in use"):
        networks.allocate(networks.get("mine"), "web", EndpointWish(ipv4="10.5.0.1"))


def test_an_address_cannot_be_wished_in_a_subnet_that_was_chosen(networks: Networks) -> None:
    make(networks, "mine")
    with pytest.raises(InvalidParameter, match="only when connecting to networks with user configured subnets"):
        networks.allocate(networks.get("mine"), "web", EndpointWish(ipv4="172.18.0.9"))


def test_addresses_come_from_the_range_and_never_the_auxiliary_ones(lab: Lab, networks: Networks) -> None:
    pool = IpamConfig(subnet="10.5.0.0/16", ip_range="10.5.1.0/29", gateway="10.5.0.1", auxiliary_addresses={"printer": "10.5.1.1"})
    networks.create(NetworkRequest(name="mine", pools=(pool,)))
    network = networks.get("mine")
    given = [networks.allocate(network, f"c{number}", EndpointWish()).ipv4 for number in range(3)]
    assert given == ["10.5.1.0", "10.5.1.2", "10.5.1.3"]


def test_a_full_subnet_is_told(networks: Networks) -> None:
    make(networks, "mine", "10.5.0.0/30")
    networks.allocate(networks.get("mine"), "one", EndpointWish())
    from carrack.errors import Unavailable

    with pytest.raises(Unavailable, match="no available IPv4 addresses on this network's address pools"):
        networks.allocate(networks.get("mine"), "two", EndpointWish())


# ── isolation ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_networks_are_closed_to_each_other_but_for_published_ports(lab: Lab, networks: Networks) -> None:
    make(networks, "red")
    make(networks, "blue")
    red, blue = lab.start(networks, "r", "red", (PortBinding(80, "tcp", "", "8080"),)), lab.start(networks, "b", "blue")
    friend = lab.start(networks, "r2", "red")
    lab.echo(red.place, 80)
    lab.echo(red.place, 81)
    assert reach(friend.place, red.endpoint.ipv4, 81) == friend.endpoint.ipv4
    assert reach(blue.place, MACHINE4, 8080)
    assert reach(blue.place, "172.17.0.1", 8080)
    assert silent([(blue.place, red.endpoint.ipv4, port, "tcp") for port in (80, 81)])


def test_an_internal_network_reaches_neither_out_nor_other_networks_and_nothing_reaches_it(lab: Lab, networks: Networks) -> None:
    make(networks, "inside", internal=True)
    make(networks, "open")
    first, second = lab.start(networks, "a", "inside"), lab.start(networks, "b", "inside")
    other = lab.start(networks, "c", "open", (PortBinding(80, "tcp", "", "8080"),))
    lab.echo(first.place, 80)
    lab.echo(other.place, 80)
    lab.echo(lab.outside, 9000)
    lab.route_outside_through_machine("172.18.0.0/16")
    assert reach(second.place, first.endpoint.ipv4, 80) == second.endpoint.ipv4
    # Without a default route by itself; also with one that the container's root adds.
    with netns.inside(second.place, Netlink) as inside:
        assert all(route.destination.prefixlen for route in inside.routes())
        from ipaddress import ip_address

        inside.add_route(ip_network("0.0.0.0/0"), gateway=ip_address("172.18.0.1"))
    assert silent(
        [
            (second.place, OUTSIDE4, 9000, "tcp"),
            (second.place, other.endpoint.ipv4, 80, "tcp"),
            (second.place, MACHINE4, 8080, "tcp"),
            (other.place, first.endpoint.ipv4, 80, "tcp"),
            (lab.outside, first.endpoint.ipv4, 80, "tcp"),
        ]
    )


def test_ports_are_not_published_from_an_internal_network(lab: Lab, networks: Networks) -> None:
    make(networks, "inside", internal=True)
    box = lab.start(networks, "a", "inside")
    assert networks.hold([PortBinding(80, "tcp", "", "8080")], box.id) == ()


@pytest.mark.parametrize("bridge_netfilter", [0, 1])
def test_without_icc_neighbours_meet_by_published_ports_only(lab: Lab, networks: Networks, bridge_netfilter: int) -> None:
    if not os.path.exists("/proc/sys/net/bridge"):
        if bridge_netfilter:
            pytest.skip("this kernel has no br_netfilter")
    else:
        sysctl.write(bridge_netfilter, "net", "bridge", "bridge-nf-call-iptables")
    make(networks, "strangers", options={"com.docker.network.bridge.enable_icc": "false"})
    first = lab.start(networks, "a", "strangers", (PortBinding(80, "tcp", "", "8080"),))
    second = lab.start(networks, "b", "strangers")
    lab.echo(first.place, 80)
    lab.echo(lab.outside, 9000)
    assert reach(second.place, OUTSIDE4, 9000) == MACHINE4
    assert reach(second.place, MACHINE4, 8080)
    assert silent([(second.place, first.endpoint.ipv4, 80, "tcp")])


def test_without_masquerade_the_outside_sees_the_container(lab: Lab, networks: Networks) -> None:
    make(networks, "seen", options={"com.docker.network.bridge.enable_ip_masquerade": "false"})
    box = lab.start(networks, "a", "seen")
    lab.echo(lab.outside, 9000)
    lab.route_outside_through_machine("172.18.0.0/16")
    assert reach(box.place, OUTSIDE4, 9000) == box.endpoint.ipv4


# ── gateway modes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_routed_network_is_reached_at_its_own_addresses_and_published_ports_only(lab: Lab, networks: Networks) -> None:
    make(networks, "routed", options={"com.docker.network.bridge.gateway_mode_ipv4": "routed"})
    box = lab.start(networks, "a", "routed", (PortBinding(80, "tcp", "", "8080"),))
    lab.echo(box.place, 80)
    lab.echo(box.place, 81)
    lab.echo(lab.outside, 9000)
    lab.route_outside_through_machine("172.18.0.0/16")
    assert reach(lab.outside, box.endpoint.ipv4, 80) == OUTSIDE4
    assert reach(box.place, OUTSIDE4, 9000) == box.endpoint.ipv4
    assert silent([(lab.outside, box.endpoint.ipv4, 81, "tcp"), (lab.outside, MACHINE4, 8080, "tcp")])


def test_a_routed_port_is_closed_again_with_its_container(lab: Lab, networks: Networks) -> None:
    make(networks, "routed", options={"com.docker.network.bridge.gateway_mode_ipv4": "routed"})
    box = lab.start(networks, "a", "routed", (PortBinding(80),))
    lab.echo(box.place, 80)
    lab.route_outside_through_machine("172.18.0.0/16")
    assert reach(lab.outside, box.endpoint.ipv4, 80) == OUTSIDE4
    networks.unplug(box.endpoint)
    assert silent([(lab.outside, box.endpoint.ipv4, 80, "tcp")])


def test_an_unprotected_network_is_reached_at_every_port(lab: Lab, networks: Networks) -> None:
    make(networks, "open", options={"com.docker.network.bridge.gateway_mode_ipv4": "nat-unprotected"})
    box = lab.start(networks, "a", "open")
    lab.echo(box.place, 81)
    lab.route_outside_through_machine("172.18.0.0/16")
    assert reach(lab.outside, box.endpoint.ipv4, 81) == OUTSIDE4


# ── IPv6 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_ipv6_network_gets_a_unique_local_prefix_and_works_both_ways(lab: Lab, networks: Networks) -> None:
    make(networks, "six", enable_ipv6=True)
    bindings = (PortBinding(80, "tcp", "", "8080"), PortBinding(53, "udp", "", "5353"))
    box, other = lab.start(networks, "a", "six", bindings), lab.start(networks, "b", "six")
    assert ip_network(networks.get("six").pools[1].subnet).subnet_of(ip_network("fd00::/8"))  # type: ignore[arg-type]
    lab.echo(box.place, 80, address="::")
    lab.echo(box.place, 53, "udp", address="::")
    lab.echo(lab.outside, 9000, address="::")
    assert reach(other.place, box.endpoint.ipv6, 80) == other.endpoint.ipv6
    assert reach(other.place, OUTSIDE6, 9000) == MACHINE6
    assert reach(lab.outside, MACHINE6, 8080) == OUTSIDE6
    assert reach(lab.outside, MACHINE6, 5353, "udp") == OUTSIDE6
    assert reach(other.place, MACHINE6, 8080)
    assert reach(box.place, MACHINE6, 8080)
    assert reach(None, MACHINE6, 8080)


def test_an_ipv6_only_network_has_no_ipv4(lab: Lab, networks: Networks) -> None:
    make(networks, "six", enable_ipv4=False, enable_ipv6=True)
    box = lab.start(networks, "a", "six")
    assert (box.endpoint.ipv4, networks.get("six").pool4) == ("", None)
    lab.echo(lab.outside, 9000, address="::")
    assert reach(box.place, OUTSIDE6, 9000) == MACHINE6


def test_ipv6_forwarding_is_turned_on_with_its_guard_when_a_network_needs_it(lab: Lab, networks: Networks) -> None:
    assert sysctl.read("net", "ipv6", "conf", "all", "forwarding") == "0"
    sysctl.write(1, "net", "ipv6", "conf", "uplink", "accept_ra")
    make(networks, "six", enable_ipv6=True)
    assert sysctl.read("net", "ipv6", "conf", "all", "forwarding") == "1"
    assert sysctl.read("net", "ipv6", "conf", "uplink", "accept_ra") == "2", "the machine goes on believing its own router"
    assert "meta nfproto ipv6 drop" in lab.nft.run("list chain inet carrack forward")


def test_an_unpublished_ipv6_port_is_unreachable_from_outside(lab: Lab, networks: Networks) -> None:
    make(networks, "six", enable_ipv6=True)
    box = lab.start(networks, "a", "six", (PortBinding(80, "tcp", "", "8080"),))
    lab.echo(box.place, 80, address="::")
    lab.route_outside_through_machine(networks.get("six").pools[1].subnet)
    assert reach(lab.outside, MACHINE6, 8080) == OUTSIDE6
    assert silent([(lab.outside, box.endpoint.ipv6, 80, "tcp")])


# ── joining and leaving ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_running_container_joins_and_leaves_a_network(lab: Lab, networks: Networks) -> None:
    make(networks, "second")
    box = lab.start(networks, "web")
    friend = lab.start(networks, "friend", "second")
    lab.echo(box.place, 80)
    joined = networks.allocate(networks.get("second"), box.id, EndpointWish(container_name="web"))
    networks.plug(joined, box.place, pidfd=lab.init)
    assert joined.interface == "eth1"
    assert reach(friend.place, joined.ipv4, 80) == friend.endpoint.ipv4
    networks.unplug(joined, now=True, netns_fd=box.place)
    networks.release(box.id, joined.id)
    with netns.inside(box.place, Netlink) as inside:
        assert [link.name for link in inside.links()] == ["lo", "eth0"]
    assert silent([(friend.place, joined.ipv4, 80, "tcp")])
    assert [endpoint.interface for endpoint in networks.endpoints(box.id)] == ["eth0"]


def test_when_the_network_of_the_default_route_is_left_the_next_one_gives_it(lab: Lab, networks: Networks) -> None:
    make(networks, "second")
    box = lab.start(networks, "web")
    joined = networks.allocate(networks.get("second"), box.id, EndpointWish())
    networks.plug(joined, box.place, pidfd=lab.init)
    networks.unplug(box.endpoint, now=True, netns_fd=box.place)
    networks.release(box.id, box.endpoint.id)
    lab.echo(lab.outside, 9000)
    assert reach(box.place, OUTSIDE4, 9000) == MACHINE4


def test_the_network_with_the_highest_priority_gives_the_default_route(lab: Lab, networks: Networks) -> None:
    make(networks, "second")
    box = lab.start(networks, "web")
    joined = networks.allocate(networks.get("second"), box.id, EndpointWish(gateway_priority=10))
    networks.plug(joined, box.place, pidfd=lab.init)
    with netns.inside(box.place, Netlink) as inside:
        gateways = [str(route.gateway) for route in inside.routes() if route.destination.prefixlen == 0]
    assert gateways == ["172.18.0.1"]


def test_a_container_is_in_a_network_once(lab: Lab, networks: Networks) -> None:
    box = lab.start(networks, "web")
    with pytest.raises(Forbidden, match="endpoint with name web already exists in network bridge"):
        networks.allocate(networks.get("bridge"), box.id, EndpointWish(container_name="web"))


def test_an_endpoints_sysctls_are_set_inside(lab: Lab, networks: Networks) -> None:
    option = {"com.docker.network.endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.rp_filter=2"}
    box = lab.start(networks, "web", wish=EndpointWish(driver_options=option))
    values = netns.inside(
        box.place, lambda: [sysctl.read("net", "ipv4", "conf", "eth0", key) for key in ("log_martians", "rp_filter")]
    )
    assert values == ["1", "2"]


@pytest.mark.parametrize("item", ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.IFNAME.../x=1"])
def test_an_endpoint_sysctl_that_reaches_past_the_endpoint_is_refused(networks: Networks, item: str) -> None:
    wish = EndpointWish(driver_options={"com.docker.network.endpoint.sysctls": item})
    with pytest.raises(InvalidParameter, match="invalid endpoint sysctl setting"):
        networks.allocate(networks.get("bridge"), "web", wish)


# ── many ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_thousandth_port_costs_what_the_first_did(lab: Lab, networks: Networks) -> None:
    box = lab.start(networks, "web")

    def fastest(first: int) -> float:
        """Of fifty: what the machine does besides can only make one slower."""
        seconds = []
        for port in range(first, first + 50):
            started = time.perf_counter()
            networks._firewall.publish([Forwarding("tcp", "0.0.0.0", port, box.endpoint.ipv4, 80)])
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    early = fastest(20000)
    networks._firewall.publish([Forwarding("tcp", "0.0.0.0", port, box.endpoint.ipv4, 80) for port in range(30000, 31000)])
    assert fastest(21000) < early * 3


def test_events_tell_of_networks_made_and_removed(lab: Lab, networks: Networks) -> None:
    make(networks, "mine")
    network = networks.get("mine")
    networks.remove("mine")
    attributes = {"name": "mine", "type": "bridge"}
    assert lab.events == [("network", "create", network.id, attributes), ("network", "destroy", network.id, attributes)]


# ── by hand ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_bridge_deleted_by_hand_is_made_again_with_its_containers(lab: Lab, networks: Networks) -> None:
    networks.create(NetworkRequest(name="red", enable_ipv6=True))
    network = networks.get("red")
    web = lab.start(networks, "web", "red", ports=[PortBinding(80, host_port="8080")])
    other = lab.start(networks, "other", "red")
    lab.echo(web.place, 80, address="::")
    assert reach(other.place, web.endpoint.ipv4, 80)
    before = lab.kernel.get_link(network.bridge)
    lab.kernel.delete_link(before.index)
    assert eventually(lambda: on_bridge(lab, network.bridge, web, other))
    assert lab.kernel.get_link(network.bridge).mac == before.mac
    assert reach(other.place, web.endpoint.ipv4, 80).endswith(other.endpoint.ipv4)
    assert reach(other.place, web.endpoint.ipv6, 80) == other.endpoint.ipv6
    assert reach(lab.outside, MACHINE4, 8080).endswith(OUTSIDE4)
    assert reach(None, "127.0.0.1", 8080)


def on_bridge(lab: Lab, bridge: str, *boxes: Box) -> bool:
    found = lab.kernel.find_link(bridge)
    return found is not None and all(lab.kernel.get_link(box.endpoint.host_interface).master == found.index for box in boxes)


def test_a_network_that_is_removed_is_not_made_again(lab: Lab, networks: Networks) -> None:
    for _ in range(10):
        networks.create(NetworkRequest(name="red"))
        bridge = networks.get("red").bridge
        networks.remove("red")
        networks.create(NetworkRequest(name="blue"))  # the watch has heard of the first by then, or does now
        networks.remove("blue")
        assert lab.kernel.find_link(bridge) is None
