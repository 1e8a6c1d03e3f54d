"""Images for several platforms behind the API: their parts, their statements, and each platform on its own (root)."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from carrack.api import images
from carrack.api.router import Api, Product
from carrack.images import ContainerUse
from tests.contract.http.live_server import LiveServer
from tests.kernel.test_images_api import BASE, TOP, Daemon
from tests.rig import tarballs
from tests.rig.house import House
from tests.rig.tarballs import PREDICATE, STATEMENT, Packed

pytestmark = pytest.mark.root

ARM = {"architecture": "arm64", "os": "linux"}
HERE, THERE = Packed([BASE, TOP], config={"Cmd": ["here"]}), Packed([BASE], config={"Cmd": ["there"]}, architecture="arm64")


def platform(*several: dict[str, str], name: str = "platform") -> str:
    return urllib.parse.urlencode([(name, json.dumps(each)) for each in several])


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    house = House(tmp_path)
    api = Api(images.routes(house.images, house.puller), product=Product("1"))
    with LiveServer(api, tmp_path / "api.sock", None, uvloop.new_event_loop) as server:
        found = Daemon(house, server)
        house.load(tarballs.multi_platform("docker.io/library/app:1", HERE, THERE, attestation=True))
        yield found
    house.close()


@pytest.mark.observes("GET /images/json")
def test_a_list_shows_the_parts_of_an_index_when_asked(daemon: Daemon) -> None:
    daemon.house.uses[HERE.id] = ContainerUse("c" * 64, "web", running=True)
    assert "Manifests" not in daemon.json("/images/json")[0]
    assert "Manifests" not in daemon.json("/v1.46/images/json?manifests=1")[0]
    here, there, proof = daemon.json("/v1.47/images/json?manifests=1")[0]["Manifests"]
    assert (here["Kind"], there["Kind"], proof["Kind"]) == ("image", "image", "attestation")
    assert here["ID"] == tarballs.digest(HERE.manifest)
    assert here["ImageData"] == {
        "Platform": {"architecture": "amd64", "os": "linux"},
        "Size": {"Unpacked": 123},
        "Containers": ["c" * 64],
    }
    content = len(HERE.manifest) + len(HERE.raw_config) + len(BASE) + len(TOP)
    assert here["Size"] == {"Content": content, "Total": content + 123}
    assert (there["Available"], there["ImageData"]["Size"]["Unpacked"]) == (True, 100)  # the layer they share
    assert proof["AttestationData"] == {"For": tarballs.digest(HERE.manifest)}


def test_identity_needs_manifests_and_names_where_an_image_came_from(daemon: Daemon) -> None:
    assert daemon.message("GET", "/images/json?identity=1") == (400, "conflicting options: identity requires manifests=1")
    assert "Identity" not in daemon.json("/images/app:1/json")
    daemon.house.images.store.database.write(
        lambda connection: (
            connection.execute(
                "INSERT INTO tags SELECT ?, digest, target, updated FROM tags", (f"reg.example/team/app@{HERE.id}",)
            ).rowcount
        )
    ).result()
    assert daemon.json("/images/app:1/json")["Identity"] == {"Pull": [{"Repository": "reg.example/team/app"}]}
    assert "Identity" not in daemon.json("/v1.52/images/app:1/json")
    shown = daemon.json("/images/json?manifests=1&identity=1")[0]["Manifests"][0]
    assert shown["ImageData"]["Identity"] == {"Pull": [{"Repository": "reg.example/team/app"}]}


@pytest.mark.observes("GET /images/{name}/json")
def test_inspect_shows_one_platform_or_all_parts(daemon: Daemon) -> None:
    assert daemon.json("/images/app:1/json")["Config"]["Cmd"] == ["here"]
    there = daemon.json(f"/images/app:1/json?{platform(ARM)}")
    assert (there["Id"], there["Architecture"], there["Config"]["Cmd"]) == (THERE.id, "arm64", ["there"])
    assert daemon.json(f"/v1.48/images/app:1/json?{platform(ARM)}")["Architecture"] == "amd64"
    assert len(daemon.json("/images/app:1/json?manifests=1")["Manifests"]) == 3
    both = daemon.message("GET", f"/images/app:1/json?manifests=1&{platform(ARM)}")
    assert both == (400, "conflicting options: manifests and platform options cannot both be set")
    status, message = daemon.message("GET", f"/images/app:1/json?{platform({'architecture': 's390x', 'os': 'linux'})}")
    assert (status, message.endswith("does not provide the specified platform (linux/s390x)")) == (404, True)
    assert daemon.message("GET", "/images/app:1/json?platform=arm64")[0] == 400


@pytest.mark.observes("GET /images/{name}/history")
def test_history_of_one_platform(daemon: Daemon) -> None:
    assert len(daemon.json("/images/app:1/history")) == 2
    assert len(daemon.json(f"/images/app:1/history?{platform(ARM)}")) == 1
    assert len(daemon.json(f"/v1.47/images/app:1/history?{platform(ARM)}")) == 2


@pytest.mark.observes("GET /images/{name}/attestations")
def test_attestations_of_a_platform(daemon: Daemon) -> None:
    (found,) = daemon.json("/images/app:1/attestations")
    assert found == {
        "Descriptor": {
            "mediaType": "application/vnd.in-toto+json",
            "digest": tarballs.digest(STATEMENT),
            "size": len(STATEMENT),
            "annotations": {"in-toto.io/predicate-type": PREDICATE},
        },
        "PredicateType": PREDICATE,
    }
    (whole,) = daemon.json(f"/images/app:1/attestations?statement=1&type={PREDICATE}")
    assert whole["Statement"] == json.loads(STATEMENT)
    assert daemon.json("/images/app:1/attestations?type=other") == []
    assert daemon.json(f"/images/app:1/attestations?{platform(ARM)}") == []
    assert daemon.message("GET", f"/images/app:1/attestations?{platform({'architecture': 's390x', 'os': 'linux'})}")[0] == 404
    assert daemon.message("GET", "/images/nothing/attestations") == (404, "No such image: nothing:latest")
    two = daemon.message("GET", f"/images/app:1/attestations?{platform(ARM, ARM)}")
    assert two == (400, "only one platform value is currently supported")
    assert daemon.message("GET", "/v1.54/images/app:1/attestations") == (404, "page not found")


@pytest.mark.observes("GET /images/{name}/get")
def test_several_platforms_are_saved_since_1_52(daemon: Daemon) -> None:
    amd = {"architecture": "amd64", "os": "linux"}
    status, text = daemon.message("GET", f"/v1.51/images/app:1/get?{platform(ARM, amd)}")
    assert (status, text.startswith("multiple platform parameters are not supported")) == (400, True)
    status, _, archive = daemon.ask("GET", f"/images/app:1/get?{platform(ARM, amd)}")
    assert (status, HERE.raw_config in archive, THERE.raw_config in archive) == (200, True, True)
    assert HERE.raw_config not in daemon.ask("GET", f"/images/app:1/get?{platform(ARM)}")[2]


@pytest.mark.observes("DELETE /images/{name}")
def test_another_platform_goes_and_the_image_stays(daemon: Daemon) -> None:
    path = f"/images/app:1?{platform(ARM, name='platforms')}"
    assert daemon.message("DELETE", path)[0] == 400
    assert json.loads(daemon.ask("DELETE", f"{path}&force=1")[2]) == [{"Deleted": tarballs.digest(THERE.manifest)}]
    assert daemon.json("/images/app:1/json")["Config"]["Cmd"] == ["here"]
    parts = daemon.json("/images/json?manifests=1")[0]["Manifests"]
    assert [part["Available"] for part in parts] == [True, False, True]
    assert f"blob {tarballs.digest(THERE.raw_config)}" not in daemon.house.remains()
    assert f"blob {tarballs.digest(BASE)}" in daemon.house.remains()  # the other platform has it, too


def test_with_its_own_platform_gone_a_name_stands_for_another(daemon: Daemon) -> None:
    amd = {"architecture": "amd64", "os": "linux"}
    path = f"/images/app:1?force=1&{platform(amd, name='platforms')}"
    daemon.house.uses[HERE.id] = ContainerUse("c" * 64, "web", running=False)
    assert daemon.message("DELETE", path)[0] == 409
    daemon.house.uses.clear()
    gone: list[dict[str, Any]] = json.loads(daemon.ask("DELETE", path)[2])
    assert {"Deleted": tarballs.digest(HERE.manifest)} in gone
    shown = daemon.json("/images/app:1/json")
    assert (shown["Id"], shown["Config"]["Cmd"]) == (THERE.id, ["there"])
    assert daemon.ask("DELETE", f"/images/app:1?force=1&{platform(ARM, name='platforms')}")[0] == 200
    assert daemon.json("/images/json?all=1") == []
    assert daemon.house.remains() == []
