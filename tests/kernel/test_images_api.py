"""The routes of images over real images, on a real socket: statuses, documents of each version, streams (root)."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvloop

from carrack.api import images, registries
from carrack.api.router import Api, Product
from carrack.images import ContainerUse
from tests.contract.http.live_server import LiveServer
from tests.rig import tarballs
from tests.rig.house import House
from tests.rig.registry_double import Registry
from tests.rig.tarballs import Packed, entry, tar

pytestmark = pytest.mark.root

BASE = tar(entry("base", b"x" * 100))
TOP = tar(entry("top", b"y" * 23))
NOTHING = "No such image: nothing:latest"


@dataclass
class Daemon:
    """Images behind the API."""

    house: House
    server: LiveServer

    def ask(self, method: str, path: str, body: bytes = b"", *headers: str) -> tuple[int, dict[str, str], bytes]:
        lines = [f"{method} {path} HTTP/1.1", "Host: d", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        with self.server.connect() as client:
            client.send(*lines, body=body)
            return client.answer()

    def json(self, path: str) -> Any:
        status, _, body = self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)

    def lines(self, method: str, path: str, body: bytes = b"", *headers: str) -> list[dict[str, Any]]:
        status, _, content = self.ask(method, path, body, *headers)
        assert status == 200, content
        return [json.loads(line) for line in content.splitlines()]

    def message(self, method: str, path: str, *headers: str) -> tuple[int, str]:
        status, _, body = self.ask(method, path, b"", *headers)
        return status, json.loads(body)["message"]


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    house = House(tmp_path)
    routes = [*registries.routes(house.puller), *images.routes(house.images, house.puller)]
    api = Api(routes, product=Product("28.5.2"), max_version="1.56")
    with LiveServer(api, tmp_path / "api.sock", None, uvloop.new_event_loop) as server:
        yield Daemon(house, server)
    house.close()


@pytest.fixture
def packed(daemon: Daemon) -> Packed:
    made = Packed([BASE, TOP], ["app:1", "team/app:2"], {"Cmd": ["sh"], "Labels": {"tier": "web"}, "ExposedPorts": {"80/tcp": {}}})
    daemon.house.load(tarballs.docker_archive(made))
    return made


def _made_manifest_bytes(packed: Packed) -> int:
    """The manifest that a load makes for an archive of Docker's own format."""
    return len(json.dumps(json.loads(packed.manifest), separators=(",", ":")))


def query(**values: object) -> str:
    return urllib.parse.urlencode({name: json.dumps(value) for name, value in values.items()})


def test_a_list_shows_each_image_once(daemon: Daemon, packed: Packed) -> None:
    (shown,) = daemon.json("/v1.43/images/json")
    assert shown == {
        "Containers": -1,
        "Created": 1704164645,
        "Id": packed.id,
        "Labels": {"tier": "web"},
        "ParentId": "",
        "RepoDigests": [],
        "RepoTags": ["app:1", "team/app:2"],
        "SharedSize": -1,
        "Size": 123,
        "VirtualSize": 123,
    }


def test_each_version_has_its_fields_in_a_list(daemon: Daemon, packed: Packed) -> None:
    fields = {version: set(daemon.json(f"/v{version}/images/json")[0]) for version in ("1.43", "1.44", "1.48")}
    assert fields["1.43"] - fields["1.44"] == {"VirtualSize"}
    assert fields["1.48"] - fields["1.44"] == {"Descriptor"}
    daemon.house.uses[packed.id] = ContainerUse("c" * 64, "web", running=False)
    assert daemon.json("/v1.51/images/json")[0]["Containers"] == 1


def test_an_image_without_a_name_had_one_before_version_1_43(daemon: Daemon) -> None:
    daemon.house.load(tarballs.docker_archive(Packed([BASE])))
    assert daemon.json("/v1.42/images/json")[0]["RepoTags"] == ["<none>:<none>"]
    assert daemon.json("/v1.43/images/json")[0]["RepoTags"] == []


def test_a_list_is_narrowed_by_filters_in_both_forms(daemon: Daemon, packed: Packed) -> None:
    assert len(daemon.json(f"/v1.43/images/json?{query(filters={'label': ['tier=web']})}")) == 1
    assert daemon.json(f"/v1.43/images/json?{query(filters={'reference': {'other*': True}})}") == []
    assert len(daemon.json("/v1.40/images/json?filter=team/*")) == 1


def test_shared_bytes_are_counted_when_asked(daemon: Daemon, packed: Packed) -> None:
    daemon.house.load(tarballs.docker_archive(Packed([BASE], ["base:1"])))
    shown = daemon.json("/v1.43/images/json?shared-size=1")
    assert {image["SharedSize"] for image in shown} == {100}


def test_an_image_in_full_has_dockers_fields(daemon: Daemon, packed: Packed) -> None:
    shown = daemon.json("/v1.43/images/team/app:2/json")
    assert shown["Id"] == packed.id
    assert shown["Config"]["Cmd"] == ["sh"]
    assert shown["Config"]["ExposedPorts"] == {"80/tcp": {}}
    assert shown["RootFS"] == {"Type": "layers", "Layers": [tarballs.digest(BASE), tarballs.digest(TOP)]}
    assert (shown["Architecture"], shown["Os"], shown["Size"]) == ("amd64", "linux", 123)
    assert shown["Created"] == "2024-01-02T03:04:05.678901234Z"
    assert shown["GraphDriver"]["Name"] == "overlay2"
    assert len(shown["GraphDriver"]["Data"]["UpperDir"].split("/layers/")) == 2


def test_each_version_has_its_fields_in_full(daemon: Daemon, packed: Packed) -> None:
    shown = {version: daemon.json(f"/v{version}/images/app:1/json") for version in ("1.43", "1.44", "1.45", "1.48", "1.50", "1.52")}
    assert set(shown["1.43"]) - set(shown["1.44"]) == {"VirtualSize"}
    assert set(shown["1.44"]) - set(shown["1.45"]) == {"Container", "ContainerConfig"}
    assert set(shown["1.48"]) - set(shown["1.45"]) == {"Descriptor"}
    assert {"Hostname", "Tty", "Image"} <= set(shown["1.48"]["Config"]) - set(shown["1.50"]["Config"])
    assert set(shown["1.50"]) - set(shown["1.52"]) == {"Parent", "Comment", "DockerVersion", "Author"}
    assert "Entrypoint" not in shown["1.52"]["Config"]


def test_history_tells_the_newest_step_first(daemon: Daemon, packed: Packed) -> None:
    first, second = daemon.json("/v1.43/images/app:1/history")
    assert (first["Id"], first["CreatedBy"], first["Size"], first["Tags"]) == (packed.id, "step 1", 23, ["app:1", "team/app:2"])
    assert (second["Id"], second["Tags"]) == ("<missing>", None)


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/v1.43/images/nothing/json", 404, NOTHING),
        ("GET", "/v1.43/images/nothing/history", 404, NOTHING),
        ("GET", "/v1.43/images/nothing/get", 404, NOTHING),
        ("GET", "/v1.43/images/get?names=app:1&names=nothing", 404, NOTHING),
        ("GET", "/v1.43/images/get", 400, "no images to save"),
        ("DELETE", "/v1.43/images/nothing", 404, NOTHING),
        ("POST", "/v1.43/images/nothing/tag?repo=x", 404, NOTHING),
        (
            "POST",
            "/v1.43/images/app:1/tag?repo=UPPER",
            400,
            "invalid reference format: repository name (library/UPPER) must be lowercase",
        ),
        ("POST", "/v1.43/images/app:1/tag", 400, "invalid reference format"),
        ("GET", "/v1.43/images/UPPER/json", 400, "invalid reference format: repository name (library/UPPER) must be lowercase"),
        ("GET", "/v1.43/images/json?filters=%7B%22colour%22%3A%5B%22red%22%5D%7D", 400, "invalid filter 'colour'"),
        ("POST", "/v1.43/images/prune?filters=%7B%22before%22%3A%5B%22x%22%5D%7D", 400, "invalid filter 'before'"),
        ("POST", "/v1.43/images/create", 400, "either fromImage or fromSrc must be given"),
        ("POST", "/v1.43/images/create?fromImage=localhost:9/x&tag=1&platform=a/b/c/d", 400, None),
        ("POST", "/v1.43/images/nothing/push", 404, "An image does not exist locally with the tag: nothing"),
        ("GET", "/v1.48/images/app:1/history?platform=nonsense", 400, None),
        ("GET", "/v1.43/images/search?term=x&limit=1000", 400, "limit 1000 is outside the range of [1, 100]"),
    ],
)
def test_what_cannot_be_is_refused(
    daemon: Daemon, packed: Packed, method: str, path: str, status: int, message: str | None
) -> None:
    found, text = daemon.message(method, path)
    assert found == status
    assert message is None or text == message


def test_a_tag_is_made(daemon: Daemon, packed: Packed) -> None:
    assert daemon.ask("POST", "/v1.43/images/app:1/tag?repo=localhost:5000/x/y&tag=3")[0] == 201
    assert "localhost:5000/x/y:3" in daemon.house.names()


def test_removal_tells_what_went(daemon: Daemon, packed: Packed) -> None:
    status, _, body = daemon.ask("DELETE", "/v1.43/images/app:1")
    assert (status, json.loads(body)) == (200, [{"Untagged": "app:1"}])
    removed = json.loads(daemon.ask("DELETE", "/v1.43/images/team/app:2")[2])
    assert removed[:2] == [{"Untagged": "team/app:2"}, {"Deleted": packed.id}]


def test_a_conflict_is_409(daemon: Daemon, packed: Packed) -> None:
    status, message = daemon.message("DELETE", f"/v1.43/images/{packed.id}")
    assert (status, message.endswith("(must be forced) - image is referenced in multiple repositories")) == (409, True)
    assert daemon.ask("DELETE", f"/v1.43/images/{packed.id}?force=1")[0] == 200


def test_a_prune_tells_what_went(daemon: Daemon, packed: Packed) -> None:
    unnamed = Packed([TOP])
    daemon.house.load(tarballs.docker_archive(unnamed))
    report = json.loads(daemon.ask("POST", "/v1.43/images/prune")[2])
    assert {"Deleted": unnamed.id} in report["ImagesDeleted"]
    assert report["SpaceReclaimed"] == 23 + len(unnamed.raw_config) + _made_manifest_bytes(unnamed)
    assert json.loads(daemon.ask("POST", "/v1.43/images/prune")[2]) == {"ImagesDeleted": None, "SpaceReclaimed": 0}


def test_what_is_saved_can_be_loaded(daemon: Daemon, packed: Packed) -> None:
    status, headers, archive = daemon.ask("GET", "/v1.43/images/app:1/get")
    assert (status, headers["content-type"]) == (200, "application/x-tar")
    daemon.ask("DELETE", f"/v1.43/images/{packed.id}?force=1")
    assert daemon.lines("POST", "/v1.43/images/load?quiet=1", archive) == [{"stream": "Loaded image: app:1\n"}]
    assert daemon.house.names() == ["app:1"]


def test_a_bad_archive_ends_the_stream_with_an_error(daemon: Daemon) -> None:
    (line,) = daemon.lines("POST", "/v1.43/images/load", b"garbage" * 200)
    assert line["error"] == line["errorDetail"]["message"] == "invalid archive: not a tar header (wrong checksum)"


def test_an_import_gives_its_id_and_takes_changes(daemon: Daemon) -> None:
    path = "/v1.43/images/create?fromSrc=-&repo=mine&tag=1&message=hello&changes=CMD%20%5B%22x%22%5D&changes=USER%207"
    (line,) = daemon.lines("POST", path, BASE)
    shown = daemon.json("/v1.43/images/mine:1/json")
    assert (line["status"], shown["Config"]["Cmd"], shown["Config"]["User"], shown["Comment"]) == (shown["Id"], ["x"], "7", "hello")


def test_a_bad_import_is_told_by_the_status(daemon: Daemon) -> None:
    assert daemon.ask("POST", "/v1.43/images/create?fromSrc=-", b"garbage" * 200)[0] == 400
    assert daemon.ask("POST", "/v1.43/images/create?fromSrc=-&changes=FROM%20x", BASE)[0] == 400


def test_an_image_is_pulled_and_pushed(daemon: Daemon) -> None:
    packed = Packed([BASE]).gzipped()
    with Registry().serving() as registry:
        target = registry.put("app", "1", packed)
        lines = daemon.lines("POST", f"/v1.43/images/create?fromImage={registry.host}/app&tag=1")
        assert lines[0] == {"status": "Pulling from app", "id": "1"}
        assert lines[1] == {"status": "Pulling fs layer", "id": tarballs.digest(packed.blobs[0])[7:19], "progressDetail": {}}
        assert lines[-1] == {"status": f"Status: Downloaded newer image for {registry.host}/app:1"}
        pushed = daemon.lines("POST", f"/v1.43/images/{registry.host}/app/push?tag=1")
        assert pushed[-1] == {"aux": {"Tag": "1", "Digest": target, "Size": len(packed.manifest)}}
        described = daemon.json(f"/v1.43/distribution/{registry.host}/app:1/json")
        assert described["Descriptor"]["digest"] == target
        assert described["Platforms"] == [{"architecture": "amd64", "os": "linux"}]


def test_a_login_is_tried_at_the_registry(daemon: Daemon) -> None:
    with Registry(
        challenge='Bearer realm="http://HOST/token"', token="t", password=base64.b64encode(b"me:right").decode()
    ).serving() as registry:
        for password, wanted in (("right", 200), ("wrong", 401)):
            body = json.dumps({"username": "me", "password": password, "serveraddress": registry.host}).encode()
            assert daemon.ask("POST", "/v1.43/auth", body, "Content-Type: application/json")[0] == wanted


def test_a_search_asks_the_registry_that_the_term_names(daemon: Daemon) -> None:
    with Registry().serving() as registry:
        registry.put("team/app", "1", Packed([BASE]))
        path = f"/v1.43/images/search?term={registry.host}/app"
        wanted = {"name": "team/app", "description": "", "star_count": 3, "is_official": False, "is_automated": False}
        assert daemon.json(path) == [wanted]
        assert daemon.json(f"{path}&{query(filters={'stars': ['4']})}") == []
        assert daemon.json(f"{path}&{query(filters={'is-official': ['false']})}") == [wanted]
