"""The options of `docker network`, each by what it brings about."""

import ipaddress
import json
from collections.abc import Iterator

import pytest

from tests.conftest import EnginePool, Images
from tests.rig.engine import CommandLine, Engine
from tests.rig.namespaces import HeldNamespace, Neighbour
from tests.rig.ports import FreePort

pytestmark = pytest.mark.both_clients


@pytest.fixture(scope="module")
def housed(engine_pool: EnginePool) -> Iterator[list[Engine]]:
    """At most one carrackd, in a network namespace of its own (dockerd always has one): a network with IPv6 switches forwarding and
    router advertisements of its host, which are not the tests' to change on this machine."""
    made: list[Engine] = []
    yield made
    for engine in made:
        engine.close()


@pytest.fixture(scope="module")
def house() -> Iterator[HeldNamespace]:
    with HeldNamespace() as host:
        yield host


@pytest.fixture
def engine(
    house: HeldNamespace, housed: list[Engine], engine_pool: EnginePool, engine_kind: str, images: Images
) -> Iterator[Engine]:
    if engine_kind == "dockerd":
        engine = engine_pool.shared(engine_kind)
    else:
        if not housed:
            housed.append(engine_pool.build(engine_kind, host=house))
            engine_pool.start(housed[0])
        engine = housed[0]
    yield engine
    engine.sweep(frozenset({images.busybox.image_id}))


def idle(cli: CommandLine, name: str, *flags: str) -> None:
    cli.ok("run", "-d", "--name", name, *flags, "busybox", "sleep", "1000")


def inspected(cli: CommandLine, name: str, template: str) -> str:
    return cli.ok("network", "inspect", "-f", template, name)


def address(cli: CommandLine, container: str, network: str, field: str = "IPAddress") -> str:
    return cli.ok("inspect", "-f", f"{{{{.NetworkSettings.Networks.{network}.{field}}}}}", container)


@pytest.mark.observes("docker network create --ip-range", "docker network create --aux-address", "docker network create --subnet")
def test_addresses_come_from_the_range_and_spare_the_auxiliary_ones(cli: CommandLine) -> None:
    """Docker gives the gateway the first address of the range, and the containers what follows, but for the auxiliary ones."""
    ranges = ("--subnet", "10.78.0.0/16", "--ip-range", "10.78.5.0/29", "--aux-address", "router=10.78.5.2")
    cli.ok("network", "create", *ranges, "--aux-address", "printer=10.78.5.3", "mine")
    idle(cli, "one", "--network", "mine")
    idle(cli, "two", "--network", "mine")
    given = {address(cli, "one", "mine"), address(cli, "two", "mine")}
    assert all(ipaddress.ip_address(each) in ipaddress.ip_network("10.78.5.0/29") for each in given)
    assert not given & {"10.78.5.2", "10.78.5.3"}
    assert json.loads(inspected(cli, "mine", "{{json .IPAM.Config}}"))[0]["AuxiliaryAddresses"] == {
        "router": "10.78.5.2",
        "printer": "10.78.5.3",
    }


@pytest.mark.observes("docker network create --config-only", "docker network create --config-from")
def test_a_network_is_made_from_a_configuration(cli: CommandLine) -> None:
    cli.ok("network", "create", "--config-only", "--subnet", "10.78.8.0/24", "--label", "kept=yes", "conf")
    refused = cli("run", "--rm", "--network", "conf", "busybox", "true")
    assert refused.code != 0
    cli.ok("network", "create", "--config-from", "conf", "mine")
    assert inspected(cli, "mine", "{{.ConfigFrom.Network}} {{(index .IPAM.Config 0).Subnet}}") == "conf 10.78.8.0/24"
    idle(cli, "one", "--network", "mine")
    assert address(cli, "one", "mine").startswith("10.78.8.")
    in_use = cli("network", "rm", "conf")
    assert in_use.code == 1
    assert "is in use" in in_use.stderr
    mixed = cli("network", "create", "--config-from", "conf", "--subnet", "10.78.9.0/24", "other")
    assert mixed.code == 1
    assert "user specified configurations are not supported" in mixed.stderr
    cli.ok("rm", "-f", "one")
    cli.ok("network", "rm", "mine", "conf")


@pytest.mark.observes("docker network create --ipam-driver", "docker network create --ipam-opt")
def test_the_default_address_driver_takes_options_and_another_is_not_found(cli: CommandLine) -> None:
    cli.ok("network", "create", "--ipam-driver", "default", "--ipam-opt", "colour=blue", "mine")
    assert inspected(cli, "mine", "{{.IPAM.Driver}} {{json .IPAM.Options}}") == 'default {"colour":"blue"}'
    refused = cli("network", "create", "--ipam-driver", "weave", "other")
    assert refused.code == 1
    assert "weave" in refused.stderr
    assert "other" not in cli.ok("network", "ls", "--format", "{{.Name}}").split()


@pytest.mark.observes("docker network create --opt", "docker network create --driver")
def test_options_of_the_driver_are_honoured(cli: CommandLine) -> None:
    options = ("--opt", "com.docker.network.driver.mtu=1300", "-o", "com.docker.network.bridge.enable_icc=false")
    cli.ok("network", "create", "--driver", "bridge", *options, "mine")
    idle(cli, "one", "--network", "mine")
    idle(cli, "two", "--network", "mine")
    assert cli.ok("exec", "one", "cat", "/sys/class/net/eth0/mtu") == "1300"
    assert cli("exec", "one", "ping", "-c", "1", "-W", "1", address(cli, "two", "mine")).code != 0
    unknown = cli("network", "create", "--driver", "nosuch", "other")
    assert unknown.code == 1
    assert "nosuch" in unknown.stderr


@pytest.mark.observes("docker network create --scope", "docker network create --attachable", "docker network create --ingress")
def test_scope_attachable_and_ingress_need_what_they_are_for(cli: CommandLine) -> None:
    """Without a swarm a local scope is all there is; `attachable` is shown; the routing mesh needs a manager."""
    cli.ok("network", "create", "--scope", "local", "--attachable", "mine")
    assert inspected(cli, "mine", "{{.Scope}} {{.Attachable}}") == "local true"
    for flag in (("--scope", "swarm"), ("--ingress", "--driver", "overlay")):
        refused = cli("network", "create", *flag, "other")
        assert refused.code == 1
        assert "swarm" in refused.stderr


@pytest.mark.observes("docker network create --ipv6", "docker network connect --ip6", "docker network connect --ip")
def test_an_ipv6_network_gives_and_takes_addresses(cli: CommandLine) -> None:
    cli.ok("network", "create", "--ipv6", "--subnet", "fd00:78::/64", "--subnet", "10.78.12.0/24", "mine")
    idle(cli, "one")
    idle(cli, "two", "--network", "mine")
    cli.ok("network", "connect", "--ip", "10.78.12.44", "--ip6", "fd00:78::44", "mine", "one")
    assert (address(cli, "one", "mine"), address(cli, "one", "mine", "GlobalIPv6Address")) == ("10.78.12.44", "fd00:78::44")
    assert cli("exec", "two", "ping", "-6", "-c", "1", "-W", "2", "fd00:78::44").code == 0
    assert cli("exec", "two", "ping", "-c", "1", "-W", "2", "10.78.12.44").code == 0
    taken = cli("network", "connect", "--ip", "10.78.12.44", "mine", "nobody")
    assert taken.code == 1


@pytest.mark.docker_since(28)
@pytest.mark.peer_lacks("networks without IPv4 came with 28")
@pytest.mark.observes("docker network create --ipv4", "docker run --network")
def test_a_network_may_have_ipv6_only(cli: CommandLine) -> None:
    cli.ok("network", "create", "--ipv4=false", "--ipv6", "six")
    idle(cli, "one", "--network", "six")
    idle(cli, "two", "--network", "six")
    assert address(cli, "one", "six") == ""
    assert ipaddress.ip_address(address(cli, "one", "six", "GlobalIPv6Address")).is_private
    assert cli("exec", "two", "ping", "-c", "1", "-W", "2", "one").code == 0


@pytest.mark.observes("docker network connect --link-local-ip")
def test_a_link_local_address_is_had_beside_the_network_s_own(cli: CommandLine) -> None:
    cli.ok("network", "create", "mine")
    idle(cli, "one")
    idle(cli, "two", "--network", "mine")
    cli.ok("network", "connect", "--link-local-ip", "169.254.34.68", "mine", "one")
    assert "169.254.34.68/16" in cli.ok("exec", "one", "ip", "-4", "-o", "addr")
    shown = cli.ok("inspect", "-f", "{{json .NetworkSettings.Networks.mine.IPAMConfig.LinkLocalIPs}}", "one")
    assert shown == '["169.254.34.68"]'


@pytest.mark.peer_lacks("endpoint options came with 27, interface names with 28.1")
@pytest.mark.observes("docker network connect --driver-opt")
def test_options_of_the_endpoint_are_honoured(cli: CommandLine) -> None:
    cli.ok("network", "create", "mine")
    idle(cli, "one")
    sysctl = "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1"
    cli.ok("network", "connect", "--driver-opt", "com.docker.network.endpoint.ifname=front", "--driver-opt", sysctl, "mine", "one")
    assert cli.ok("exec", "one", "cat", "/proc/sys/net/ipv4/conf/front/log_martians") == "1"
    assert cli.ok("exec", "one", "cat", "/proc/sys/net/ipv4/conf/eth0/log_martians") == "0"


@pytest.mark.docker_since(28)
@pytest.mark.peer_lacks("gateway priority came with 28")
@pytest.mark.observes("docker network connect --gw-priority")
def test_the_network_of_the_highest_priority_gives_the_default_route(cli: CommandLine) -> None:
    cli.ok("network", "create", "--subnet", "10.78.20.0/24", "left")
    cli.ok("network", "create", "--subnet", "10.78.21.0/24", "right")
    cli.ok("create", "--name", "one", "--network", "left", "busybox", "sleep", "1000")
    cli.ok("network", "connect", "--gw-priority", "1", "right", "one")
    cli.ok("start", "one")
    assert "default via 10.78.21.1" in cli.ok("exec", "one", "ip", "route")
    cli.ok("network", "disconnect", "right", "one")
    assert "default via 10.78.20.1" in cli.ok("exec", "one", "ip", "route")


@pytest.mark.observes("docker network connect --link")
def test_a_link_is_a_name_for_one_container(cli: CommandLine) -> None:
    cli.ok("network", "create", "mine")
    idle(cli, "db", "--network", "mine")
    idle(cli, "web")
    idle(cli, "other", "--network", "mine")
    cli.ok("network", "connect", "--link", "db:store", "mine", "web")
    assert cli("exec", "web", "ping", "-c", "1", "-W", "2", "store").code == 0
    assert cli("exec", "other", "ping", "-c", "1", "-W", "2", "store").code != 0


@pytest.mark.observes("docker network disconnect --force")
def test_disconnect_by_force(cli: CommandLine) -> None:
    cli.ok("network", "create", "mine")
    idle(cli, "one", "--network", "mine")
    cli.ok("network", "disconnect", "--force", "mine", "one")
    assert cli.ok("exec", "one", "ls", "/sys/class/net").split() == ["lo"]
    cli.ok("network", "rm", "mine")


@pytest.mark.docker_since(23)
@pytest.mark.observes("docker network rm --force")
def test_rm_by_force_does_not_complain_of_what_is_not_there(cli: CommandLine) -> None:
    assert cli("network", "rm", "nosuch").code == 1
    assert cli("network", "rm", "--force", "nosuch").code == 0
    cli.ok("network", "create", "mine")
    idle(cli, "one", "--network", "mine")
    assert cli("network", "rm", "--force", "mine").code == 1, "one in use stays"


@pytest.mark.observes("docker network ls --no-trunc", "docker network inspect --verbose")
def test_ids_are_shown_whole_and_inspect_takes_verbose(cli: CommandLine) -> None:
    network_id = cli.ok("network", "create", "mine")
    assert network_id in cli.ok("network", "ls", "--no-trunc")
    assert network_id not in cli.ok("network", "ls")
    assert network_id[:12] in cli.ok("network", "ls")
    assert json.loads(cli.ok("network", "inspect", "--verbose", "mine"))[0]["Id"] == network_id


@pytest.mark.observes("docker network inspect")
def test_a_port_follows_its_container_to_another_network(cli: CommandLine, free_port: FreePort) -> None:
    """Published while in one network, still answered when the container has left it for another."""
    port = free_port()
    cli.ok("network", "create", "left")
    cli.ok("network", "create", "right")
    serve = "echo served > /index.html; exec httpd -f -p 80 -h /"
    cli.ok("run", "-d", "--name", "web", "--network", "left", "-p", f"{port}:80", "busybox", "sh", "-c", serve)
    cli.ok("network", "connect", "right", "web")
    cli.ok("network", "disconnect", "left", "web")
    gateway = inspected(cli, "right", "{{(index .IPAM.Config 0).Gateway}}")
    answered = cli.engine.on_host("curl", "-s", "-m", "5", "--retry", "5", "--retry-connrefused", f"http://{gateway}:{port}/")
    assert answered.text == "served", answered.stderr


def only_carrack(cli: CommandLine) -> bool:
    return cli.engine.kind == "carrackd" and cli.name == "carrack"


@pytest.mark.peer_lacks("only Carrack tells who can reach a port")
def test_exposure_tells_who_reaches_each_port(cli: CommandLine, free_port: FreePort, neighbour: Neighbour) -> None:
    open_port, local_port = free_port(), free_port()
    idle(cli, "web", "-p", f"{open_port}:80", "-p", f"127.0.0.1:{local_port}:81")
    rows = cli.engine.api("GET", "/carrack/exposure").json
    by_address = {(row["HostIP"], row["HostPort"]): row for row in rows}
    assert by_address["127.0.0.1", local_port]["ReachedFrom"] == ["this machine"]
    assert len(by_address["0.0.0.0", open_port]["ReachedFrom"]) > 1
    assert by_address["::", open_port]["ContainerIP"] == by_address["0.0.0.0", open_port]["ContainerIP"]
    if only_carrack(cli):
        shown = cli.ok("network", "exposure", "web")
        assert f"127.0.0.1:{local_port}/tcp" in shown
        assert f"[::]:{open_port}/tcp" in shown
        assert "published on a loopback address" in shown
        assert cli.ok("network", "exposure", "--format", "{{.Container}} {{.Port}}").splitlines().count("web 81") == 1
        assert cli.ok("network", "exposure", "nobody").count("\n") == 0
