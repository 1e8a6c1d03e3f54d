"""Networks of the user's own, through the command line: names, isolation, joining and leaving while running."""

import json

import pytest

from tests.rig.engine import CommandLine
from tests.rig.namespaces import Neighbour

pytestmark = pytest.mark.both_clients


def reaches(cli: CommandLine, container: str, target: str) -> bool:
    return cli("exec", container, "ping", "-c", "1", "-W", "1", target).code == 0


def idle(cli: CommandLine, name: str, *flags: str) -> None:
    cli.ok("run", "-d", "--name", name, *flags, "busybox", "sleep", "1000")


@pytest.mark.observes(
    "docker network create", "POST /networks/create", "docker network create --subnet", "docker network create --gateway"
)
def test_a_network_has_the_range_and_gateway_it_was_given(cli: CommandLine) -> None:
    cli.ok("network", "create", "--subnet", "10.77.3.0/24", "--gateway", "10.77.3.9", "mine")
    idle(cli, "one", "--network", "mine")
    seen = cli.ok("exec", "one", "sh", "-c", "ip -4 -o addr show eth0; ip route")
    assert "inet 10.77.3." in seen
    assert "default via 10.77.3.9" in seen


@pytest.mark.observes("docker network create", "docker run --network-alias")
def test_containers_find_each_other_by_name_and_alias(cli: CommandLine) -> None:
    cli.ok("network", "create", "mine")
    idle(cli, "db", "--network", "mine", "--network-alias", "database")
    idle(cli, "web", "--network", "mine")
    assert reaches(cli, "web", "db")
    assert reaches(cli, "web", "database")
    assert not reaches(cli, "web", "nobody")


@pytest.mark.observes("docker run --ip")
def test_an_address_may_be_chosen(cli: CommandLine) -> None:
    cli.ok("network", "create", "--subnet", "10.77.4.0/24", "mine")
    idle(cli, "one", "--network", "mine", "--ip", "10.77.4.44")
    assert "inet 10.77.4.44/24 " in cli.ok("exec", "one", "ip", "-4", "-o", "addr", "show", "eth0")


@pytest.mark.observes("docker network create")
def test_networks_are_closed_to_each_other(cli: CommandLine) -> None:
    cli.ok("network", "create", "left")
    cli.ok("network", "create", "right")
    idle(cli, "one", "--network", "left")
    idle(cli, "two", "--network", "right")
    address = cli.ok("inspect", "-f", "{{.NetworkSettings.Networks.right.IPAddress}}", "two")
    assert not reaches(cli, "one", address)


@pytest.mark.observes("docker network create --internal")
def test_an_internal_network_has_no_way_out(cli: CommandLine, neighbour: Neighbour) -> None:
    cli.ok("network", "create", "--internal", "closed")
    idle(cli, "inside", "--network", "closed")
    idle(cli, "outside")
    assert reaches(cli, "outside", neighbour.address)
    assert not reaches(cli, "inside", neighbour.address)


@pytest.mark.observes("docker network connect", "docker network disconnect", "docker network connect --alias")
@pytest.mark.observes("POST /networks/{id}/connect", "POST /networks/{id}/disconnect")
def test_a_running_container_joins_and_leaves(cli: CommandLine) -> None:
    cli.ok("network", "create", "mine")
    idle(cli, "db", "--network", "mine")
    idle(cli, "web")
    assert not reaches(cli, "web", "db")
    cli.ok("network", "connect", "--alias", "front", "mine", "web")
    assert reaches(cli, "web", "db")
    assert reaches(cli, "db", "front")
    cli.ok("network", "disconnect", "mine", "web")
    assert not reaches(cli, "web", "db")


@pytest.mark.observes("docker network rm", "DELETE /networks/{id}")
def test_a_network_in_use_is_not_removed(cli: CommandLine) -> None:
    network_id = cli.ok("network", "create", "mine")
    idle(cli, "one", "--network", "mine")
    refused = cli("network", "rm", "mine")
    assert refused.code == 1
    assert "has active endpoints" in refused.stderr
    cli.ok("rm", "-f", "one")
    assert cli.ok("network", "rm", "mine") == "mine"
    assert network_id[:12] not in cli.ok("network", "ls", "-q")


@pytest.mark.observes(
    "docker network prune", "docker network prune --force", "POST /networks/prune", "docker network create --label"
)
@pytest.mark.observes("docker network prune --filter", "docker network ls --quiet")
def test_prune_takes_networks_without_containers(cli: CommandLine) -> None:
    for name, label in (("used", "a"), ("spare", "a"), ("other", "b")):
        cli.ok("network", "create", "--label", f"group={label}", name)
    idle(cli, "one", "--network", "used")
    cli.ok("network", "prune", "-f", "--filter", "label=group=a")
    left = cli.ok("network", "ls", "--format", "{{.Name}}").split()
    assert sorted(left) == ["bridge", "host", "none", "other", "used"]


@pytest.mark.observes("docker network create")
def test_a_name_in_use_and_an_overlapping_range_are_refused(cli: CommandLine) -> None:
    cli.ok("network", "create", "--subnet", "10.77.5.0/24", "mine")
    again = cli("network", "create", "mine")
    assert again.code == 1
    assert "network with name mine already exists" in again.stderr
    overlap = cli("network", "create", "--subnet", "10.77.5.128/25", "more")
    assert overlap.code == 1
    assert "overlaps" in overlap.stderr


@pytest.mark.observes("docker network inspect --format")
def test_inspect_lists_the_members(cli: CommandLine) -> None:
    cli.ok("network", "create", "mine")
    idle(cli, "one", "--network", "mine")
    members = json.loads(cli.ok("network", "inspect", "-f", "{{json .Containers}}", "mine"))
    assert [member["Name"] for member in members.values()] == ["one"]


@pytest.mark.observes("docker network disconnect --force", "docker network create")
def test_what_is_not_connected_cannot_be_disconnected_by_force_either(cli: CommandLine) -> None:
    cli.ok("network", "create", "with space")
    cli.ok("run", "-d", "--name", "web", "busybox", "sleep", "1000")
    cli.ok("network", "connect", "with space", "web")
    cli.ok("network", "disconnect", "--force", "with space", "web")
    assert cli("network", "disconnect", "--force", "with space", "web").code == 1


@pytest.mark.observes("POST /networks/{id}/connect")
def test_the_hardware_address_asked_for_is_kept_for_the_start(cli: CommandLine) -> None:
    cli.ok("network", "create", "mine")
    cli.ok("create", "--name", "web", "busybox", "cat", "/sys/class/net/eth1/address")
    wish = {"Container": "web", "EndpointConfig": {"MacAddress": "02:42:ac:11:00:02"}}
    assert cli.engine.api("POST", "/v1.41/networks/mine/connect", wish).status == 200
    assert cli.ok("inspect", "-f", "{{.NetworkSettings.Networks.mine.MacAddress}}", "web") == "02:42:ac:11:00:02"
    if cli.engine.kind == "carrackd":  # Docker forgets it at the start, up to API 1.53
        assert cli.ok("start", "-a", "web") == "02:42:ac:11:00:02"
