"""Who reaches whom: an outside host, the machine, four networks, eight containers, each in its own network namespace; one table of
checks with real connections, IPv4 and IPv6. With ``--peer dockerd`` the table is tried on the real dockerd too."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.conftest import EnginePool
from tests.rig.engine import CommandLine, Engine, docker_program
from tests.rig.namespaces import HeldNamespace, Neighbour
from tests.rig.slots import slot
from tests.rig.waiting import until

OUTSIDE6, MACHINE6 = "fd7a:c0de::2", "fd7a:c0de::1"
_SERVER = "echo $NAME > /index.html; exec httpd -f -p 80 -h /"
_WEB_SERVER = """
import http.server, socket, sys
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"outside")
    def log_message(self, *words):
        pass
server = Server(("::", 80), Answer)
print("ready", flush=True)
server.serve_forever()
"""


@dataclass
class World:
    """The topology. `places` are what targets are called in the table."""

    cli: CommandLine
    outside: Neighbour
    addresses: dict[str, str] = field(default_factory=dict)

    def ask(self, source: str, target: str, *, patience: int) -> str:
        """What the server at a target says to somebody; nothing when it cannot be reached."""
        place, _, port = target.rpartition(":")
        address = self.addresses[place]
        url = f"http://{f'[{address}]' if ':' in address else address}:{port}/"
        if source == "outside":
            return self.outside.run("curl", "-g", "-s", "-m", str(patience), url).text
        if source == "machine":
            return self.cli.engine.on_host("curl", "-g", "-s", "-m", str(patience), url).text
        return self.cli("exec", source, "timeout", str(patience), "wget", "-q", "-O", "-", url).text


def build(cli: CommandLine, outside: Neighbour, *, ipv6: bool) -> World:
    """Make the networks and containers, and wait until all servers listen."""
    world = World(cli, outside)
    # Debian's dockerd of our peer filters no IPv6: there the table is IPv4's.
    networks = {
        "left": ["--subnet", "10.79.1.0/24", "--gateway", "10.79.1.1"],
        "right": ["--subnet", "10.79.2.0/24"],
        "closed": ["--subnet", "10.79.3.0/24", "--internal"],
        "apart": ["--subnet", "10.79.4.0/24", "-o", "com.docker.network.bridge.enable_icc=false"],
    }
    for number, (name, flags) in enumerate(networks.items(), 1):
        cli.ok("network", "create", *flags, *(("--ipv6", "--subnet", f"fd00:79:{number}::/64") if ipv6 else ()), name)
    containers = {
        "web": ("left", "-p", "8080:80", "-p", "127.0.0.1:8081:80"),
        "peer": ("left",),
        "far": ("right", "-p", "8090:80"),
        "inner": ("closed",),
        "inner2": ("closed",),
        "one": ("apart",),
        "two": ("apart", "-p", "8095:80"),
        "default": ("bridge", "-p", "8096:80"),
    }
    for name, (network, *flags) in containers.items():
        cli.ok("run", "-d", "--name", name, "-e", f"NAME={name}", "--network", network, *flags, "busybox", "sh", "-c", _SERVER)
        for version, value in (("4", "IPAddress"), ("6", "GlobalIPv6Address")):
            shown = cli.ok("inspect", "-f", f"{{{{.NetworkSettings.Networks.{network}.{value}}}}}", name)
            if shown:
                world.addresses[name + version] = shown
    world.addresses |= {
        "machine4": outside.host_address, "machine6": MACHINE6, "loopback4": "127.0.0.1", "loopback6": "::1",
        "gateway4": "10.79.1.1", "outside4": outside.address, "outside6": OUTSIDE6,
    }  # fmt: skip
    for name in containers:
        until(lambda name=name: world.ask("machine", f"{name}4:80", patience=1) == name, f"{name} to listen")  # type: ignore[misc]
    for subnet in ("10.79.0.0/16", *(("fd00:79::/32",) if ipv6 else ())):
        outside.run("ip", "route", "add", subnet, "via", MACHINE6 if ":" in subnet else outside.host_address).ok()
    return world


def engine_in_a_namespace(pool: EnginePool, kind: str) -> tuple[Engine, HeldNamespace | None]:
    """An engine whose host is a network namespace, forwarding off, so that nothing here is the real machine's."""
    host = HeldNamespace() if kind == "carrackd" else None  # dockerd of the rig always has one
    engine = pool.build(kind, host=host)
    engine.on_host("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0").ok()
    return engine, host


@pytest.fixture(scope="module")
def world(engine_pool: EnginePool, engine_kind: str) -> Iterator[World]:
    engine, host = engine_in_a_namespace(engine_pool, engine_kind)
    server = None
    try:
        engine_pool.start(engine)
        with Neighbour(engine.host_prefix(), number=slot() + 500) as outside:
            outside.run("ip", "address", "add", f"{OUTSIDE6}/64", "dev", "eth0", "nodad").ok()
            engine.on_host("ip", "address", "add", f"{MACHINE6}/64", "dev", outside.link, "nodad").ok()
            outside.run("ip", "route", "add", "default", "via", MACHINE6).ok()
            server = subprocess.Popen([*outside.prefix(), "python3", "-c", _WEB_SERVER], stdout=subprocess.PIPE)
            assert server.stdout is not None
            assert server.stdout.readline() == b"ready\n"
            yield build(CommandLine(engine, [docker_program()]), outside, ipv6=engine_kind == "carrackd")
    finally:
        if server is not None:
            server.kill()
            server.wait()
            server.stdout.close()  # type: ignore[union-attr]
        engine.close()
        if host is not None:
            host.close()


# from            to                  what answers; "" nothing may
TABLE4 = """
outside           machine4:8080       web
outside           machine4:8081
outside           machine4:8090       far
outside           machine4:8096       default
outside           peer4:80
outside           inner4:80
machine           loopback4:8080      web
machine           loopback4:8081      web
machine           machine4:8080       web
machine           machine4:8081
machine           gateway4:8080       web
machine           loopback6:8080      web
machine           loopback6:8090      far
machine           web4:80             web
machine           inner4:80           inner
web               machine4:8080       web
web               gateway4:8080       web
peer              machine4:8080       web
peer              web4:80             web
peer              machine4:8090       far
far               machine4:8080       web
far               web4:80
far               peer4:80
default           machine4:8080       web
default           web4:80
web               default4:80
web               outside4:80         outside
far               outside4:80         outside
inner             inner24:80          inner2
inner             outside4:80
inner             machine4:8080
inner             web4:80
web               inner4:80
one               two4:80
one               machine4:8095       two
one               outside4:80         outside
"""
ONLY_OURS = """
outside           web4:80
outside           far4:80
outside           machine6:8080       web
outside           machine6:8090       far
outside           machine6:8096       default
outside           web6:80
outside           peer6:80
outside           inner6:80
machine           machine6:8080       web
machine           web6:80             web
machine           loopback6:8096      default
web               machine6:8080       web
peer              machine6:8080       web
peer              web6:80             web
far               machine6:8080       web
far               web6:80
web               outside6:80         outside
inner             inner26:80          inner2
inner             outside6:80
inner             web6:80
web               inner6:80
one               two6:80
one               machine6:8095       two
default           machine6:8080
"""
"""dockerd 20.10 lets whoever has a route reach published ports at the container's own address, and filters no IPv6."""


def rows(table: str) -> list[tuple[str, str, str]]:
    found = []
    for line in table.strip().splitlines():
        source, target, *answer = line.split()
        found.append((source, target, answer[0] if answer else ""))
    return found


@pytest.mark.observes("docker run --publish", "docker network create --internal", "docker network create --opt")
@pytest.mark.parametrize(("source", "target", "answer"), rows(TABLE4))
def test_who_reaches_whom(world: World, source: str, target: str, answer: str) -> None:
    assert world.ask(source, target, patience=5 if answer else 1) == answer


@pytest.mark.peer_lacks("no IPv6 filter, and container addresses open to whoever has a route")
@pytest.mark.observes("docker run --publish", "docker network create --ipv6")
@pytest.mark.parametrize(("source", "target", "answer"), rows(ONLY_OURS))
def test_who_reaches_whom_by_ipv6_and_by_route(world: World, source: str, target: str, answer: str) -> None:
    assert world.ask(source, target, patience=5 if answer else 1) == answer


@pytest.mark.observes("docker run --publish")
def test_the_machine_does_not_become_an_open_router(world: World) -> None:
    """Forwarding was off. It is on now, for containers; a second network beside the machine stays out of reach from the first."""
    with Neighbour(world.cli.engine.host_prefix(), number=slot() + 501) as beyond:
        assert world.cli.engine.on_host("sysctl", "-n", "net.ipv4.ip_forward").text == "1"
        beyond.run("ip", "address", "add", "fd7a:beef::2/64", "dev", "eth0", "nodad").ok()
        world.cli.engine.on_host("ip", "address", "add", "fd7a:beef::1/64", "dev", beyond.link, "nodad").ok()
        assert pings(world.outside, beyond.host_address), "as far as the machine it may go"
        assert not pings(world.outside, beyond.address)
        if world.cli.engine.kind == "carrackd":
            assert world.cli.engine.on_host("sysctl", "-n", "net.ipv6.conf.all.forwarding").text == "1"
            assert pings(world.outside, "fd7a:beef::1")
            assert not pings(world.outside, "fd7a:beef::2")
        assert world.cli("exec", "web", "ping", "-c", "1", "-W", "2", beyond.address).code == 0, "a container may"


def pings(place: Neighbour, address: str) -> bool:
    return place.run("busybox", "ping", "-c", "1", "-W", "1", address).code == 0
