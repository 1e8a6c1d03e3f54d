"""Beside a dockerd whose rules drop every forwarded packet that they do not know."""

from __future__ import annotations

import select
import shutil
import subprocess
import time
from collections.abc import Callable

import pytest

from carrack.networks.creation import NetworkRequest
from carrack.networks.endpoint import PortBinding
from carrack.networks.options import NetworkOptions
from tests.kernel.network.lab import MACHINE4, OUTSIDE4, Lab, reach, silent

pytestmark = pytest.mark.root

DOCKERD = """
table ip filter {
  chain DOCKER-USER {
    counter return
  }
  chain FORWARD {
    type filter hook forward priority 0; policy drop;
    counter jump DOCKER-USER
  }
}
"""


def eventually(happened: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 15
    while not happened():
        if time.monotonic() > deadline:
            return False
        select.select([], [], [], 0.01)
    return True


def accepted(lab: Lab) -> bool:
    return "jump CARRACK" in lab.nft.run("list ruleset")


def test_containers_reach_out_and_are_reached_though_dockerd_drops(lab: Lab) -> None:
    lab.nft.run(DOCKERD)
    networks = lab.open()
    networks.create(NetworkRequest(name="mine"))
    lab.echo(lab.outside, 9000)
    for network in ("bridge", "mine"):
        box = lab.start(networks, f"in-{network}", network, (PortBinding(80, "tcp", "", "0"),))
        lab.echo(box.place, 80)
        assert reach(box.place, OUTSIDE4, 9000) == MACHINE4
        assert reach(lab.outside, MACHINE4, box.held[0].host_port) == OUTSIDE4


def test_it_is_dockerds_policy_that_would_stop_them(lab: Lab) -> None:
    lab.nft.run(DOCKERD)
    networks = lab.open(NetworkOptions(beside_docker=False))
    lab.echo(lab.outside, 9000)
    assert silent([(lab.start(networks, "web").place, OUTSIDE4, 9000, "tcp")])


def test_our_own_table_still_judges(lab: Lab) -> None:
    lab.nft.run(DOCKERD)
    networks = lab.open()
    box = lab.start(networks, "web", ports=(PortBinding(80, "tcp", "", "8080"),))
    lab.echo(box.place, 80)
    lab.echo(box.place, 81)
    lab.route_outside_through_machine("172.17.0.0/16")
    assert reach(lab.outside, MACHINE4, 8080) == OUTSIDE4
    assert silent([(lab.outside, box.endpoint.ipv4, 81, "tcp")])


def test_a_dockerd_that_starts_later_is_noticed(lab: Lab) -> None:
    networks = lab.open()
    box = lab.start(networks, "web")
    lab.echo(lab.outside, 9000)
    lab.nft.run(DOCKERD)
    assert eventually(lambda: accepted(lab))
    assert reach(box.place, OUTSIDE4, 9000) == MACHINE4


def test_rules_that_dockerd_flushes_are_back(lab: Lab) -> None:
    lab.nft.run(DOCKERD)
    lab.open()
    lab.nft.run("flush chain ip filter DOCKER-USER\nadd rule ip filter DOCKER-USER counter return")
    assert eventually(lambda: accepted(lab))
    assert lab.nft.run("list chain ip filter DOCKER-USER").index("jump CARRACK") < lab.nft.run(
        "list chain ip filter DOCKER-USER"
    ).index("return")


def test_a_removed_networks_rules_go_and_the_instances_with_it(lab: Lab) -> None:
    lab.nft.run(DOCKERD)
    networks = lab.open()
    networks.create(NetworkRequest(name="mine"))
    bridge = networks.get("mine").bridge
    assert bridge in lab.nft.run("list chain ip filter CARRACK")
    networks.remove("mine")
    assert bridge not in lab.nft.run("list chain ip filter CARRACK")
    lab.shut(networks, keep=False)
    assert "CARRACK" not in lab.nft.run("list ruleset")


def test_iptables_can_still_read_its_table(lab: Lab) -> None:
    iptables = shutil.which("iptables-nft")
    if iptables is None:
        pytest.skip("no iptables-nft on this machine")
    for arguments in (("-N", "DOCKER-USER"), ("-A", "FORWARD", "-j", "DOCKER-USER"), ("-P", "FORWARD", "DROP")):
        subprocess.run([iptables, *arguments], check=True, timeout=20)
    lab.open()
    shown = subprocess.run([iptables, "-S"], capture_output=True, text=True, check=True, timeout=20).stdout
    assert "-A CARRACK -i carrack0 -j ACCEPT" in shown
    assert "-A DOCKER-USER -j CARRACK" in shown
