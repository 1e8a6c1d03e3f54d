"""The networks bridge, host and none, and published ports, tried over real sockets from every side."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.rig.conversation import Pipes
from tests.rig.engine import CommandLine
from tests.rig.namespaces import Neighbour
from tests.rig.ports import FreePort
from tests.rig.waiting import until

UDP_ECHO = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 7000))
print("listening", flush=True)
text, client = server.recvfrom(100)
server.sendto(text + b" to you", client)
"""
UDP_ASK = """
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(5)
client.connect((sys.argv[1], int(sys.argv[2])))
client.send(b"hello")
print(client.recv(100).decode())
"""
SERVER = "mkdir -p /srv && echo {text} > /srv/index.html && exec httpd -f -p {port} -h /srv"


def serve(cli: CommandLine, name: str, *flags: str, text: str = "", port: int = 80) -> str:
    """A web server that answers with its name (or the text); returns the container's address once it listens."""
    cli.ok("run", "-d", "--name", name, *flags, "busybox", "sh", "-c", SERVER.format(text=text or name, port=port))
    until(lambda: cli("exec", name, "sh", "-c", f"netstat -ltn | grep -q ':{port} '").code == 0, "the server to listen")
    return cli.ok("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", name) if "--network" not in flags else ""


def fetched(cli: CommandLine, url: str) -> str:
    """What the engine's host gets from a URL; empty when nothing answers."""
    return cli.engine.on_host("curl", "-s", "-m", "3", "--noproxy", "*", url).text


def fetched_inside(cli: CommandLine, address: str, port: int, *, container: str = "") -> str:
    """The last line of what a container (a new one, or the one named) gets from an address.

    By `nc`: the wget of Debian's static busybox crashes where its C library finds no resolver plug-ins.
    """
    script = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {address} {port} | tail -n 1"
    return (cli("exec", container, "sh", "-c", script) if container else cli.shell(script)).text


def host_mtu() -> int:
    """The MTU of the interface behind the host's default route, at most 1500; 1500 without one."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == "00000000":
            return min(1500, int(Path(f"/sys/class/net/{fields[0]}/mtu").read_text()))
    return 1500


@pytest.mark.observes("docker run --network")
def test_bridge_gives_an_address_a_gateway_and_a_mac(docker_cli: CommandLine) -> None:
    script = "ip -4 -o addr show eth0; ip route; cat /sys/class/net/eth0/address; cat /sys/class/net/eth0/mtu"
    cli = docker_cli
    cli.ok("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    seen = cli.ok("exec", "one", "sh", "-c", script)
    shown = json.loads(cli.ok("inspect", "one"))[0]["NetworkSettings"]["Networks"]["bridge"]
    assert f"inet {shown['IPAddress']}/{shown['IPPrefixLen']} " in seen
    assert f"default via {shown['Gateway']} dev eth0" in seen
    assert shown["MacAddress"] in seen
    assert int(seen.splitlines()[-1]) in (1500, host_mtu())  # dockerd: always 1500


@pytest.mark.observes("docker run --network")
def test_the_container_reaches_its_gateway_and_the_gateway_it(docker_cli: CommandLine) -> None:
    address = serve(docker_cli, "web")
    gateway = docker_cli.ok("inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", "web")
    docker_cli.ok("exec", "web", "ping", "-c", "1", "-W", "2", gateway)
    assert fetched(docker_cli, f"http://{address}/") == "web"


@pytest.mark.observes("docker run --network")
def test_containers_on_the_bridge_reach_each_other(docker_cli: CommandLine) -> None:
    address = serve(docker_cli, "web")
    assert fetched_inside(docker_cli, address, 80) == "web"


@pytest.mark.observes("docker run --network")
def test_a_container_reaches_outside_under_the_hosts_address(docker_cli: CommandLine, neighbour: Neighbour) -> None:
    """NAT out: the neighbour knows no route to the container's network, so an answer proves the address was changed."""
    neighbour.run("ip", "route", "delete", "default").ok()
    docker_cli.ok("run", "--rm", "busybox", "ping", "-c", "1", "-W", "3", neighbour.address)


@pytest.mark.observes("docker run --network")
def test_none_has_only_loopback(docker_cli: CommandLine) -> None:
    seen = docker_cli.shell(
        "ls /sys/class/net; ping -c 1 -W 1 127.0.0.1 >/dev/null && echo up; ip route | wc -l", "--network", "none"
    )
    links = [name for name in seen.ok().split() if name not in {"up", "0"}]
    assert "eth0" not in links
    assert "lo" in links
    assert seen.lines[-2:] == ["up", "0"]


@pytest.mark.observes("docker run --network")
def test_host_is_the_hosts_own_network(docker_cli: CommandLine) -> None:
    inside = docker_cli.ok("run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net")
    assert inside == docker_cli.engine.on_host("readlink", "/proc/self/ns/net").ok()


@pytest.mark.observes("docker run --network")
def test_an_unknown_network_is_refused_and_nothing_runs(docker_cli: CommandLine) -> None:
    ended = docker_cli("run", "--name", "lost", "--network", "nowhere", "busybox", "true")
    assert ended.code == 125
    assert "network nowhere not found" in ended.stderr


@pytest.mark.observes("docker run --publish")
def test_a_published_port_answers_on_every_side(docker_cli: CommandLine, neighbour: Neighbour, free_port: FreePort) -> None:
    port = free_port()
    serve(docker_cli, "web", "-p", f"{port}:80")
    gateway = docker_cli.ok("inspect", "-f", "{{.NetworkSettings.Networks.bridge.Gateway}}", "web")
    assert fetched(docker_cli, f"http://127.0.0.1:{port}/") == "web"
    assert fetched(docker_cli, f"http://localhost:{port}/") == "web"
    assert fetched(docker_cli, f"http://{neighbour.host_address}:{port}/") == "web"
    assert fetched(docker_cli, f"http://{gateway}:{port}/") == "web"
    outside = neighbour.run("curl", "-s", "-m", "3", f"http://{neighbour.host_address}:{port}/")
    assert outside.text == "web", str(outside)
    for address in (gateway, neighbour.host_address):
        assert fetched_inside(docker_cli, address, port) == "web"
    assert fetched_inside(docker_cli, gateway, port, container="web") == "web"


@pytest.mark.observes("docker run --publish")
def test_a_port_published_on_loopback_is_not_reachable_from_outside(
    docker_cli: CommandLine, neighbour: Neighbour, free_port: FreePort
) -> None:
    port = free_port()
    serve(docker_cli, "web", "-p", f"127.0.0.1:{port}:80")
    assert fetched(docker_cli, f"http://127.0.0.1:{port}/") == "web"
    assert fetched(docker_cli, f"http://{neighbour.host_address}:{port}/") == ""
    assert neighbour.run("curl", "-s", "-m", "2", f"http://{neighbour.host_address}:{port}/").code != 0
    # a machine on the wire that sends to 127.0.0.1 through the host must not get in either
    neighbour.run("ip", "route", "add", "127.9.9.9/32", "via", neighbour.host_address)
    assert neighbour.run("curl", "-s", "-m", "2", f"http://127.9.9.9:{port}/").code != 0


@pytest.mark.observes("docker run --publish")
def test_the_clients_address_is_seen_inside(docker_cli: CommandLine, neighbour: Neighbour, free_port: FreePort) -> None:
    port = free_port()
    docker_cli.ok("run", "-d", "--name", "web", "-p", f"{port}:80", "busybox", "httpd", "-f", "-vv", "-p", "80")
    until(lambda: docker_cli("exec", "web", "sh", "-c", "netstat -ltn | grep -q ':80 '").code == 0, "the server to listen")
    neighbour.run("curl", "-s", "-m", "3", f"http://{neighbour.host_address}:{port}/seen")
    until(lambda: neighbour.address in docker_cli("logs", "web").stderr, "the neighbour's address in the server's log")


@pytest.mark.observes("docker run --publish", "docker port")
def test_a_port_without_a_number_gets_a_free_one(docker_cli: CommandLine) -> None:
    serve(docker_cli, "web", "-p", "80")
    shown = docker_cli.ok("port", "web", "80").splitlines()[0]
    port = int(shown.rpartition(":")[2])
    assert 32768 <= port <= 65535
    assert fetched(docker_cli, f"http://127.0.0.1:{port}/") == "web"


@pytest.mark.observes("docker run --publish-all")
def test_publish_all_publishes_what_is_exposed(docker_cli: CommandLine) -> None:
    serve(docker_cli, "web", "--expose", "80", "-P")
    port = docker_cli.ok("port", "web", "80").splitlines()[0].rpartition(":")[2]
    assert fetched(docker_cli, f"http://127.0.0.1:{port}/") == "web"


@pytest.mark.observes("docker run --publish")
def test_a_range_of_ports_is_published_one_to_one(docker_cli: CommandLine, free_port: FreePort) -> None:
    first = next(port for port in iter(free_port, None) if free_port() == port + 1)
    serve(docker_cli, "web", "-p", f"{first}-{first + 1}:8000-8001", port=8001)
    assert fetched(docker_cli, f"http://127.0.0.1:{first + 1}/") == "web"
    assert fetched(docker_cli, f"http://127.0.0.1:{first}/") == ""


@pytest.mark.observes("docker run --publish")
def test_udp_is_published_too(docker_cli: CommandLine, neighbour: Neighbour, free_port: FreePort) -> None:
    port = free_port()
    docker_cli.ok("run", "-d", "--name", "echo", "-p", f"{port}:7000/udp", "busybox", "sleep", "1000")
    pid = docker_cli.ok("inspect", "-f", "{{.State.Pid}}", "echo")
    # Debian's static busybox has no UDP server: ours runs in the container's network namespace instead
    with Pipes(["nsenter", f"--net=/proc/{pid}/ns/net", sys.executable, "-c", UDP_ECHO], env=os.environ) as server:
        server.expect("listening")
        answer = neighbour.run(sys.executable, "-c", UDP_ASK, neighbour.host_address, str(port))
    assert answer.ok() == "hello to you"


@pytest.mark.observes("docker run --publish")
def test_a_port_in_use_by_another_container_is_refused(docker_cli: CommandLine, free_port: FreePort) -> None:
    port = free_port()
    serve(docker_cli, "first", "-p", f"{port}:80")
    ended = docker_cli("run", "-d", "--name", "second", "-p", f"{port}:80", "busybox", "sleep", "1000")
    assert ended.code == 125
    assert re.search(rf"Bind for 0\.0\.0\.0:{port} failed: port is already allocated", ended.stderr)
    assert docker_cli.ok("inspect", "-f", "{{.State.Status}}", "second") == "created"
    assert fetched(docker_cli, f"http://127.0.0.1:{port}/") == "first"


@pytest.mark.observes("docker run --publish")
def test_a_port_in_use_by_a_program_of_the_host_is_refused(docker_cli: CommandLine, free_port: FreePort) -> None:
    port = free_port()
    taken = [*docker_cli.engine.host_prefix(), "busybox", "nc", "-l", "-p", str(port)]
    with subprocess.Popen(taken, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as program:
        try:
            until(lambda: docker_cli.engine.on_host("sh", "-c", f"ss -ltn | grep -q ':{port} '").code == 0, "the program to listen")
            ended = docker_cli("run", "-d", "--name", "late", "-p", f"{port}:80", "busybox", "sleep", "1000")
            assert ended.code == 125
            assert "address already in use" in ended.stderr
        finally:
            program.kill()


@pytest.mark.observes("docker run --publish")
def test_a_port_is_free_again_after_stop_and_kept_for_start(docker_cli: CommandLine, free_port: FreePort) -> None:
    port = free_port()
    serve(docker_cli, "first", "-p", f"{port}:80")
    docker_cli.ok("stop", "-t", "0", "first")
    assert fetched(docker_cli, f"http://127.0.0.1:{port}/") == ""
    serve(docker_cli, "second", "-p", f"{port}:80")
    assert fetched(docker_cli, f"http://127.0.0.1:{port}/") == "second"
    assert docker_cli("start", "first").code == 1
    docker_cli.ok("rm", "-f", "second")
    docker_cli.ok("start", "first")
    until(lambda: fetched(docker_cli, f"http://127.0.0.1:{port}/") == "first", "the first server to answer again")


@pytest.mark.observes("docker run --publish")
@pytest.mark.parametrize("flag", ["80:80:80:80", "abc:80", "1-2:80-90", "0x50:80", "99999:80", "300.1.1.1:80:80", "80/carrier"])
def test_a_malformed_port_is_refused_by_the_client(docker_cli: CommandLine, flag: str) -> None:
    ended = docker_cli("create", "-p", flag, "busybox", "true")
    assert ended.code != 0
    assert docker_cli.ok("ps", "-aq") == ""


@pytest.mark.observes("docker network ls --filter", "docker network ls --format", "docker network ls", "GET /networks")
def test_network_ls_shows_the_three_of_every_engine(docker_cli: CommandLine) -> None:
    rows = sorted(docker_cli.ok("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}").splitlines())
    assert rows == ["bridge bridge local", "host host local", "none null local"]
    assert docker_cli.ok("network", "ls", "--filter", "driver=host", "--format", "{{.Name}}") == "host"


@pytest.mark.observes("docker network inspect", "GET /networks/{id}")
def test_network_inspect_shows_the_range_and_who_is_in_it(docker_cli: CommandLine) -> None:
    container_id = docker_cli.ok("run", "-d", "--name", "member", "busybox", "sleep", "1000")
    shown = json.loads(docker_cli.ok("network", "inspect", "bridge"))[0]
    address = docker_cli.ok("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "member")
    assert (shown["Name"], shown["Driver"], shown["Scope"]) == ("bridge", "bridge", "local")
    member = shown["Containers"][container_id]
    assert (member["Name"], member["IPv4Address"].partition("/")[0]) == ("member", address)
    assert shown["IPAM"]["Config"][0]["Subnet"]


@pytest.mark.observes("GET /networks/{id}")
def test_an_unknown_network_is_named(docker_cli: CommandLine) -> None:
    ended = docker_cli("network", "inspect", "nowhere")
    assert ended.code == 1
    assert "network nowhere not found" in ended.stderr or "No such network: nowhere" in ended.stderr


def test_addresses_are_given_out_once_and_come_back(docker_cli: CommandLine) -> None:
    form = "{{.NetworkSettings.Networks.bridge.IPAddress}}"
    names = [f"c{index}" for index in range(5)]
    for name in names:
        docker_cli.ok("run", "-d", "--name", name, "busybox", "sleep", "1000")
    addresses = docker_cli.ok("inspect", "-f", form, *names).split()
    assert len(set(addresses)) == 5
    assert docker_cli.ok("run", "-d", "--name", "c5", "busybox", "sleep", "1000")
    assert docker_cli.ok("inspect", "-f", form, "c5") not in addresses


@pytest.mark.parametrize("network", ["host", "none"])
@pytest.mark.observes("GET /networks/{id}", "GET /events")
def test_networks_without_addresses_show_who_is_in_them(docker_cli: CommandLine, network: str) -> None:
    since = f"{time.time():.9f}"
    container_id = docker_cli.ok("run", "-d", "--name", "member", "--network", network, "busybox", "sleep", "1000")
    (shown,) = json.loads(docker_cli.ok("network", "inspect", network))
    assert shown["Containers"][container_id]["Name"] == "member"
    assert docker_cli.ok("inspect", "-f", f"{{{{.NetworkSettings.Networks.{network}.NetworkID}}}}", "member") == shown["Id"]
    assert docker_cli.ok("ps", "-q", "--no-trunc", "--filter", f"network={shown['Id']}") == container_id
    docker_cli.ok("stop", "-t", "0", "member")
    assert not json.loads(docker_cli.ok("network", "inspect", network))[0]["Containers"]
    words = ("--since", since, "--until", str(int(time.time()) + 1), "--filter", "type=network", "--filter", f"network={network}")
    told = docker_cli.ok("events", *words, "--format", "{{.Action}}")
    assert told.split() == ["connect", "disconnect"]


@pytest.mark.observes("POST /containers/create")
def test_a_container_joins_the_networks_that_are_asked_for_and_not_the_default_beside_them(docker_cli: CommandLine) -> None:
    docker_cli.ok("network", "create", "mine")
    body = {"Image": "busybox", "Cmd": ["sleep", "1000"], "NetworkingConfig": {"EndpointsConfig": {"mine": {}}}}
    made = docker_cli.engine.api("POST", "/v1.41/containers/create", body).json["Id"]
    docker_cli.ok("start", made)
    assert list(docker_cli.engine.api("GET", f"/v1.41/containers/{made}/json").json["NetworkSettings"]["Networks"]) == ["mine"]
    links = docker_cli.ok("exec", made, "ls", "/sys/class/net").split()
    assert len([link for link in links if link.startswith("eth")]) == 1


@pytest.mark.observes("GET /containers/{id}/json")
def test_the_sandbox_key_is_the_containers_network_namespace(docker_cli: CommandLine) -> None:
    docker_cli.ok("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    key = docker_cli.ok("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "web")
    address = docker_cli.ok("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "web")
    assert address in docker_cli.engine.on_host("nsenter", f"--net={key}", "ip", "-4", "address", "show", "eth0").ok()
    docker_cli.ok("run", "-d", "--name", "beside", "--network", "container:web", "busybox", "sleep", "1000")
    assert docker_cli.ok("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "beside") == ""
