"""From what `inspect` says to an order that makes the like."""

from typing import Any

import pytest

from carrack.setup import definitions
from carrack.setup.definitions import Source


def found(name: str, created: str = "2026-01-01", **host: Any) -> dict[str, Any]:
    config = {"Image": "app", "Hostname": "x"}
    return {"Name": f"/{name}", "Id": f"{name}-id", "Created": created, "Image": "sha256:1", "Config": config, "HostConfig": host}


SOURCE = Source({f"{name}-id": name for name in ("a", "b", "c")}, {"app:latest": "sha256:1"}, "json-file")


def test_who_is_needed_comes_first_and_else_the_oldest() -> None:
    containers = [
        found("a", "3"),
        found("b", "1", NetworkMode="container:c-id", Links=["/a:/b/x"]),
        found("c", "2", VolumesFrom=["b:ro"]),  # a circle, which no engine lets anyone make: it must not catch us
    ]
    assert [definitions.name_of(each) for each in definitions.in_order(containers, SOURCE)] == ["c", "a", "b"]


def test_ids_of_the_other_engine_become_names() -> None:
    host: dict[str, Any] = {
        "NetworkMode": "container:c-id",
        "PidMode": "container:c",
        "VolumesFrom": ["b-i:ro"],
        "Links": ["/a:/b/x"],
    }
    made = definitions.container(found("a", **host), SOURCE)["HostConfig"]
    assert (made["NetworkMode"], made["PidMode"]) == ("container:c", "container:c")
    assert (made["VolumesFrom"], made["Links"]) == (["b:ro"], ["a:x"])


def test_an_image_whose_name_has_moved_on_is_named_by_its_id() -> None:
    moved = Source(tags={"app:latest": "sha256:2"})
    assert definitions.container(found("a"), SOURCE)["Image"] == "app"
    assert definitions.container(found("a"), moved)["Image"] == "sha256:1"


def test_who_chose_no_log_driver_gets_the_new_engines() -> None:
    chosen = {"Type": "json-file", "Config": {"max-size": "1m"}}
    assert "LogConfig" not in definitions.container(found("a", LogConfig={"Type": "json-file", "Config": {}}), SOURCE)["HostConfig"]
    assert definitions.container(found("a", LogConfig=chosen), SOURCE)["HostConfig"]["LogConfig"] == chosen


@pytest.mark.parametrize(
    ("config", "left_to_us"),
    [
        ({"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.1"}, True),
        ({"Subnet": "192.168.16.0/20", "Gateway": "192.168.16.1"}, True),
        ({"Subnet": "172.18.0.0/24", "Gateway": "172.18.0.1"}, False),
        ({"Subnet": "172.18.0.0/16", "Gateway": "172.18.0.9"}, False),
        ({"Subnet": "172.18.0.0/16", "IPRange": "172.18.1.0/24"}, False),
        ({"Subnet": "10.1.0.0/16", "Gateway": "10.1.0.1"}, False),
        ({"Subnet": "fd00::/64"}, False),
    ],
)
def test_addresses_that_somebody_asked_for_are_kept(config: dict[str, str], left_to_us: bool) -> None:
    network = {"Name": "n", "Driver": "bridge", "IPAM": {"Driver": "default", "Config": [config]}}
    assert ("IPAM" not in definitions.network(network, [])) == left_to_us


def test_a_subnet_with_a_fixed_address_in_it_is_kept() -> None:
    network = {"Name": "n", "Driver": "bridge", "IPAM": {"Config": [{"Subnet": "172.18.0.0/16"}]}}
    fixed = found("a")
    fixed["NetworkSettings"] = {"Networks": {"n": {"IPAMConfig": {"IPv4Address": "172.18.0.9"}}}}
    assert "IPAM" in definitions.network(network, [fixed])
