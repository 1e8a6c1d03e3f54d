"""[::1], and IPv6 addresses of the host for containers that have IPv4 only: ports that the names process serves."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path

import pytest

from carrack.kernel import netns
from carrack.networks.creation import NetworkRequest
from carrack.networks.endpoint import PortBinding
from carrack.networks.networks import Networks
from carrack.networks.options import NetworkOptions
from tests.kernel.network.lab import MACHINE6, Box, Lab, reach, silent
from tests.kernel.network.test_names import children, eventually, names_process

pytestmark = pytest.mark.root


@pytest.fixture
def networks(lab: Lab, tmp_path: Path) -> Networks:
    return lab.open(NetworkOptions(run_directory=tmp_path))


@pytest.fixture
def box(lab: Lab, networks: Networks) -> Box:
    """A container of the default bridge, IPv4 only, that serves port 80 as 8080."""
    started = lab.start(networks, "web", ports=[PortBinding(80, host_port="8080"), PortBinding(80, "udp", host_port="8080")])
    lab.echo(started.place, 80)
    lab.echo(started.place, 80, "udp")
    return started


@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_an_ipv4_container_is_reached_at_every_ipv6_address_of_the_host(lab: Lab, box: Box, kind: str) -> None:
    gateway = "172.17.0.1"
    assert reach(None, "::1", 8080, kind) == gateway
    assert reach(None, MACHINE6, 8080, kind) == gateway
    assert reach(lab.outside, MACHINE6, 8080, kind) == gateway


def test_an_ipv6_container_is_reached_at_the_hosts_loopback_too(lab: Lab, networks: Networks) -> None:
    networks.create(NetworkRequest(name="six", enable_ipv6=True))
    box = lab.start(networks, "web", "six", ports=[PortBinding(80, host_port="8080")])
    lab.echo(box.place, 80, address="::")
    assert reach(None, "::1", 8080) == networks.get("six").pool6.gateway  # type: ignore[union-attr]
    assert reach(lab.outside, MACHINE6, 8080) != networks.get("six").pool6.gateway, "translated, not relayed"  # type: ignore[union-attr]


def test_a_port_published_on_ipv6_loopback_is_not_reached_from_outside(lab: Lab, networks: Networks) -> None:
    box = lab.start(networks, "web", ports=[PortBinding(80, host_ip="::1", host_port="8081")])
    lab.echo(box.place, 80)
    assert reach(None, "::1", 8081) == "172.17.0.1"
    assert silent([(lab.outside, MACHINE6, 8081, "tcp"), (None, "127.0.0.1", 8081, "tcp")])


def test_a_port_published_on_an_ipv4_address_has_no_relay(lab: Lab, networks: Networks) -> None:
    box = lab.start(networks, "web", ports=[PortBinding(80, host_ip="0.0.0.0", host_port="8082")])
    lab.echo(box.place, 80)
    assert reach(None, "127.0.0.1", 8082)
    assert silent([(None, "::1", 8082, "tcp"), (lab.outside, MACHINE6, 8082, "tcp")])


def test_without_the_relay_ipv6_is_not_published_for_ipv4_containers(lab: Lab, tmp_path: Path) -> None:
    networks = lab.open(NetworkOptions(run_directory=tmp_path, relays=False))
    box = lab.start(networks, "web", ports=[PortBinding(80, host_port="8080")])
    assert [port.host_ip for port in box.held] == ["0.0.0.0"]


def test_the_relay_goes_on_without_the_daemon_and_when_it_is_killed(lab: Lab, networks: Networks, box: Box, tmp_path: Path) -> None:
    lab.shut(networks, keep=True)
    assert reach(None, "::1", 8080)
    os.kill(names_process(lab), signal.SIGKILL)
    assert reach(None, "::1", 8080)
    assert reach(None, "::1", 8080, "udp")
    lab.open(NetworkOptions(run_directory=tmp_path))
    assert reach(None, "::1", 8080)


def test_the_port_is_free_when_its_container_has_ended(lab: Lab, networks: Networks, box: Box) -> None:
    assert reach(None, "::1", 8080)
    networks.unplug(box.endpoint)
    networks.release(box.id)
    box.end()
    for family, address in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
        socket.create_server((address, 8080), family=family).close()  # as servers do: over what is in TIME_WAIT


def test_a_half_closed_connection_brings_the_answer(lab: Lab, networks: Networks) -> None:
    """Two megabytes there, the end, and only then everything back: as `nc -N` and many protocols do it."""
    box = lab.start(networks, "sink", ports=[PortBinding(90, host_port="9000")])
    server = netns.inside(box.place, lambda: socket.create_server(("0.0.0.0", 90)))

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            got = b""
            while piece := connection.recv(1 << 16):
                got += piece
            connection.sendall(got[::-1])

    thread = threading.Thread(target=serve)
    thread.start()
    sent = os.urandom(2_000_000)
    with socket.create_connection(("::1", 9000), timeout=20) as caller:
        caller.sendall(sent)
        caller.shutdown(socket.SHUT_WR)
        got = b""
        while piece := caller.recv(1 << 16):
            got += piece
    thread.join()
    server.close()
    assert got == sent[::-1]


def test_a_container_that_does_not_listen_resets_the_connection(lab: Lab, networks: Networks) -> None:
    lab.start(networks, "deaf", ports=[PortBinding(91, host_port="9001")])
    with pytest.raises(ConnectionResetError):
        reach(None, "::1", 9001)


def test_a_port_moves_with_its_container_to_the_network_that_is_left(lab: Lab, networks: Networks, box: Box) -> None:
    networks.create(NetworkRequest(name="blue"))
    endpoint = networks.allocate(networks.get("blue"), box.id, box.endpoint.wish)
    networks.plug(endpoint, box.place, pidfd=lab.init)
    networks.unplug(box.endpoint, now=True, netns_fd=box.place)
    networks.release(box.id, box.endpoint.id)
    assert reach(None, "127.0.0.1", 8080) == networks.get("blue").pool4.gateway  # type: ignore[union-attr]
    assert reach(None, "::1", 8080) == networks.get("blue").pool4.gateway  # type: ignore[union-attr]
    networks.unplug(endpoint)
    networks.release(box.id)
    box.end()
    assert silent([(None, "127.0.0.1", 8080, "tcp"), (None, "::1", 8080, "tcp")])


def test_the_process_and_its_spare_end_when_nothing_is_left(lab: Lab, networks: Networks, box: Box) -> None:
    assert reach(None, "::1", 8080)
    primary = names_process(lab)
    family = [primary, *children(primary)]
    networks.unplug(box.endpoint)
    networks.release(box.id)
    lab.shut(networks, keep=True)
    assert eventually(lambda: not any(alive(pid) for pid in family))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
