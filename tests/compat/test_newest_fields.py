"""What newer versions of the API show of real objects, and older ones do not."""

import json

import pytest

from tests.rig.engine import CommandLine, Engine

pytestmark = pytest.mark.peer_lacks("API 1.44 and newer")


@pytest.mark.observes("GET /networks/{id}")
def test_a_network_says_how_full_it_is(docker_cli: CommandLine) -> None:
    docker_cli.ok("network", "create", "--subnet", "10.247.5.0/24", "filling")
    docker_cli.ok("run", "-d", "--network", "filling", "busybox", "sleep", "1000")
    shown = docker_cli.engine.api("GET", "/networks/filling").json
    assert shown["Status"] == {"IPAM": {"Subnets": {"10.247.5.0/24": {"IPsInUse": 4, "DynamicIPsAvailable": 252}}}}
    assert "Status" not in docker_cli.engine.api("GET", "/v1.51/networks/filling").json


@pytest.mark.observes("GET /networks")
def test_a_list_of_networks_names_no_containers(engine: Engine) -> None:
    assert all("Containers" not in shown for shown in engine.api("GET", "/networks").json)
    assert all(shown["Containers"] == {} for shown in engine.api("GET", "/v1.51/networks").json)


@pytest.mark.observes("GET /containers/{id}/json")
def test_a_container_tells_the_names_it_answers_to(docker_cli: CommandLine) -> None:
    docker_cli.ok("network", "create", "named")
    words = ("--network", "named", "--network-alias", "db", "--hostname", "host1")
    container = docker_cli.ok("run", "-d", "--name", "web", *words, "busybox", "sleep", "1000")
    endpoint = docker_cli.engine.api("GET", "/containers/web/json").json["NetworkSettings"]["Networks"]["named"]
    assert endpoint["DNSNames"] == ["web", "db", container[:12], "host1"]
    for name in ("web", "db", container[:12], "host1"):
        docker_cli.ok("run", "--rm", "--network", "named", "busybox", "nslookup", name)
    old = docker_cli.engine.api("GET", "/v1.43/containers/web/json").json["NetworkSettings"]["Networks"]["named"]
    assert "DNSNames" not in old


@pytest.mark.observes("GET /containers/json")
def test_a_list_shows_health_annotations_and_what_a_container_was_made_from(engine: Engine) -> None:
    body = {
        "Image": "busybox",
        "Cmd": ["sleep", "1000"],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 10**9},
        "HostConfig": {"Annotations": {"owner": "me"}},
    }
    made = engine.api("POST", "/containers/create", body).json["Id"]
    query = "/containers/json?all=1&filters=" + "%7B%22annotation%22%3A%5B%22owner%3Dme%22%5D%7D"
    (shown,) = engine.api("GET", query).json
    assert (shown["Id"], shown["Health"]) == (made, {"Status": "none", "FailingStreak": 0})
    assert shown["HostConfig"]["Annotations"] == {"owner": "me"}
    image = engine.api("GET", "/images/busybox/json?manifests=1").json
    assert shown["ImageManifestDescriptor"]["digest"] == image["Manifests"][0]["ID"]
    assert engine.api("GET", query.replace("me%22", "you%22")).json == []
    (old,) = engine.api("GET", "/v1.43" + query).json
    assert not {"Health", "ImageManifestDescriptor"} & set(old)
    assert json.dumps(old["HostConfig"]) == '{"NetworkMode": "bridge"}'


@pytest.mark.observes("GET /info")
def test_a_runtime_says_what_it_can_since_1_44(engine: Engine) -> None:
    ours = engine.api("GET", "/info").json["Runtimes"]["carrack"]
    features = json.loads(ours["status"]["org.opencontainers.runtime-spec.features"])
    assert features["linux"]["seccomp"]["enabled"] is True
    assert "status" not in engine.api("GET", "/v1.43/info").json["Runtimes"]["carrack"]
