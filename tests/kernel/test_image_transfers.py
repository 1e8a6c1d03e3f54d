"""Pull and push against a registry that behaves, and one that does not (root: layers are unpacked)."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrack.errors import CarrackError, DataCorrupt, InvalidParameter, NotFound, Unauthorized, Unavailable
from carrack.images.remove import Untagged
from carrack.images.transfer import Watching
from carrack.oci.platform import Platform
from tests.rig.house import House
from tests.rig.registry_double import Registry
from tests.rig.tarballs import PREDICATE, STATEMENT, Packed, digest, docker_archive, entry, multi_platform, tar

pytestmark = pytest.mark.root

BASE = tar(entry("base", os.urandom(300_000)))
TOP = tar(entry("top", os.urandom(200_000)))
ARM = Platform("linux", "arm64")


def image(*layers: bytes, **fields: str) -> Packed:
    return Packed(list(layers or (BASE, TOP)), **fields).gzipped()  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrack.images.pull._PAUSE_SECONDS", 0)
    monkeypatch.setattr("carrack.distribution.repository._FIRST_PAUSE_SECONDS", 0)


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry().serving() as serving:
        yield serving


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    try:
        yield made
    finally:
        made.close()


def login(username: str = "me", password: str = "secret") -> str:
    return base64.urlsafe_b64encode(json.dumps({"username": username, "password": password}).encode()).decode()


class TestPull:
    def test_an_image_comes_with_its_tag_and_its_digest(self, house: House, registry: Registry) -> None:
        packed = image()
        target = registry.put("team/app", "1", packed)
        lines = house.pull(f"{registry.host}/team/app", "1")
        assert lines[-2:] == [f"Digest: {target}", f"Status: Downloaded newer image for {registry.host}/team/app:1"]
        found = house.images.get(f"{registry.host}/team/app:1")
        assert (str(found.id), found.repo_digests) == (packed.id, (f"{registry.host}/team/app@{target}",))
        assert house.images.get(f"{registry.host}/team/app@{target}").id == found.id
        assert len(house.snapshots.chain(found.chain_id)) == 2

    def test_each_layer_is_told_from_its_beginning_to_its_end(self, house: House, registry: Registry) -> None:
        packed = image(BASE)
        registry.put("app", "1", packed)
        short = digest(packed.blobs[0])[7:19]
        told = [line.status for line in house.puller.pull(f"{registry.host}/app", "1", None, "") if line.id == short]
        assert [status for status in told if status != "Downloading"] == [
            "Pulling fs layer",
            "Verifying Checksum",
            "Download complete",
            "Extracting",
            "Pull complete",
        ]

    def test_pulling_again_brings_nothing_and_says_so(self, house: House, registry: Registry) -> None:
        registry.put("app", "1", image())
        house.pull(f"{registry.host}/app", "1")
        registry.requests.clear()
        lines = house.pull(f"{registry.host}/app", "1")
        assert lines[-1] == f"Status: Image is up to date for {registry.host}/app:1"
        assert registry.requests["GET", "blobs"] == 0

    def test_a_common_layer_is_not_fetched_again(self, house: House, registry: Registry) -> None:
        registry.put("app", "1", image(BASE))
        registry.put("app", "2", image(BASE, TOP))
        house.pull(f"{registry.host}/app", "1")
        registry.requests.clear()
        assert "Already exists" in house.pull(f"{registry.host}/app", "2")
        assert registry.requests["GET", "blobs"] == 2  # the other layer and the configuration

    def test_a_blob_that_was_cut_short_is_fetched_again(self, house: House, registry: Registry) -> None:
        packed = image(BASE)
        registry.put("app", "1", packed)
        house.pull(f"{registry.host}/app", "1")
        blob = house.images.get(f"{registry.host}/app:1").layers[0].name
        os.truncate(house.content.path(blob), 0)
        house.pull(f"{registry.host}/app", "1")
        house.content.verify(blob)

    def test_what_attests_an_image_comes_with_it_and_goes_on_with_it(self, house: House, registry: Registry) -> None:
        packed = image(BASE)
        target = registry.put_index("app", "1", packed, attested=True)
        assert house.pull(f"{registry.host}/app", "1")[-2] == f"Digest: {target}"
        found = house.images.get(f"{registry.host}/app:1")
        shown = house.images.parts(found)
        assert [(part.kind, part.available, part.attests) for part in shown] == [
            ("image", True, ""),
            ("attestation", True, digest(packed.manifest)),
        ]
        (statement,) = house.images.attestations(f"{registry.host}/app:1", with_statements=True)
        assert (statement.predicate_type, statement.statement) == (PREDICATE, STATEMENT)
        with Registry().serving() as other:
            house.images.tag(f"{registry.host}/app:1", f"{other.host}/copy:1")
            house.push(f"{other.host}/copy", "1")
            assert other.manifests["copy", "1"] == registry.manifests["app", "1"]
            assert STATEMENT in other.blobs.values()

    def test_an_attestation_that_its_registry_has_lost_keeps_no_image_away(self, house: House, registry: Registry) -> None:
        packed = image(BASE)
        registry.put_index("app", "1", packed, attested=True)
        del registry.blobs["app", digest(STATEMENT)]
        house.pull(f"{registry.host}/app", "1")
        image_part, attestation = house.images.parts(house.images.get(f"{registry.host}/app:1"))
        assert (image_part.available, attestation.available) == (True, False)

    def test_of_an_index_the_platform_that_runs_here_is_taken(self, house: House, registry: Registry) -> None:
        here, there = image(BASE), image(TOP, architecture="arm64")
        target = registry.put_index("app", "1", there, here)
        house.pull(f"{registry.host}/app", "1")
        found = house.images.get(f"{registry.host}/app:1")
        assert (str(found.id), found.descriptor.digest) == (here.id, target)

    def test_a_platform_that_is_asked_for_is_taken(self, house: House, registry: Registry) -> None:
        there = image(TOP, architecture="arm64")
        registry.put_index("app", "1", image(BASE), there)
        house.pull(f"{registry.host}/app", "1", ARM)
        assert str(house.images.get(f"{registry.host}/app:1").id) == there.id

    def test_a_platform_that_is_missing_is_said(self, house: House, registry: Registry) -> None:
        registry.put_index("app", "1", image(BASE))
        with pytest.raises(NotFound, match="no matching manifest for linux/arm64 in the manifest list entries"):
            house.pull(f"{registry.host}/app", "1", ARM)
        assert house.remains() == []

    def test_an_image_of_another_platform_than_asked_is_refused(self, house: House, registry: Registry) -> None:
        registry.put("app", "1", image(BASE))
        with pytest.raises(NotFound, match="was found but its platform"):
            house.pull(f"{registry.host}/app", "1", ARM)
        assert house.images.list(all=True) == []

    def test_by_digest_it_has_no_tag(self, house: House, registry: Registry) -> None:
        target = registry.put("app", "1", image(BASE))
        house.pull(f"{registry.host}/app", target)
        found = house.images.get(f"{registry.host}/app@{target}")
        assert (found.names, found.repo_digests) == ((), (f"{registry.host}/app@{target}",))

    def test_a_name_alone_brings_every_tag(self, house: House, registry: Registry) -> None:
        registry.put("app", "1", image(BASE))
        registry.put("app", "2", image(TOP))
        house.pull(f"{registry.host}/app")
        assert house.names() == [f"{registry.host}/app:1", f"{registry.host}/app:2"]

    def test_a_tag_that_is_missing_is_named_in_dockers_words(self, house: House, registry: Registry) -> None:
        with pytest.raises(NotFound) as refused:
            house.pull(f"{registry.host}/app", "nothing")
        assert str(refused.value) == f"manifest for {registry.host}/app:nothing not found: manifest unknown: manifest unknown"

    def test_a_connection_that_breaks_is_resumed_by_range(
        self, house: House, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        packed = image(BASE)
        registry.put("app", "1", packed)
        registry.cut_after, registry.cuts = 100_000, 2
        house.pull(f"{registry.host}/app", "1")
        assert str(house.images.get(f"{registry.host}/app:1").id) == packed.id

    def test_a_registry_without_ranges_is_read_anew(
        self, house: House, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        registry.put("app", "1", image(BASE))
        registry.cut_after, registry.cuts, registry.ranges = 100_000, 1, False
        house.pull(f"{registry.host}/app", "1")
        assert house.names() == [f"{registry.host}/app:1"]

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_a_registry_that_is_busy_is_asked_again(self, house: House, registry: Registry, status: int) -> None:
        registry.put("app", "1", image(BASE))
        registry.statuses = [status, status]
        house.pull(f"{registry.host}/app", "1")
        assert house.names() == [f"{registry.host}/app:1"]

    def test_what_was_downloaded_before_a_kill_is_used_by_the_next_pull(
        self, house: House, registry: Registry, tmp_path: Path
    ) -> None:
        packed = image(BASE, TOP)
        registry.put("app", "1", packed)
        registry.cut_after, registry.cuts = 150_000, 1000
        program = f"""
import os, sys, threading
from pathlib import Path
from tests.rig.house import House
house = House(Path({str(tmp_path / "killed")!r}))
for line in house.puller.pull({f"{registry.host}/app"!r}, "1", None, ""):
    if line.status.startswith("Retrying"):
        os.kill(os.getpid(), 9)
"""
        (tmp_path / "killed").mkdir()
        root = str(Path(__file__).parents[2])
        subprocess.run(
            [sys.executable, "-c", program], check=False, cwd=root, env={**os.environ, "PYTHONPATH": f"{root}:{root}/src"}
        )
        registry.cuts = 0
        second = House(tmp_path / "killed")
        try:
            second.images.recover()
            assert second.images.list(all=True) == []
            kept = sum(path.stat().st_size for path in (tmp_path / "killed" / "ingest").iterdir())
            assert kept >= 150_000
            second.pull(f"{registry.host}/app", "1")
            assert str(second.images.get(f"{registry.host}/app:1").id) == packed.id
            assert list((tmp_path / "killed" / "ingest").iterdir()) == []
        finally:
            second.close()

    def test_two_who_pull_the_same_share_the_work(self, house: House, registry: Registry) -> None:
        registry.put("app", "1", image(BASE))
        registry.gate = threading.Event()
        first = house.puller.pull(f"{registry.host}/app", "1", None, "")
        assert next(first).status.startswith("Pulling from")
        second = house.puller.pull(f"{registry.host}/app", "1", None, "")
        assert next(second).status.startswith("Pulling from")
        registry.gate.set()
        assert [line.status for line in first][-1] == [line.status for line in second][-1]
        assert registry.requests["GET", "manifests"] == 1

    def test_a_pull_that_nobody_watches_any_more_ends(self, house: House, registry: Registry) -> None:
        registry.put("app", "1", image(BASE))
        registry.gate = threading.Event()
        watching = house.puller.pull(f"{registry.host}/app", "1", None, "")
        assert isinstance(watching, Watching)
        waiting = threading.Thread(target=lambda: list(watching))
        waiting.start()
        watching.close()
        waiting.join(20)
        assert not waiting.is_alive()
        registry.gate.set()
        for thread in threading.enumerate():
            if thread.name == "transfer":
                thread.join(20)
        assert house.images.list(all=True) == []

    def test_one_of_two_watchers_may_leave(self, house: House, registry: Registry) -> None:
        registry.put("app", "1", image(BASE))
        registry.gate = threading.Event()
        first = house.puller.pull(f"{registry.host}/app", "1", None, "")
        second = house.puller.pull(f"{registry.host}/app", "1", None, "")
        assert isinstance(first, Watching)
        first.close()
        registry.gate.set()
        assert [line.status for line in second][-1].startswith("Status: Downloaded newer image")
        assert list(first) == []


def test_each_order_is_an_event_as_docker_tells_it(house: House, registry: Registry) -> None:
    packed = image(BASE)
    registry.put("team/app", "1", packed)
    name = f"{registry.host}/team/app"
    house.pull(name, "1")
    house.push(name, "1")
    house.images.tag(f"{name}:1", "copy:2")
    house.images.remove("copy:2")
    house.images.remove(f"{name}:1")
    assert house.events == [
        ("pull", f"{name}:1", name),
        ("push", f"{name}:1", name),
        ("tag", packed.id, "copy:2"),
        ("untag", packed.id, packed.id),
        ("untag", packed.id, packed.id),
        ("untag", packed.id, packed.id),
        ("delete", packed.id, packed.id),
    ]


class TestHostileRegistry:
    def refuse(self, house: House, registry: Registry, kind: type[CarrackError], message: str) -> None:
        with pytest.raises(kind, match=message):
            house.pull(f"{registry.host}/app", "1")
        assert house.images.list(all=True) == []
        assert [left for left in house.remains() if not left.startswith("ingest key-")] == []

    def test_a_blob_that_is_another(self, house: House, registry: Registry) -> None:
        packed = image(BASE)
        registry.put("app", "1", packed)
        registry.lie[digest(packed.blobs[0])] = gzip.compress(TOP, 1)[: len(packed.blobs[0])].ljust(len(packed.blobs[0]), b"\0")
        self.refuse(house, registry, DataCorrupt, "content is sha256:.*, not sha256:")

    def test_a_blob_without_an_end(self, house: House, registry: Registry) -> None:
        packed = image(BASE)
        registry.put("app", "1", packed)
        registry.lie[digest(packed.blobs[0])] = packed.blobs[0] + bytes(1000)
        self.refuse(house, registry, DataCorrupt, "larger than the .* bytes of its descriptor")

    def test_a_manifest_that_is_another(self, house: House, registry: Registry) -> None:
        target = registry.put("app", "1", image(BASE))
        registry.lie[target] = image(TOP).manifest
        self.refuse(house, registry, DataCorrupt, "manifest verification failed")

    def test_layers_that_unpack_to_something_else(self, house: House, registry: Registry) -> None:
        packed = image(BASE)
        packed.compressed = [gzip.compress(TOP, 1)]
        registry.put("app", "1", packed)
        self.refuse(house, registry, DataCorrupt, "invalid diffID for layer")

    def test_one_bad_layer_takes_the_good_ones_with_it(self, house: House, registry: Registry) -> None:
        packed = image(BASE, TOP)
        packed.compressed = [packed.blobs[0], gzip.compress(BASE, 1)]
        registry.put("app", "1", packed)
        self.refuse(house, registry, DataCorrupt, "invalid diffID for layer")

    def test_a_document_that_is_manifest_and_index_at_once(self, house: House, registry: Registry) -> None:
        both = json.dumps({**json.loads(image(BASE).manifest), "manifests": []}).encode()
        registry.put_manifest("app", "1", "application/vnd.oci.image.manifest.v1+json", both)
        self.refuse(house, registry, InvalidParameter, "ambiguous")

    def test_an_artifact_is_no_image(self, house: House, registry: Registry) -> None:
        document = json.loads(image(BASE).manifest)
        document["config"]["mediaType"] = "application/vnd.example.chart+json"
        registry.put("app", "other", image(BASE))
        registry.put_manifest("app", "1", "application/vnd.oci.image.manifest.v1+json", json.dumps(document).encode())
        self.refuse(house, registry, InvalidParameter, "is no image but an artifact")

    def test_a_password_is_not_sent_to_a_token_server_elsewhere(self, house: House, registry: Registry) -> None:
        registry.put("app", "1", image(BASE))
        with Registry(token="stolen").serving() as thief:
            port = thief.host.rpartition(":")[2]
            registry.challenge, registry.token = f'Bearer realm="http://127.0.0.2:{port}/token",service="s"', "t"
            with pytest.raises(Unauthorized, match="not of its domain: refused"):
                house.pull(f"{registry.host}/app", "1", None, login())
            assert thief.authorizations == []

    def test_an_upload_is_not_sent_elsewhere(self, house: House, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        house.load(docker_archive(Packed([BASE], [f"{registry.host}/app:1"])))
        monkeypatch.setattr(
            "carrack.distribution.transport.Answer.header",
            lambda self, name: "http://elsewhere.example/upload" if name == "Location" else "",
        )
        with pytest.raises(CarrackError, match=r"wants the upload sent to elsewhere\.example: refused"):
            house.push(f"{registry.host}/app", "1")


class TestAuthentication:
    def test_an_anonymous_token_is_fetched_once(self, house: House, registry: Registry) -> None:
        registry.put("app", "1", image(BASE, TOP))
        registry.challenge, registry.token = 'Bearer realm="http://HOST/token",service="s"', "t0k3n"
        house.pull(f"{registry.host}/app", "1")
        assert registry.requests["GET", "token"] == 1
        assert house.names() == [f"{registry.host}/app:1"]

    def test_name_and_password_get_a_token(self, house: House, registry: Registry) -> None:
        registry.put("app", "1", image(BASE))
        registry.challenge, registry.token = 'Bearer realm="http://HOST/token",service="s"', "t0k3n"
        registry.password = base64.b64encode(b"me:secret").decode()
        house.pull(f"{registry.host}/app", "1", None, login())
        with pytest.raises(Unauthorized, match="incorrect username or password"):
            house.pull(f"{registry.host}/app", "1", None, login("me", "wrong"))

    def test_basic_is_answered_with_basic(self, house: House, registry: Registry) -> None:
        registry.put("app", "1", image(BASE))
        registry.challenge = 'Basic realm="r"'
        house.pull(f"{registry.host}/app", "1", None, login())
        assert registry.authorizations[-1] == "Basic " + base64.b64encode(b"me:secret").decode()

    def test_without_credentials_the_pull_is_denied_in_dockers_words(self, house: House, registry: Registry) -> None:
        registry.challenge = 'Basic realm="r"'
        with pytest.raises(
            NotFound, match=r"^pull access denied for .*/app, repository does not exist or may require 'docker login': no basic"
        ):
            house.pull(f"{registry.host}/app", "1")

    def test_a_header_that_cannot_be_read_is_refused(self, house: House, registry: Registry) -> None:
        with pytest.raises(InvalidParameter, match="invalid X-Registry-Auth header"):
            house.pull(f"{registry.host}/app", "1", None, "bm90IGpzb24=")


class TestPush:
    def test_an_image_arrives_byte_for_byte(self, house: House, registry: Registry) -> None:
        packed = image(BASE, TOP)
        target = registry.put("app", "1", packed)
        house.pull(f"{registry.host}/app", "1")
        with Registry().serving() as other:
            house.images.tag(f"{registry.host}/app:1", f"{other.host}/copy:2")
            assert house.push(f"{other.host}/copy", "2")[-2] == f"2: digest: {target} size: {len(packed.manifest)}"
            assert other.manifests["copy", "2"][1] == packed.manifest
            assert {content for (name, _), content in other.blobs.items()} == {packed.raw_config, *packed.blobs}

    def test_an_index_arrives_with_all_that_is_here(self, house: House, registry: Registry) -> None:
        here, there = image(BASE), image(TOP, architecture="arm64")
        house.load(multi_platform(f"{registry.host}/app:1", here, there))
        house.push(f"{registry.host}/app", "1")
        assert {("app", digest(here.manifest)), ("app", digest(there.manifest)), ("app", "1")} <= set(registry.manifests)

    def test_an_index_of_which_only_one_platform_is_here_gives_that(self, house: House, registry: Registry) -> None:
        here = image(BASE)
        registry.put_index("app", "1", here, image(TOP, architecture="arm64"))
        house.pull(f"{registry.host}/app", "1")
        with Registry().serving() as other:
            house.images.tag(f"{registry.host}/app:1", f"{other.host}/copy:1")
            house.push(f"{other.host}/copy", "1")
            assert other.manifests["copy", "1"][1] == here.manifest

    def test_what_is_there_is_not_sent_again(self, house: House, registry: Registry) -> None:
        registry.put("app", "1", image(BASE))
        house.pull(f"{registry.host}/app", "1")
        assert "Layer already exists" in house.push(f"{registry.host}/app", "1")
        assert registry.requests["PATCH", "blobs"] == 0

    def test_what_another_repository_there_has_is_mounted(self, house: House, registry: Registry) -> None:
        registry.put("app", "1", image(BASE))
        house.pull(f"{registry.host}/app", "1")
        house.images.tag(f"{registry.host}/app:1", f"{registry.host}/copy:1")
        assert "Mounted from app" in house.push(f"{registry.host}/copy", "1")
        assert registry.requests["PATCH", "blobs"] == 1  # the configuration: small, and its origin is not noted

    def test_plain_layers_are_compressed_once_and_kept_so(self, house: House, registry: Registry) -> None:
        packed = Packed([BASE, TOP], [f"{registry.host}/app:1"])
        house.load(docker_archive(packed))
        first = house.push(f"{registry.host}/app", "1")
        found = house.images.get(f"{registry.host}/app:1")
        assert "Compressing" in first
        assert str(found.id) == packed.id
        assert all(layer.media_type.endswith("+gzip") for layer in found.layers)
        second = house.push(f"{registry.host}/app", "1")
        assert "Compressing" not in second
        assert second[-2] == first[-2]

    def test_a_broken_upload_goes_on_where_it_broke(self, house: House, registry: Registry) -> None:
        packed = Packed([BASE], [f"{registry.host}/app:1"])
        house.load(docker_archive(packed.gzipped()))
        registry.cut_upload = 65_536
        house.push(f"{registry.host}/app", "1")
        assert registry.blobs["app", digest(packed.gzipped().blobs[0])] == packed.gzipped().blobs[0]

    def test_the_digest_becomes_a_name_that_goes_with_its_last_tag(self, house: House, registry: Registry) -> None:
        packed = Packed([BASE], [f"{registry.host}/app:1", "kept:1"]).gzipped()
        house.load(docker_archive(packed))
        house.push(f"{registry.host}/app", "1")
        (name,) = house.images.get("kept:1").repo_digests
        assert house.images.remove(f"{registry.host}/app:1") == [Untagged(f"{registry.host}/app:1"), Untagged(name)]

    def test_a_name_that_is_not_here_is_not_found(self, house: House, registry: Registry) -> None:
        with pytest.raises(NotFound, match="An image does not exist locally with the tag: "):
            house.push(f"{registry.host}/app", "1")

    def test_a_registry_that_is_not_there_is_said_to_be_so(self, house: House) -> None:
        with pytest.raises(Unavailable, match="connection refused"):
            house.pull("localhost:9/app", "1")
