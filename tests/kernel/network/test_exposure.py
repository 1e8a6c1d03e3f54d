"""What `carrack network exposure` says is what happens: each answer is tried from where it says, and from where it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from carrack.networks.creation import NetworkRequest
from carrack.networks.drivers.bridge import GATEWAY_MODE, HOST_BINDING, TRUSTED
from carrack.networks.endpoint import PortBinding
from carrack.networks.exposure import MACHINE, Exposure
from carrack.networks.networks import Networks
from carrack.networks.options import NetworkOptions
from tests.kernel.network.lab import MACHINE4, MACHINE6, SECOND4, Lab, reach, silent

pytestmark = pytest.mark.root


def only(networks: Networks, **wanted: object) -> Exposure:
    found = [each for each in networks.exposures() if all(getattr(each, key) == value for key, value in wanted.items())]
    assert len(found) == 1, found
    return found[0]


def test_each_published_port_says_who_reaches_it(lab: Lab, tmp_path: Path) -> None:
    networks = lab.open(NetworkOptions(run_directory=tmp_path))
    bindings = [
        PortBinding(80, host_port="8080"),
        PortBinding(81, host_ip="127.0.0.1", host_port="8081"),
        PortBinding(82, host_ip=SECOND4, host_port="8082"),
    ]
    box = lab.start(networks, "web", ports=bindings)
    for port in (80, 81, 82):
        lab.echo(box.place, port)

    everywhere = only(networks, host_ip="0.0.0.0")
    assert reach(lab.outside, MACHINE4, 8080)
    assert everywhere.reached_from[0] == MACHINE
    assert "uplink" in " ".join(everywhere.reached_from)
    assert "containers of other networks" in everywhere.reached_from
    assert everywhere.because == ("published on every IPv4 address of this machine",)

    relayed = only(networks, host_ip="::")
    assert reach(lab.outside, MACHINE6, 8080)
    assert "relayed by a process of this machine" in " ".join(relayed.because)

    local = only(networks, host_ip="127.0.0.1")
    assert silent([(lab.outside, MACHINE4, 8081, "tcp")])
    assert local.reached_from == (MACHINE,)

    one = only(networks, host_ip=SECOND4)
    assert reach(lab.outside, SECOND4, 8082)
    assert silent([(lab.outside, MACHINE4, 8082, "tcp")])
    assert len(one.reached_from) == 2


def test_the_internet_is_named_where_an_address_of_it_leads(lab: Lab) -> None:
    networks = lab.open()
    lab.start(networks, "web", ports=[PortBinding(80, host_ip="0.0.0.0", host_port="8080")])
    assert not only(networks).internet, "198.51.100.0/24 is no address of the internet (RFC 5737)"
    from ipaddress import ip_interface

    lab.kernel.add_address(lab.kernel.get_link("uplink").index, ip_interface("93.184.216.34/24"))
    assert only(networks).internet
    assert "the internet, at 93.184.216.34 (uplink)" in only(networks).reached_from


def test_ports_at_containers_own_addresses_are_listed(lab: Lab) -> None:
    networks = lab.open()
    networks.create(NetworkRequest(name="routed", options={GATEWAY_MODE[4]: "routed"}))
    networks.create(NetworkRequest(name="open", options={GATEWAY_MODE[4]: "nat-unprotected"}))
    networks.create(NetworkRequest(name="trusting", options={TRUSTED: "uplink"}))
    routed = lab.start(networks, "routed", "routed", ports=[PortBinding(80)])
    bare = lab.start(networks, "bare", "open")
    trusting = lab.start(networks, "trusting", "trusting", ports=[PortBinding(80, host_ip="127.0.0.1", host_port="8080")])
    for box in (routed, bare, trusting):
        lab.echo(box.place, 80)
    lab.route_outside_through_machine("172.16.0.0/12")
    for box in (routed, bare, trusting):
        assert reach(lab.outside, box.endpoint.ipv4, 80)
    assert only(networks, container_name="routed").reached_from == (f"whoever has a route to {routed.endpoint.ipv4}",)
    assert (only(networks, container_name="bare").protocol, only(networks, container_name="bare").container_port) == ("any", 0)
    assert f"interface uplink, at {trusting.endpoint.ipv4}" in only(networks, container_name="trusting").reached_from


def test_a_container_without_published_ports_is_not_listed(lab: Lab) -> None:
    networks = lab.open()
    lab.start(networks, "quiet")
    assert not networks.exposures()


def test_rules_of_the_user_and_other_firewalls_are_named(lab: Lab) -> None:
    networks = lab.open()
    lab.start(networks, "web", ports=[PortBinding(80, host_ip="0.0.0.0", host_port="8080")])
    lab.nft.run("add rule inet carrack user ip saddr 192.0.2.1 drop")
    lab.nft.run("table inet ufw { chain guard { type filter hook forward priority 10; policy drop; }; }")
    because = only(networks).because
    assert "1 rules of the chain user are asked first" in because
    assert "unless inet ufw guard drops it" in because


@pytest.mark.parametrize(
    ("options", "network"),
    [
        (NetworkOptions(ip="127.0.0.1"), "bridge"),
        (NetworkOptions(ip="127.0.0.1"), "own"),
        (NetworkOptions(default_options={"bridge": {HOST_BINDING: "127.0.0.1"}}), "own"),
    ],
)
def test_a_default_address_keeps_ports_from_the_outside(lab: Lab, options: NetworkOptions, network: str) -> None:
    networks = lab.open(options)
    networks.create(NetworkRequest(name="own"))
    box = lab.start(networks, "web", network, ports=[PortBinding(80, host_port="8080")])
    lab.echo(box.place, 80)
    assert reach(None, "127.0.0.1", 8080)
    assert silent([(lab.outside, MACHINE4, 8080, "tcp"), (lab.outside, MACHINE6, 8080, "tcp")])
    assert only(networks).reached_from == (MACHINE,)


def test_a_port_s_own_address_goes_before_the_default(lab: Lab) -> None:
    networks = lab.open(NetworkOptions(ip="127.0.0.1"))
    networks.create(NetworkRequest(name="open", options={HOST_BINDING: "0.0.0.0"}))
    box = lab.start(networks, "web", ports=[PortBinding(80, host_ip=MACHINE4, host_port="8080")])
    other = lab.start(networks, "other", "open", ports=[PortBinding(80, host_port="9090")])
    for each in (box, other):
        lab.echo(each.place, 80)
    assert reach(lab.outside, MACHINE4, 8080)
    assert reach(lab.outside, MACHINE4, 9090)
