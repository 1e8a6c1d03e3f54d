"""Corrupt and malicious archives: each refused with a clear error, nothing written outside, nothing half-made left behind."""

import hashlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Images
from tests.rig.archives import Entry, Recipe, docker_archive, folder, hardlink, oci_layout, symlink, tar
from tests.rig.carrackd import Carrackd
from tests.rig.engine import CommandLine
from tests.rig.waiting import until

VICTIM = Path("/tmp/carrack-test-victim")


@pytest.fixture
def victim() -> Iterator[Path]:
    """A folder on the host that a malicious layer tries to write into."""
    folder_path = VICTIM.with_name(f"{VICTIM.name}-{id(object()):x}")
    folder_path.mkdir()
    (folder_path / "precious").write_text("untouched")
    yield folder_path
    for path in folder_path.iterdir():
        path.unlink()
    folder_path.rmdir()


def untouched(victim: Path) -> bool:
    return [path.name for path in victim.iterdir()] == ["precious"] and (victim / "precious").read_text() == "untouched"


def refused(cli: CommandLine, archive: bytes) -> str:
    """Load must fail and leave the list of images and the layers on disk as they were; returns what it said."""
    before = _state(cli)
    ended = cli("load", stdin=archive)
    assert ended.code == 1, str(ended)
    assert _state(cli) == before
    return ended.stderr + ended.stdout


def _state(cli: CommandLine) -> tuple[str, frozenset[str]]:
    engine = cli.engine
    found: frozenset[str] = frozenset()
    if isinstance(engine, Carrackd):
        until(
            lambda: not _children(engine.data_root / "trash") and not _children(engine.data_root / "ingest"), "the trash to empty"
        )
        layers = {path.name for path in (engine.data_root / "layers").glob("*")}
        blobs = {path.name for path in (engine.data_root / "blobs/sha256").glob("*")}
        found = frozenset(layers | blobs)
    return cli.ok("images", "-a", "-q", "--no-trunc"), found


def _children(path: Path) -> list[Path]:
    return list(path.iterdir()) if path.is_dir() else []


@pytest.mark.observes("docker load")
@pytest.mark.parametrize("junk", [b"not a tar at all" * 100, b"\x1f\x8b\x08\x00broken gzip", b"\x28\xb5\x2f\xfd broken zstd"])
def test_junk_is_refused(docker_cli: CommandLine, junk: bytes) -> None:
    assert refused(docker_cli, junk)


@pytest.mark.observes("docker load")
def test_an_empty_stream_is_refused(docker_cli: CommandLine) -> None:
    answer = docker_cli.engine.api("POST", "/images/load", b"", headers={"Content-Type": "application/x-tar"})
    assert answer.status >= 400 or b"error" in answer.body


@pytest.mark.observes("docker load")
def test_a_truncated_archive_is_refused(docker_cli: CommandLine, images: Images) -> None:
    archive = docker_archive(Recipe((images.rootfs,), ("cut:1",)))
    assert refused(docker_cli, archive[: len(archive) // 2])


@pytest.mark.observes("docker load")
def test_an_archive_that_is_neither_form_is_refused(docker_cli: CommandLine) -> None:
    assert refused(docker_cli, tar([Entry("something", b"else")]))


@pytest.mark.observes("docker load")
@pytest.mark.parametrize(
    "manifest", [b"not json", b"{}", b"[1]", b'[{"Config": 5}]', b'[{"Config":"x.json","RepoTags":null,"Layers":["y"]}]']
)
def test_a_malformed_manifest_is_refused(docker_cli: CommandLine, manifest: bytes) -> None:
    assert refused(docker_cli, tar([Entry("manifest.json", manifest)]))


@pytest.mark.observes("docker load")
def test_a_layer_that_is_not_its_diff_id_is_refused(docker_cli: CommandLine) -> None:
    layer = tar([Entry("one", b"1")])
    lie = "sha256:" + hashlib.sha256(b"something else").hexdigest()
    said = refused(docker_cli, docker_archive(Recipe((layer,), ("lies:1",), diff_ids=(lie,))))
    assert lie in said


@pytest.mark.observes("docker load")
def test_fewer_layers_than_the_config_names_is_refused(docker_cli: CommandLine) -> None:
    layer = tar([Entry("one", b"1")])
    two = tuple("sha256:" + hashlib.sha256(layer).hexdigest() for _ in range(2))
    assert refused(docker_cli, docker_archive(Recipe((layer,), ("few:1",), diff_ids=two)))


@pytest.mark.peer_lacks("no OCI layouts")
@pytest.mark.observes("docker load")
def test_a_blob_that_is_not_its_digest_is_refused(docker_cli: CommandLine) -> None:
    archive = bytearray(oci_layout(Recipe((tar([Entry("sound", b"it works")]),), ("rot:1",))))
    place = archive.index(b"it works")
    archive[place : place + 8] = b"it broke"
    assert refused(docker_cli, bytes(archive))


@pytest.mark.peer_lacks("no OCI layouts")
@pytest.mark.observes("docker load")
def test_a_manifest_of_two_types_at_once_is_refused(docker_cli: CommandLine) -> None:
    """image-spec security note: a document with both `layers` and `manifests` means two things to two readers (CVE-2021-41190)."""
    layer = tar([Entry("one", b"1")])
    recipe = Recipe((layer,), ("two:1",))
    config = recipe.config_json()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": _descriptor(config, "application/vnd.oci.image.config.v1+json"),
            "layers": [_descriptor(layer, "application/vnd.oci.image.layer.v1.tar")],
            "manifests": [_descriptor(config, "application/vnd.oci.image.manifest.v1+json")],
        }
    ).encode()
    index = json.dumps(
        {"schemaVersion": 2, "manifests": [_descriptor(manifest, "application/vnd.oci.image.manifest.v1+json")]}
    ).encode()
    blobs = [Entry(f"blobs/sha256/{hashlib.sha256(blob).hexdigest()}", blob) for blob in (layer, config, manifest)]
    layout = [
        Entry("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        Entry("index.json", index),
        folder("blobs"),
        folder("blobs/sha256"),
    ]
    assert refused(docker_cli, tar([*layout, *blobs]))


@pytest.mark.observes("docker load")
@pytest.mark.parametrize("name", ["../escape", "a/../../escape", "/../escape", "../../../../../../tmp/escape"])
def test_a_path_that_climbs_out_writes_nothing_outside(docker_cli: CommandLine, victim: Path, name: str) -> None:
    """Refused, or kept inside: both are safe; docker refuses."""
    layer = tar([Entry(name.replace("tmp/escape", f"tmp/{victim.name}/escape"), b"out")])
    _try(docker_cli, layer)
    assert untouched(victim)


@pytest.mark.observes("docker load")
def test_a_path_through_a_symlink_writes_nothing_outside(docker_cli: CommandLine, victim: Path) -> None:
    _try(docker_cli, tar([symlink("way", str(victim)), Entry("way/precious", b"overwritten"), Entry("way/new", b"x")]))
    assert untouched(victim)


@pytest.mark.observes("docker load")
def test_a_path_through_a_symlink_of_a_lower_layer_writes_nothing_outside(docker_cli: CommandLine, victim: Path) -> None:
    lower = tar([symlink("way", str(victim)), symlink("up", "../../../../../../../../.." + str(victim))])
    _try(docker_cli, lower, tar([Entry("way/new", b"x"), Entry("up/new", b"x")]))
    assert untouched(victim)


@pytest.mark.observes("docker load")
def test_a_hard_link_to_the_outside_is_no_way_in(docker_cli: CommandLine, victim: Path) -> None:
    for target in (f"{victim}/precious", "../../../../../../../../.." + f"{victim}/precious"):
        _try(docker_cli, tar([hardlink("grab", target, 0o644), Entry("grab", b"overwritten")]))
        assert untouched(victim)


@pytest.mark.observes("docker load")
def test_a_white_out_that_climbs_removes_nothing_outside(docker_cli: CommandLine, victim: Path) -> None:
    lower = tar([symlink("way", str(victim))])
    _try(docker_cli, lower, tar([Entry("way/.wh.precious"), Entry("way/.wh..wh..opq")]))
    _try(docker_cli, tar([Entry(f"../../../../../../../..{victim}/.wh.precious")]))
    _try(docker_cli, tar([folder("d"), Entry("d/.wh..", b""), Entry(".wh...", b"")]))
    assert untouched(victim)


@pytest.mark.observes("docker load")
def test_a_device_of_a_layer_cannot_be_opened_in_a_container(docker_cli: CommandLine, images: Images) -> None:
    memory = Entry("mem", kind=tarfile.CHRTYPE, mode=0o666, device=(1, 1))
    docker_cli("load", stdin=docker_archive(Recipe((images.rootfs, tar([memory])), ("dev:1",))))
    if docker_cli.ok("images", "-q", "dev:1"):
        ended = docker_cli("run", "--rm", "dev:1", "head", "-c", "1", "/mem")
        assert "Operation not permitted" in ended.stderr


@pytest.mark.observes("docker load")
def test_an_archives_own_links_and_paths_lead_nowhere(docker_cli: CommandLine, victim: Path) -> None:
    """The outer archive is as little trusted as a layer: its manifest may name files outside it, or links in it."""
    (victim / "precious").write_text("untouched")
    layer = tar([Entry("one", b"1")])
    config = Recipe((layer,)).config_json()
    rows = [{"Config": "config.json", "RepoTags": ["leak:1"], "Layers": [f"../../../../../../..{victim}/precious"]}]
    assert refused(docker_cli, tar([Entry("config.json", config), Entry("manifest.json", json.dumps(rows).encode())]))
    rows[0]["Layers"] = ["layer.tar"]
    linked = [
        Entry("config.json", config),
        symlink("layer.tar", f"{victim}/precious"),
        Entry("manifest.json", json.dumps(rows).encode()),
    ]
    assert refused(docker_cli, tar(linked))


@pytest.mark.peer_lacks("unpacks whatever comes")
@pytest.mark.observes("docker load")
def test_a_bomb_does_not_fill_the_disk_with_one_file_of_zeros(docker_cli: CommandLine) -> None:
    """A header that promises far more than the stream holds: a truncated archive, found without writing what was promised."""
    member = tarfile.TarInfo("huge")
    member.size = 1 << 40
    layer = member.tobuf(tarfile.GNU_FORMAT) + b"\0" * 10240
    assert refused(docker_cli, docker_archive(Recipe((layer,), ("bomb:1",))))


@pytest.mark.observes("docker import")
def test_import_of_junk_leaves_no_image(docker_cli: CommandLine) -> None:
    before = _state(docker_cli)
    ended = docker_cli("import", "-", "junk:1", stdin=b"junk" * 1000)
    assert ended.code == 1
    assert _state(docker_cli) == before


@pytest.mark.observes("docker import")
def test_import_of_a_malicious_tar_writes_nothing_outside(docker_cli: CommandLine, victim: Path) -> None:
    docker_cli(
        "import", "-", "evil:1", stdin=tar([symlink("way", str(victim)), Entry("way/new", b"x"), Entry("../../../escape", b"x")])
    )
    assert untouched(victim)


def _try(cli: CommandLine, *layers: bytes) -> None:
    """Load an image of these layers, whatever comes of it, and start it if it was taken."""
    cli("load", stdin=docker_archive(Recipe(layers, ("evil:1",), {"Cmd": ["/x"]})))
    if cli.ok("images", "-q", "evil:1"):
        cli("run", "--rm", "evil:1")


def _descriptor(content: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": "sha256:" + hashlib.sha256(content).hexdigest(), "size": len(content)}
