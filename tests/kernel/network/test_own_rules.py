"""The administrator's own say: the chain `user`, trusted interfaces, firewall marks, direct routing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from carrack.networks.creation import NetworkRequest
from carrack.networks.endpoint import PortBinding
from carrack.networks.networks import Networks
from carrack.networks.options import NetworkOptions
from tests.kernel.network.lab import MACHINE4, MACHINE6, OUTSIDE4, Box, Lab, reach, silent
from tests.kernel.network.test_names import eventually, names_process

pytestmark = pytest.mark.root

TRUSTED = "com.docker.network.bridge.trusted_host_interfaces"
PORTS = (PortBinding(80, host_port="8080"), PortBinding(81, host_ip="127.0.0.1", host_port="8081"))


def serving(lab: Lab, networks: Networks, network: str = "bridge") -> Box:
    box = lab.start(networks, "web", network, ports=PORTS)
    for port in (80, 81, 82):
        lab.echo(box.place, port)
    return box


def rule(lab: Lab, text: str) -> None:
    lab.nft.run(f"add rule inet carrack user {text}\n")


def test_a_drop_of_the_users_is_final(lab: Lab) -> None:
    networks = lab.open()
    serving(lab, networks)
    assert reach(lab.outside, MACHINE4, 8080) == OUTSIDE4
    rule(lab, f"ip saddr {OUTSIDE4} meta l4proto tcp ct original proto-dst 8080 drop")
    assert silent([(lab.outside, MACHINE4, 8080, "tcp")])
    assert reach(None, "127.0.0.1", 8080)


def test_an_accept_of_the_users_is_honoured_before_our_rules(lab: Lab) -> None:
    networks = lab.open()
    box = serving(lab, networks)
    lab.route_outside_through_machine("172.17.0.0/16")
    assert silent([(lab.outside, box.endpoint.ipv4, 82, "tcp")])
    rule(lab, f"ip saddr {OUTSIDE4} tcp dport 82 accept")
    assert reach(lab.outside, box.endpoint.ipv4, 82) == OUTSIDE4
    assert silent([(lab.outside, box.endpoint.ipv4, 81, "tcp")])


def test_the_users_rules_outlive_every_change_of_ours_and_a_restart(lab: Lab) -> None:
    networks = lab.open()
    serving(lab, networks)
    rule(lab, 'meta l4proto tcp ct original proto-dst 8080 counter drop comment "mine"')
    networks.create(NetworkRequest(name="more"))
    networks.remove("more")
    lab.shut(networks, keep=True)
    lab.open()
    assert silent([(lab.outside, MACHINE4, 8080, "tcp")])
    assert 'comment "mine"' in lab.nft.run("list chain inet carrack user")


def test_the_users_rules_come_before_the_daemon_too(lab: Lab) -> None:
    """As /etc/nftables.conf loads them at boot."""
    lab.nft.run("table inet carrack { chain user { meta l4proto tcp ct original proto-dst 8080 drop; }; }")
    serving(lab, lab.open())
    assert silent([(lab.outside, MACHINE4, 8080, "tcp")])
    assert reach(None, "127.0.0.1", 8080)


def test_a_rule_of_the_users_is_no_reason_to_repair_the_table(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.open()
    rule(lab, "ip saddr 192.0.2.1 drop")
    lab.nft.run("flush chain inet carrack publish")  # the next one is: when it is repaired the first was heard
    assert eventually(lambda: "chain publish {\n\t}" not in lab.nft.run("list chain inet carrack publish"))
    assert [record.message for record in caplog.records if "putting it back" in record.message] == [
        "table inet carrack was changed by somebody else: putting it back"
    ]


def test_the_user_judges_relayed_ports_too(lab: Lab, tmp_path: Path) -> None:
    networks = lab.open(NetworkOptions(run_directory=tmp_path))
    serving(lab, networks)
    assert reach(lab.outside, MACHINE6, 8080)
    rule(lab, 'iifname "uplink" tcp dport 8080 drop')
    assert silent([(lab.outside, MACHINE6, 8080, "tcp")])
    assert reach(None, "::1", 8080)


def test_our_names_taken_by_objects_of_another_kind_are_taken_back(lab: Lab) -> None:
    lab.nft.run("table inet carrack { set bridges { type ipv4_addr; }; chain user { ip saddr 192.0.2.9 drop; }; }")
    networks = lab.open()
    box = serving(lab, networks)
    assert reach(lab.outside, MACHINE4, 8080) == OUTSIDE4
    assert "192.0.2.9" in lab.nft.run("list chain inet carrack user")
    assert box.endpoint.ipv4


def test_a_trusted_interface_leads_to_published_ports_by_the_containers_address(lab: Lab) -> None:
    """Docker's own example: published on the loopback address, reached directly from the trusted side."""
    networks = lab.open()
    networks.create(NetworkRequest(name="trusting", options={TRUSTED: "nowhere:uplink"}))
    networks.create(NetworkRequest(name="closed"))
    box = serving(lab, networks, "trusting")
    other = lab.start(networks, "other", "closed", ports=[PortBinding(80, host_port="9090")])
    lab.echo(other.place, 80)
    lab.route_outside_through_machine("172.16.0.0/12")
    assert reach(lab.outside, box.endpoint.ipv4, 80) == OUTSIDE4
    assert reach(lab.outside, box.endpoint.ipv4, 81) == OUTSIDE4
    assert silent([(lab.outside, box.endpoint.ipv4, 82, "tcp"), (lab.outside, other.endpoint.ipv4, 80, "tcp")])
    networks.unplug(box.endpoint)
    assert silent([(lab.outside, box.endpoint.ipv4, 80, "tcp")])


def test_an_interface_name_that_cannot_be_is_refused(lab: Lab) -> None:
    networks = lab.open()
    with pytest.raises(Exception, match="is not an interface name"):
        networks.create(NetworkRequest(name="odd", options={TRUSTED: 'a"b'}))


def test_with_direct_routing_published_ports_are_reached_at_the_container(lab: Lab) -> None:
    networks = lab.open(NetworkOptions(direct_routing=True))
    box = serving(lab, networks)
    lab.route_outside_through_machine("172.17.0.0/16")
    assert reach(lab.outside, box.endpoint.ipv4, 80) == OUTSIDE4
    assert silent([(lab.outside, box.endpoint.ipv4, 82, "tcp")])


def test_packets_with_the_accepted_mark_pass(lab: Lab) -> None:
    networks = lab.open(NetworkOptions(accept_mark=(2, 3)))
    box = serving(lab, networks)
    lab.route_outside_through_machine("172.17.0.0/16")
    assert silent([(lab.outside, box.endpoint.ipv4, 82, "tcp")])
    lab.nft.run(
        "table inet marks { chain marking { type filter hook prerouting priority -150; tcp dport 82 meta mark set 0x6; "
        "tcp dport 81 meta mark set 0x4; }; }"
    )
    assert reach(lab.outside, box.endpoint.ipv4, 82) == OUTSIDE4
    assert silent([(lab.outside, box.endpoint.ipv4, 81, "tcp")])


def test_after_a_flush_everything_is_back_within_a_second(lab: Lab) -> None:
    networks = lab.open()
    serving(lab, networks)
    networks.create(NetworkRequest(name="more", enable_ipv6=True))
    wanted = lab.nft.run("list table inet carrack")
    started = time.monotonic()
    lab.nft.run("flush ruleset")
    assert eventually(lambda: "elements" in safe_list(lab))
    assert time.monotonic() - started < 1
    assert without_token(safe_list(lab)) == without_token(wanted)
    assert reach(lab.outside, MACHINE4, 8080) == OUTSIDE4


def test_a_flush_is_undone_while_the_daemon_is_away_too(lab: Lab, tmp_path: Path) -> None:
    """The names process has the table as it was left, the user's rules included; so has its spare."""
    networks = lab.open(NetworkOptions(run_directory=tmp_path))
    box = serving(lab, networks)
    rule(lab, "ip saddr 192.0.2.1 drop")
    lab.shut(networks, keep=True)
    for kill in (False, True):
        if kill:
            os.kill(names_process(lab), signal.SIGKILL)
        # Whoever answers here has heard before of the end of the one that was there, and has the table.
        assert reach(None, "::1", 8080)
        lab.nft.run("flush ruleset")
        assert eventually(lambda: "elements" in safe_list(lab))
        assert reach(lab.outside, MACHINE4, 8080) == OUTSIDE4
        assert reach(None, "127.0.0.1", 8081)
        assert "192.0.2.1" in lab.nft.run("list chain inet carrack user")
    networks = lab.open(NetworkOptions(run_directory=tmp_path))
    other = lab.start(networks, "other", ports=[PortBinding(80, host_port="9090")])
    lab.echo(other.place, 80)
    assert reach(lab.outside, MACHINE4, 9090) == OUTSIDE4, "the daemon's own changes are not undone"
    networks.unplug(box.endpoint)
    assert silent([(lab.outside, MACHINE4, 8080, "tcp")])


def safe_list(lab: Lab) -> str:
    try:
        return lab.nft.run("list table inet carrack")
    except Exception:  # noqa: BLE001
        return ""


def without_token(text: str) -> list[str]:
    lines = [line for line in text.splitlines() if "elements = { 0x" not in line]
    # elements of a set are listed in no order
    return sorted(word.strip(" ,{}") for line in lines for word in line.split())
