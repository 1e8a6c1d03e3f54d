"""What must not be reachable, and what must not be left: the defences of reference/cves.md, law 4, and forwarding."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from carrack.errors import InvalidParameter, NotFound, SystemFailure
from carrack.kernel import netns, sysctl
from carrack.kernel.netlink import Netlink
from carrack.kernel.nftables import RulesetMonitor
from carrack.networks.creation import NetworkRequest
from carrack.networks.endpoint import EndpointWish, PortBinding
from carrack.networks.networks import Networks
from carrack.networks.options import AddressPool, NetworkOptions, bridge_name
from carrack.networks.table_marks import TOKEN_SET
from tests.kernel.network.lab import MACHINE4, OUTSIDE4, Lab, reach, silent
from tests.kernel.network.test_names import eventually

pytestmark = pytest.mark.root


def until(happened: Callable[[], bool], monitor: RulesetMonitor | None = None) -> bool:
    """Wait for what another thread does: at each change that the kernel reports, or every few milliseconds."""
    deadline = time.monotonic() + 15
    while not happened():
        if time.monotonic() > deadline:
            return False
        select.select([monitor] if monitor else [], [], [], 0.01)
    return True


# ── law 4: loopback stays closed ───────────────────────────────────────────────────────────────────────────────────────────


def route_loopback_out(place: int) -> None:
    """What root in a container can do: send 127.0.0.1 to the machine instead of keeping it."""
    with netns.inside(place, Netlink) as inside:
        inside.delete_address(inside.get_link("lo").index, ip_interface("127.0.0.1/8"))
        inside.add_route(ip_network("127.0.0.1/32"), gateway=ip_address("172.17.0.1"), index=inside.get_link("eth0").index)
    netns.inside(place, lambda: sysctl.write(1, "net", "ipv4", "conf", "eth0", "route_localnet"))


def send_to_loopback(lab: Lab, box_place: int, port: int, *, patience_seconds: float = 0.4) -> bool:
    """From a container, by a route of its own making: a packet to the machine's 127.0.0.1. Whether it was answered or arrived."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", port))
        listener.settimeout(patience_seconds)
        route_loopback_out(box_place)

        def send() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
                attacker.bind(("172.17.0.2", 0))
                attacker.sendto(b"gotcha", ("127.0.0.1", port))

        netns.inside(box_place, send)
        try:
            return listener.recv(100) == b"gotcha"
        except TimeoutError:
            return False


@pytest.mark.law(4)
def test_a_container_cannot_send_to_the_machines_loopback(lab: Lab) -> None:
    networks = lab.open()
    box = lab.start(networks, "attacker")
    assert not send_to_loopback(lab, box.place, 6000)


def test_the_attack_on_loopback_works_without_the_guard(lab: Lab) -> None:
    networks = lab.open()
    box = lab.start(networks, "attacker")
    networks._watch.close()  # nobody repairs the table now
    lab.nft.run("flush chain inet carrack loopback_guard")
    assert send_to_loopback(lab, box.place, 6000, patience_seconds=10)


def test_a_port_published_on_127_0_0_1_is_unreachable_from_outside_and_from_containers(lab: Lab) -> None:
    networks = lab.open()
    web = lab.start(networks, "web", ports=(PortBinding(80, "tcp", "127.0.0.1", "8080"),))
    other = lab.start(networks, "other")
    lab.echo(web.place, 80)
    lab.route_outside_through_machine("172.17.0.0/16")
    assert reach(None, "127.0.0.1", 8080)
    assert silent(
        [
            (lab.outside, MACHINE4, 8080, "tcp"),
            (lab.outside, web.endpoint.ipv4, 80, "tcp"),
            (other.place, "172.17.0.1", 8080, "tcp"),
            (other.place, MACHINE4, 8080, "tcp"),
            (None, MACHINE4, 8080, "tcp"),
        ]
    )


def test_a_container_that_routes_127_0_0_1_out_cannot_reach_a_port_published_there(lab: Lab) -> None:
    networks = lab.open()
    web = lab.start(networks, "web", ports=(PortBinding(53, "udp", "127.0.0.1", "5353"),))
    lab.echo(web.place, 53, "udp")
    assert reach(None, "127.0.0.1", 5353, "udp")
    attacker = lab.start(networks, "attacker")
    route_loopback_out(attacker.place)
    assert silent([(attacker.place, "127.0.0.1", 5353, "udp")])


# ── a flushed ruleset ──────────────────────────────────────────────────────────────────────────────────────────────────────


# CVE-2025-54388, CVE-2025-54410
def test_a_flushed_ruleset_is_back_at_once_and_ports_answer(lab: Lab) -> None:
    networks = lab.open()
    web = lab.start(networks, "web", ports=(PortBinding(80, "tcp", "", "8080"),))
    lab.echo(web.place, 80)
    assert reach(lab.outside, MACHINE4, 8080)
    monitor = RulesetMonitor(("carrack",), TOKEN_SET)
    lab.nft.run("flush ruleset")
    assert until(networks._firewall.intact, monitor)
    monitor.close()
    assert reach(lab.outside, MACHINE4, 8080) == OUTSIDE4
    assert until(lambda: sysctl.read("net", "ipv4", "conf", "carrack0", "route_localnet") == "1")


@pytest.mark.law(4)
def test_loopback_routing_is_off_while_the_table_is_put_back(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    networks = lab.open()
    seen: list[str] = []
    original = networks._firewall.assert_table

    def noting() -> None:
        seen.append(sysctl.read("net", "ipv4", "conf", "carrack0", "route_localnet"))
        original()

    monkeypatch.setattr(networks._firewall, "assert_table", noting)
    lab.nft.run("delete table inet carrack")
    assert until(lambda: len(seen) > 0 and networks._firewall.intact())
    assert seen[0] == "0"


def test_one_rule_deleted_by_another_is_put_back(lab: Lab) -> None:
    networks = lab.open()
    assert networks._firewall.intact()
    lab.nft.run("flush chain inet carrack inbound")
    assert until(lambda: "ct status dnat accept" in lab.nft.run("list chain inet carrack inbound"))


def test_other_tables_are_not_our_affair(lab: Lab) -> None:
    networks = lab.open()
    monitor = RulesetMonitor(("carrack",), TOKEN_SET)
    lab.nft.run("add table inet other\nadd chain inet other mine")
    networks._firewall.assert_table()  # one of ours, after it: the watch has then heard both
    assert until(lambda: not networks._firewall._tokens)
    tokens, _ = monitor.read()
    monitor.close()
    assert len(tokens) == 1


# ── what is not published, and not ours ────────────────────────────────────────────────────────────────────────────────────


def test_an_unpublished_port_is_unreachable_from_outside_even_by_the_containers_address(lab: Lab) -> None:
    networks = lab.open()
    web = lab.start(networks, "web", ports=(PortBinding(80, "tcp", "", "8080"),))
    lab.echo(web.place, 80)
    lab.echo(web.place, 81)
    lab.route_outside_through_machine("172.17.0.0/16")
    assert reach(lab.outside, MACHINE4, 8080) == OUTSIDE4
    assert silent([(lab.outside, web.endpoint.ipv4, port, "tcp") for port in (80, 81)])


# CVE-2025-67499
def test_a_published_port_catches_only_what_is_for_this_machine(lab: Lab) -> None:
    networks = lab.open()
    web = lab.start(networks, "web", ports=(PortBinding(80, "tcp", "", "8080"),))
    client = lab.start(networks, "client")
    lab.echo(web.place, 80)
    lab.echo(lab.outside, 8080)
    assert reach(client.place, MACHINE4, 8080)
    assert reach(client.place, OUTSIDE4, 8080) == MACHINE4, "the outside host's own port 8080 answered"
    assert reach(None, OUTSIDE4, 8080) == MACHINE4


def test_ipv6_is_off_where_a_network_has_none(lab: Lab) -> None:
    networks = lab.open()
    box = lab.start(networks, "plain")
    with netns.inside(box.place, Netlink) as inside:
        eth0 = inside.get_link("eth0").index
        assert [interface for index, interface in inside.addresses() if index == eth0 and interface.version == 6] == []
    assert netns.inside(box.place, lambda: sysctl.read("net", "ipv6", "conf", "eth0", "disable_ipv6")) == "1"


def test_neither_the_bridge_nor_its_ports_believe_router_advertisements(lab: Lab) -> None:
    networks = lab.open()
    box = lab.start(networks, "plain")
    assert sysctl.read("net", "ipv6", "conf", "carrack0", "accept_ra") == "0"
    assert sysctl.read("net", "ipv6", "conf", box.endpoint.host_interface, "disable_ipv6") == "1"


# ── forwarding ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def far_side(lab: Lab) -> int:
    """A second wire of the machine, with a host behind it that the outside host might want to reach through the machine."""
    place = netns.new()
    lab.kernel.add_veth("uplink2", "wire", peer_namespace_fd=place)
    link = lab.kernel.get_link("uplink2")
    lab.kernel.set_link(link.index, up=True)
    lab.kernel.add_address(link.index, ip_interface("203.0.113.1/24"))
    with netns.inside(place, Netlink) as far:
        wire = far.get_link("wire")
        far.set_link(wire.index, up=True)
        far.add_address(wire.index, ip_interface("203.0.113.2/24"))
        far.add_route(ip_network("0.0.0.0/0"), gateway=ip_address("203.0.113.1"))
    lab.route_outside_through_machine("203.0.113.0/24")
    return place


def test_forwarding_that_was_off_is_turned_on_without_making_an_open_router(lab: Lab) -> None:
    sysctl.write(0, "net", "ipv4", "ip_forward")
    place = far_side(lab)
    networks = lab.open()
    box = lab.start(networks, "inside", ports=(PortBinding(80, "tcp", "", "8080"),))
    lab.echo(box.place, 80)
    lab.echo(place, 9000)
    assert sysctl.read("net", "ipv4", "ip_forward") == "1"
    assert reach(box.place, "203.0.113.2", 9000) == "203.0.113.1"
    assert reach(lab.outside, MACHINE4, 8080) == OUTSIDE4
    assert silent([(lab.outside, "203.0.113.2", 9000, "tcp")])
    os.close(place)


def test_the_networks_of_other_engines_are_not_cut_off_by_our_guard(lab: Lab) -> None:
    sysctl.write(0, "net", "ipv4", "ip_forward")
    networks = lab.open()
    lab.start(networks, "inside")
    place = netns.new()
    lab.kernel.add_bridge("docker0")
    bridge = lab.kernel.get_link("docker0")
    lab.kernel.set_link(bridge.index, up=True)
    lab.kernel.add_address(bridge.index, ip_interface("192.0.2.1/24"))
    lab.kernel.add_veth("theirs", "eth0", peer_namespace_fd=place, master=bridge.index)
    lab.kernel.set_link(lab.kernel.get_link("theirs").index, up=True)
    with netns.inside(place, Netlink) as far:
        link = far.get_link("eth0")
        far.set_link(link.index, up=True)
        far.add_address(link.index, ip_interface("192.0.2.2/24"))
        far.add_route(ip_network("0.0.0.0/0"), gateway=ip_address("192.0.2.1"))
    lab.route_outside_through_machine("192.0.2.0/24")
    lab.echo(lab.outside, 9000)
    lab.echo(place, 9001)
    lab.nft.run("add table ip theirs; add chain ip theirs pre { type nat hook prerouting priority -100; }")
    lab.nft.run(f"add rule ip theirs pre ip daddr {MACHINE4} tcp dport 9002 dnat to 192.0.2.2:9001")
    assert reach(place, OUTSIDE4, 9000) == "192.0.2.2"
    assert reach(lab.outside, MACHINE4, 9002) == OUTSIDE4, "a port that dockerd publishes"
    assert silent([(lab.outside, "192.0.2.2", 9001, "tcp")]), "not by its own address"
    os.close(place)


def test_forwarding_that_was_on_is_left_alone(lab: Lab) -> None:
    place = far_side(lab)
    networks = lab.open()
    lab.start(networks, "inside")
    lab.echo(place, 9000)
    assert reach(lab.outside, "203.0.113.2", 9000) == OUTSIDE4
    lab.shut(networks, keep=False)
    assert sysctl.read("net", "ipv4", "ip_forward") == "1"
    os.close(place)


def test_the_guard_outlives_a_restart_of_the_daemon_and_goes_with_forwarding(lab: Lab) -> None:
    sysctl.write(0, "net", "ipv4", "ip_forward")
    place = far_side(lab)
    lab.echo(place, 9000)
    lab.shut(lab.open(), keep=True)
    lab.nft.run("flush ruleset")
    second = lab.open()
    assert silent([(lab.outside, "203.0.113.2", 9000, "tcp")])
    lab.shut(second, keep=False)
    assert sysctl.read("net", "ipv4", "ip_forward") == "0"
    os.close(place)


def test_the_guard_lets_the_networks_of_another_instance_through(lab: Lab) -> None:
    sysctl.write(0, "net", "ipv4", "ip_forward")
    lab.open(instance="first")
    second = lab.open(instance="second")
    box = lab.start(second, "inside", ports=(PortBinding(80, "tcp", "", "8080"),))
    lab.echo(lab.outside, 9000)
    lab.echo(box.place, 80)
    assert reach(box.place, OUTSIDE4, 9000) == MACHINE4
    assert reach(lab.outside, MACHINE4, 8080) == OUTSIDE4


# ── instances and routes ───────────────────────────────────────────────────────────────────────────────────────────


def test_two_instances_have_bridges_tables_and_pools_of_their_own(lab: Lab) -> None:
    first, second = lab.open(instance="first"), lab.open(instance="second")
    pools = {networks.get("bridge").pools[0].subnet for networks in (first, second)}
    assert pools == {"172.17.0.0/16", "172.18.0.0/16"}
    assert {bridge_name("first"), bridge_name("second")} <= {link.name for link in lab.kernel.links()}
    assert "table inet carrack_first" in lab.nft.run("list tables")


def test_the_default_pool_avoids_the_hosts_routes(lab: Lab) -> None:
    lab.kernel.add_route(ip_network("172.17.8.0/24"), gateway=ip_address(OUTSIDE4))
    assert lab.open().get("bridge").pools[0].subnet == "172.18.0.0/16"


def test_when_every_pool_collides_the_message_names_the_route(lab: Lab) -> None:
    pools = (AddressPool(ip_network("198.51.0.0/16"), 16),)
    with pytest.raises(NotFound) as refused:
        lab.open(NetworkOptions(default_address_pools=pools))
    assert refused.value.message == (
        "all predefined address pools have been fully subnetted: "
        "198.51.0.0/16 collides with the host's route 198.51.100.0/24 dev uplink"
    )


def test_a_bip_that_would_take_the_hosts_own_network_is_refused(lab: Lab) -> None:
    with pytest.raises(
        InvalidParameter, match=r"subnet 198\.51\.100\.0/24 collides with the host's route 198\.51\.100\.0/24 dev uplink"
    ):
        lab.open(NetworkOptions(bip=ip_interface("198.51.100.5/24")))  # type: ignore[arg-type]


# ── the daemon's options ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_existing_bridge_is_used_and_outlives_the_instance(lab: Lab) -> None:
    lab.kernel.add_bridge("mybridge")
    lab.kernel.add_address(lab.kernel.get_link("mybridge").index, ip_interface("10.77.0.1/24"))
    networks = lab.open(NetworkOptions(bridge="mybridge"))
    lab.echo(lab.outside, 9000)
    box = lab.start(networks, "web")
    assert box.endpoint.ipv4 == "10.77.0.2"
    assert reach(box.place, OUTSIDE4, 9000) == MACHINE4
    lab.shut(networks, keep=False)
    assert lab.kernel.find_link("mybridge") is not None


def test_a_bridge_that_does_not_exist_is_refused_in_dockers_words(lab: Lab) -> None:
    with pytest.raises(SystemFailure, match="bridge device with non default name nowhere must be created manually"):
        lab.open(NetworkOptions(bridge="nowhere"))


def test_without_a_default_bridge_there_is_none(lab: Lab) -> None:
    lab.shut(lab.open(), keep=True)
    networks = lab.open(NetworkOptions(bridge="none"))
    assert {network.name for network in networks.list()} == {"host", "none"}
    assert lab.kernel.find_link("carrack0") is None


def test_another_bip_moves_the_bridge_and_what_runs_goes_on(lab: Lab) -> None:
    networks = lab.open()
    old = lab.start(networks, "old")
    lab.echo(lab.outside, 9000)
    lab.shut(networks, keep=True)
    networks = lab.open(NetworkOptions(bip=ip_interface("10.88.0.1/24")))  # type: ignore[arg-type]
    new = lab.start(networks, "new")
    assert new.endpoint.ipv4 == "10.88.0.2"
    assert reach(new.place, OUTSIDE4, 9000) == MACHINE4
    with netns.inside(old.place, Netlink) as inside:
        assert str(inside.routes()[0].gateway) == "172.17.0.1"
    names = [str(interface) for _, interface in lab.kernel.addresses()]
    assert "172.17.0.1/16" in names, "its container's gateway stays"
    networks.unplug(old.endpoint)
    networks.release(old.id)
    lab.shut(networks, keep=True)
    lab.open(NetworkOptions(bip=ip_interface("10.88.0.1/24")))  # type: ignore[arg-type]
    assert "172.17.0.1/16" not in [str(interface) for _, interface in lab.kernel.addresses()]


def test_addresses_come_from_the_fixed_cidr(lab: Lab) -> None:
    options = NetworkOptions(bip=ip_interface("10.88.0.1/16"), fixed_cidr=ip_network("10.88.5.0/24"))  # type: ignore[arg-type]
    assert lab.start(lab.open(options), "web").endpoint.ipv4 == "10.88.5.0"


def test_without_ip_forward_forwarding_is_not_touched(lab: Lab) -> None:
    sysctl.write(0, "net", "ipv4", "ip_forward")
    lab.open(NetworkOptions(ip_forward=False))
    assert sysctl.read("net", "ipv4", "ip_forward") == "0"


def test_many_containers_come_and_go_at_once(lab: Lab) -> None:
    networks = lab.open()
    failures: list[BaseException] = []
    seen: set[str] = set()

    def live(number: int) -> None:
        try:
            place = netns.new()
            endpoint = networks.allocate(networks.get("bridge"), f"c{number}", EndpointWish(container_name=f"c{number}"))
            assert endpoint.ipv4 not in seen
            seen.add(endpoint.ipv4)
            networks.plug(endpoint, place, pidfd=lab.init)
            held = networks.hold([PortBinding(80)], f"c{number}")
            networks.publish(endpoint, held, pidfd=lab.init)
            for port in held:
                port.close()
            networks.unplug(endpoint)
            networks.release(f"c{number}")
            seen.discard(endpoint.ipv4)
            os.close(place)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    workers = [threading.Thread(target=live, args=(number,)) for number in range(32)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []
    assert until(lambda: not networks._addresses._resting)
    assert [link.name for link in lab.kernel.links() if link.name.startswith("ve")] == []
    assert "elements" not in lab.nft.run("list map inet carrack ports4_any")


# ── what is left ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_left_when_an_instance_goes(lab: Lab) -> None:
    before = {link.name for link in lab.kernel.links()}
    networks = lab.open()
    networks.create(NetworkRequest(name="mine"))
    lab.start(networks, "one", "mine", ports=(PortBinding(80),))
    lab.shut(networks, keep=False)
    assert {link.name for link in lab.kernel.links()} == before
    assert "carrack" not in lab.nft.run("list tables")


def reopen_after_kill(lab: Lab, networks: Networks) -> Networks:
    """A daemon that is killed says nothing: its descriptors close, all else stays."""
    lab.shut(networks, keep=True)
    return lab.open()


def test_running_containers_keep_their_links_and_ports_over_a_restart(lab: Lab) -> None:
    networks = lab.open()
    web = lab.start(networks, "web", ports=(PortBinding(80, "tcp", "", "8080"),))
    lab.echo(web.place, 80)
    with netns.inside(lab.outside, lambda: socket.create_connection((MACHINE4, 8080), 3)) as open_one:
        networks = reopen_after_kill(lab, networks)
        assert open_one.recv(100).decode() == OUTSIDE4
    assert reach(lab.outside, MACHINE4, 8080) == OUTSIDE4
    assert [endpoint.id for endpoint in networks.endpoints(web.id)] == [web.endpoint.id]
    assert lab.start(networks, "next").endpoint.ipv4 == "172.17.0.3"


def test_a_published_port_answers_while_the_daemon_is_away(lab: Lab) -> None:
    networks = lab.open()
    web = lab.start(networks, "web", ports=(PortBinding(80, "tcp", "", "8080"),))
    lab.echo(web.place, 80)
    lab.shut(networks, keep=True)
    assert reach(lab.outside, MACHINE4, 8080) == OUTSIDE4
    assert reach(None, "127.0.0.1", 8080)
    lab.open()


def test_what_ended_while_the_daemon_was_away_is_forgotten(lab: Lab) -> None:
    networks = lab.open()
    gone = lab.start(networks, "gone", ports=(PortBinding(80, "tcp", "", "8080"),))
    lab.shut(networks, keep=True)
    gone.end()
    assert until(lambda: lab.kernel.find_link(gone.endpoint.host_interface) is None)
    networks = lab.open()
    assert networks.endpoints(gone.id) == []
    assert "8080" not in lab.nft.run("list table inet carrack")


@pytest.mark.law(7)
def test_what_a_dead_daemon_allocated_and_never_plugged_is_forgotten(lab: Lab) -> None:
    networks = lab.open()
    networks.allocate(networks.get("bridge"), "half-made", EndpointWish())
    networks = reopen_after_kill(lab, networks)
    assert networks.endpoints("half-made") == []
    assert lab.start(networks, "next").endpoint.ipv4 == "172.17.0.2"


def test_a_link_that_no_record_names_is_deleted_at_the_next_start(lab: Lab) -> None:
    networks = lab.open()
    box = lab.start(networks, "orphan")
    networks._records.remove_endpoints([box.endpoint.id]).result()
    reopen_after_kill(lab, networks)
    assert lab.kernel.find_link(box.endpoint.host_interface) is None


def test_reconcile_releases_what_no_living_container_has(lab: Lab) -> None:
    networks = lab.open()
    kept, stale = lab.start(networks, "kept"), lab.start(networks, "stale")
    networks.reconcile([kept.id])
    assert networks.endpoints(stale.id) == []
    assert lab.kernel.find_link(stale.endpoint.host_interface) is None
    assert len(networks.endpoints(kept.id)) == 1


def test_a_failed_plug_leaves_no_link(lab: Lab) -> None:
    networks = lab.open()
    place = netns.new()
    with netns.inside(place, Netlink) as inside:
        inside.add_bridge("eth0")  # the name is taken
    endpoint = networks.allocate(networks.get("bridge"), "clash", EndpointWish(container_name="clash"))
    with pytest.raises(SystemFailure, match="cannot make the interface pair of endpoint clash"):
        networks.plug(endpoint, place, pidfd=lab.init)
    assert lab.kernel.find_link(endpoint.host_interface) is None
    networks.release("clash")
    assert eventually(lambda: networks.address_use(networks.get("bridge"), 4) == 1), "the gateway's is left"
    assert lab.start(networks, "next").endpoint.ipv4 == "172.17.0.2"
    os.close(place)
