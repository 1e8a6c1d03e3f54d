"""Carrack and a real dockerd on one host, which dockerd has made drop what it does not know: the containers of both go on."""

from collections.abc import Iterator

import pytest

from tests.conftest import EnginePool
from tests.rig.dockerd import Dockerd
from tests.rig.engine import CommandLine, docker_program
from tests.rig.namespaces import Neighbour
from tests.rig.slots import slot
from tests.rig.waiting import until

_SERVE = ("busybox", "sh", "-c", "echo served > /index.html; exec httpd -f -p 80 -h /")


@pytest.fixture
def both(engine_pool: EnginePool) -> Iterator[tuple[CommandLine, CommandLine]]:
    """(carrackd, dockerd), the latter first on the host, whose forwarding was off: so its policy is to drop."""
    dockerd = engine_pool.build("dockerd")
    assert isinstance(dockerd, Dockerd)
    carrackd = engine_pool.build("carrackd", host=dockerd.namespace)
    try:
        dockerd.on_host("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.bridge.bridge-nf-call-iptables=1")
        engine_pool.start(dockerd)
        engine_pool.start(carrackd)
        yield CommandLine(carrackd, [docker_program()]), CommandLine(dockerd, [docker_program()])
    finally:
        carrackd.close()
        dockerd.close()


def serving(cli: CommandLine, port: int) -> None:
    cli.ok("network", "create", "mine")
    cli.ok("run", "-d", "--name", "web", "--network", "mine", "-p", f"{port}:80", *_SERVE)
    cli.ok("run", "-d", "--name", "peer", "--network", "mine", "busybox", "sleep", "1000")


@pytest.mark.observes("docker run --publish", "docker network create")
def test_containers_of_both_reach_out_are_reached_and_reach_each_other(both: tuple[CommandLine, CommandLine]) -> None:
    policy = both[1].engine.on_host("iptables", "-S", "FORWARD").text
    assert "-P FORWARD DROP" in policy, "else this test shows nothing"
    with Neighbour(both[1].engine.host_prefix(), number=slot() + 502) as outside:
        for number, cli in enumerate(both):
            port = 8180 + number
            serving(cli, port)
            url = f"http://{outside.host_address}:{port}/"
            until(lambda url=url: outside.run("curl", "-s", "-m", "2", url).text == "served", f"{cli.engine.kind}'s server")  # type: ignore[misc]
            assert cli("exec", "web", "ping", "-c", "1", "-W", "5", outside.address).code == 0
            assert cli("exec", "peer", "ping", "-c", "1", "-W", "5", "web").code == 0
        # dockerd flushes and makes its chains again when it starts: ours are back, and nothing of its own is lost.
        both[1].engine.stop()
        both[1].engine.start()
        for number, cli in enumerate(both):
            url = f"http://{outside.host_address}:{8180 + number}/"
            until(lambda url=url: outside.run("curl", "-s", "-m", "2", url).text == "served", f"{cli.engine.kind}'s server")  # type: ignore[misc]
        both[0].engine.sweep()
        both[0].engine.stop()
        left = both[1].engine.on_host("iptables", "-S").text
        assert "CARRACK" not in left
