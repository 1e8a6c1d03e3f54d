"""images.Images with real layers on disk: load, save, import, names, removal (root)."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from carrack.errors import Conflict, DataCorrupt, InvalidParameter, NotFound
from carrack.images import ContainerUse
from carrack.images.remove import Deleted, Untagged
from carrack.oci.platform import Platform
from tests.rig import tarballs
from tests.rig.house import House
from tests.rig.tarballs import Packed, directory, entry, pieces, tar

pytestmark = pytest.mark.root

BASE = tar(directory("bin/"), entry("bin/sh", b"#!", mode=0o755), entry("etc/motd", b"welcome\n"))
TOP = tar(entry("etc/motd", b"changed\n"), entry("etc/.wh.gone"))
ARM = Platform("linux", "arm64")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    try:
        yield made
    finally:
        made.close()


def image(*tags: str, layers: tuple[bytes, ...] = (BASE, TOP), **config: object) -> Packed:
    return Packed(list(layers), list(tags), dict(config))


FORMATS: dict[str, Callable[[Packed], bytes]] = {
    "docker archive": tarballs.docker_archive,
    "docker archive, gzip layers": lambda packed: tarballs.docker_archive(packed.gzipped()),
    "OCI layout": lambda packed: tarballs.oci_archive({f"docker.io/library/{tag}": packed for tag in packed.tags}),
    "OCI layout, gzip layers": lambda packed: tarballs.oci_archive(
        {f"docker.io/library/{tag}": packed.gzipped() for tag in packed.tags}
    ),
    "both at once": tarballs.dual_archive,
}


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_loads_to_the_same_image(house: House, form: str) -> None:
    packed = image("app:1")
    assert house.load(FORMATS[form](packed)) == ["Loaded image: app:1\n"]
    loaded = house.images.get("app:1")
    assert str(loaded.id) == packed.id
    assert loaded.size_bytes == len(b"#!" + b"welcome\n" + b"changed\n")


@pytest.mark.parametrize("compress", ["gzip", "bz2", "lzma", "zstd"])
def test_a_compressed_archive_loads_like_a_plain_one(house: House, compress: str) -> None:
    import importlib

    module = importlib.import_module("backports.zstd" if compress == "zstd" else compress)
    house.load(module.compress(tarballs.docker_archive(image("app:1"))))
    assert house.names() == ["app:1"]


def test_layers_are_on_disk_as_overlayfs_wants_them(house: House) -> None:
    house.load(tarballs.docker_archive(image("app:1")))
    top, base = house.snapshots.chain(house.images.get("app:1").chain_id)
    assert (house.snapshots.directory(base) / "bin/sh").read_bytes() == b"#!"
    whiteout = (house.snapshots.directory(top) / "etc/gone").lstat()
    assert (whiteout.st_rdev, whiteout.st_mode & 0o170000) == (0, 0o020000)


def test_saving_gives_back_every_blob_as_it_came(house: House, tmp_path: Path) -> None:
    packed = image("app:1").gzipped()
    house.load(tarballs.oci_archive({"docker.io/library/app:1": packed}))
    saved = house.save("app:1")
    (tmp_path / "second").mkdir()
    second = House(tmp_path / "second")
    try:
        assert second.load(saved) == ["Loaded image: app:1\n"]
        assert second.images.get("app:1").descriptor.digest == tarballs.digest(packed.manifest)
        assert {second.content.read(blob, 1 << 20) for blob in second.content.list()} == set(packed.members().values())
    finally:
        second.close()


def test_a_repository_is_saved_with_all_its_tags(house: House, tmp_path: Path) -> None:
    house.load(tarballs.docker_archive(image("app:1")))
    house.images.tag("app:1", "app:2")
    house.images.tag("app:1", "other:1")
    (tmp_path / "second").mkdir()
    second = House(tmp_path / "second")
    try:
        second.load(house.save("app"))
        assert second.names() == ["app:1", "app:2"]
    finally:
        second.close()


def test_an_image_saved_by_its_id_has_no_name(house: House, tmp_path: Path) -> None:
    packed = image("app:1")
    house.load(tarballs.docker_archive(packed))
    (tmp_path / "second").mkdir()
    second = House(tmp_path / "second")
    try:
        assert second.load(house.save(packed.id)) == [f"Loaded image ID: {packed.id}\n"]
    finally:
        second.close()


def test_of_several_platforms_the_one_that_runs_here_is_taken_and_the_whole_is_kept(house: House) -> None:
    here, there = image(), Packed([BASE], architecture="arm64")
    house.load(tarballs.multi_platform("docker.io/library/app:1", here, there, attestation=True))
    loaded = house.images.get("app:1")
    assert str(loaded.id) == here.id
    assert house.images.get(loaded.descriptor.digest).id == loaded.id
    assert str(house.images.variant("app:1", ARM).id) == there.id
    assert len(list(house.content.list())) == len({*here.members(), *there.members()}) + 4


def test_a_platform_that_is_asked_for_is_taken(house: House) -> None:
    there = Packed([BASE], architecture="arm64")
    house.load(tarballs.multi_platform("docker.io/library/app:1", image(), there), ARM)
    assert str(house.images.get("app:1").id) == there.id


def test_a_platform_that_is_missing_is_said_and_nothing_stays(house: House) -> None:
    with pytest.raises(NotFound, match="no image for platform linux/s390x"):
        house.load(tarballs.multi_platform("docker.io/library/app:1", image()), Platform("linux", "s390x"))
    assert house.remains() == []


def test_loading_twice_changes_nothing(house: House) -> None:
    content = tarballs.dual_archive(image("app:1"))
    house.load(content)
    before = sorted(house.remains())
    assert house.load(content) == ["Loaded image: app:1\n"]
    assert sorted(house.remains()) == before


def test_a_name_that_moves_leaves_the_old_image_without_it_and_says_so(house: House) -> None:
    old, new = image("app:1"), image("app:1", layers=(BASE,))
    house.load(tarballs.docker_archive(old))
    lines = house.load(tarballs.docker_archive(new))
    assert lines[0] == f"The image app:1 already exists, renaming the old one with ID {old.id} to empty string\n"
    assert house.images.get(old.id).dangling
    assert str(house.images.get("app:1").id) == new.id


def test_images_share_their_common_layers(house: House) -> None:
    house.load(tarballs.docker_archive(image("one:1"), image("two:1", layers=(BASE,))))
    assert len(os.listdir(house.root / "layers")) == 2


class TestBadArchives:
    """Each is refused with a clear error and leaves nothing: no blob, no layer, no record."""

    def refuse(self, house: House, content: bytes, kind: type[Exception], message: str) -> None:
        with pytest.raises(kind, match=message):
            house.load(content)
        assert house.remains() == []
        assert house.images.list(all=True) == []

    def test_a_layer_that_is_not_what_the_configuration_says(self, house: House) -> None:
        bad = image("app:1")
        bad.compressed = [BASE, tar(entry("etc/motd", b"evil"))]
        self.refuse(house, tarballs.docker_archive(bad), DataCorrupt, "invalid diffID for layer")

    def test_a_blob_that_is_not_what_its_name_says(self, house: House) -> None:
        packed = image("app:1")
        files = {**packed.members(), f"blobs/sha256/{'a' * 64}": b"something else"}
        files["manifest.json"] = b"[]"
        self.refuse(house, tarballs.archive(files), DataCorrupt, f"not sha256:{'a' * 64}")

    def test_a_blob_that_is_here_already_but_not_in_the_archive(self, house: House) -> None:
        packed = image("app:1")
        house.load(tarballs.dual_archive(packed))
        with pytest.raises(DataCorrupt, match="content is sha256:"):
            house.load(tarballs.dual_archive(packed).replace(b"welcome", b"WELCOME"))
        assert house.names() == ["app:1"]

    def test_a_blob_that_is_missing(self, house: House) -> None:
        packed = image("app:1")
        content = tarballs.archive({"index.json": json.dumps({"schemaVersion": 2, "manifests": [packed.descriptor()]}).encode()})
        self.refuse(house, content, InvalidParameter, "named but missing")

    def test_an_archive_that_is_cut_off(self, house: House) -> None:
        self.refuse(house, tarballs.dual_archive(image("app:1"))[:6000], DataCorrupt, "unexpected end of archive")

    def test_something_that_is_no_archive(self, house: House) -> None:
        self.refuse(house, b"hello, I am not an archive" * 100, InvalidParameter, "not a tar header")

    def test_an_archive_without_a_table_of_contents(self, house: House) -> None:
        self.refuse(house, tar(entry("hello", b"x")), InvalidParameter, "neither a manifest.json nor an index.json")

    def test_two_tables_of_contents_that_speak_of_different_images(self, house: House) -> None:
        one, two = image("one:1"), image("two:1", layers=(BASE,))
        files = {**one.members(), **two.members()}
        files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [one.descriptor()]}).encode()
        files["manifest.json"] = json.dumps([two.manifest_item()]).encode()
        self.refuse(house, tarballs.archive(files), InvalidParameter, "ambiguous")

    def test_a_manifest_that_is_two_kinds_at_once(self, house: House) -> None:
        packed = image("app:1")
        both = json.dumps({**json.loads(packed.manifest), "manifests": []}).encode()
        descriptor = {**packed.descriptor(), "digest": tarballs.digest(both), "size": len(both)}
        index = json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()
        files = {**packed.members(), f"blobs/sha256/{tarballs.digest(both)[7:]}": both, "index.json": index}
        self.refuse(house, tarballs.archive(files), InvalidParameter, "ambiguous")

    def test_a_layer_that_leads_out(self, house: House) -> None:
        evil = image("app:1", layers=(tar(entry("../../evil", b"x")),))
        self.refuse(house, tarballs.docker_archive(evil), InvalidParameter, "outside of the archive's root")

    def test_one_bad_layer_takes_the_good_ones_with_it(self, house: House) -> None:
        evil = image("app:1", layers=(BASE, tar(entry("../evil", b"x")), TOP))
        self.refuse(house, tarballs.docker_archive(evil), InvalidParameter, "outside of the archive's root")

    def test_more_layers_than_can_be_mounted(self, house: House) -> None:
        self.refuse(house, tarballs.docker_archive(image("app:1", layers=(BASE,) * 501)), InvalidParameter, "max depth exceeded")

    def test_more_layers_than_the_configuration_has(self, house: House) -> None:
        packed = image("app:1")
        packed.compressed = [BASE, TOP, TOP]
        self.refuse(house, tarballs.docker_archive(packed), InvalidParameter, "layers length mismatch: expected 2, got 3")

    @pytest.mark.parametrize("name", ["/etc/passwd", "../evil", "a/../../evil"])
    def test_a_member_whose_name_leads_out(self, house: House, name: str) -> None:
        self.refuse(house, tar(entry(name, b"x")), InvalidParameter, "absolute name|outside of the archive's root")

    @pytest.mark.parametrize("target", ["/etc/passwd", "../../etc/passwd"])
    def test_a_member_that_links_out(self, house: House, target: str) -> None:
        content = tar(tarballs.symlink("x/layer.tar", target), entry("manifest.json", b"[]"))
        self.refuse(house, content, InvalidParameter, "outside of the archive")

    def test_a_member_that_is_a_device(self, house: House) -> None:
        content = tar(entry("manifest.json", type=b"3", devmajor=1, devminor=3))
        self.refuse(house, content, InvalidParameter, "neither a file nor a directory")

    def test_a_name_given_twice_with_different_content(self, house: House) -> None:
        content = tar(entry("manifest.json", b"[]"), entry("manifest.json", b"[ ]"))
        self.refuse(house, content, InvalidParameter, "duplicate name")

    def test_a_tag_that_is_no_name(self, house: House) -> None:
        self.refuse(house, tarballs.docker_archive(image("Not A Name")), InvalidParameter, "invalid reference format")


class TestImport:
    def test_a_file_system_becomes_an_image_of_one_layer(self, house: House) -> None:
        made = house.images.import_(pieces(BASE), name="mine", message="by hand", changes=['CMD ["sh"]', "ENV A=b"])
        found = house.images.get("mine:latest")
        assert found.id == made.id
        assert (found.config.execution.cmd, found.config.execution.env) == (["sh"], ["A=b"])
        assert [step.comment for step in found.config.history or ()] == ["by hand"]
        assert found.config.rootfs.diff_ids == [tarballs.digest(BASE)]

    @pytest.mark.parametrize("compress", ["gzip", "bz2", "lzma"])
    def test_a_compressed_file_system_has_the_diff_id_of_the_plain_one(self, house: House, compress: str) -> None:
        import importlib

        house.images.import_(pieces(importlib.import_module(compress).compress(BASE)), name="mine")
        found = house.images.get("mine")
        assert found.config.rootfs.diff_ids == [tarballs.digest(BASE)]
        assert found.layers[0].media_type.endswith("tar+gzip")

    def test_a_failed_import_leaves_nothing(self, house: House) -> None:
        with pytest.raises(InvalidParameter, match="unexpected end"):
            house.images.import_(pieces(BASE[:1000]))
        assert house.remains() == []

    def test_a_bad_change_is_refused_before_anything_is_read(self, house: House) -> None:
        with pytest.raises(InvalidParameter, match="FROM is not a valid change command"):
            house.images.import_(pieces(BASE), changes=["FROM scratch"])
        assert house.remains() == []


class TestRemove:
    """Docker's rules."""

    def setup(self, house: House, *tags: str) -> Packed:
        packed = image(*tags)
        house.load(tarballs.docker_archive(packed))
        return packed

    def test_the_last_name_takes_the_image_its_layers_and_its_blobs(self, house: House) -> None:
        packed = self.setup(house, "app:1")
        chain = [str(layer.chain_id) for layer in house.snapshots.chain(house.images.get("app:1").chain_id)]
        assert house.images.remove("app:1") == [Untagged("app:1"), Deleted(packed.id), *(Deleted(name) for name in chain)]
        assert house.remains() == []

    def test_another_name_keeps_the_image(self, house: House) -> None:
        self.setup(house, "app:1", "app:2")
        assert house.images.remove("app:1") == [Untagged("app:1")]
        assert house.names() == ["app:2"]

    def test_a_shared_layer_stays_with_its_other_image(self, house: House) -> None:
        self.setup(house, "app:1")
        house.load(tarballs.docker_archive(image("base:1", layers=(BASE,))))
        removed = house.images.remove("app:1")
        assert len([record for record in removed if isinstance(record, Deleted)]) == 2  # the image and its own layer
        assert len(os.listdir(house.root / "layers")) == 1

    def test_several_repositories_by_id_need_force(self, house: House) -> None:
        packed = self.setup(house, "app:1", "other:1")
        with pytest.raises(Conflict) as refused:
            house.images.remove(packed.id)
        assert str(refused.value) == (
            f"conflict: unable to delete {packed.id[7:19]} (must be forced) - image is referenced in multiple repositories"
        )
        assert house.images.remove(packed.id, force=True)[:2] == [Untagged("app:1"), Untagged("other:1")]
        assert house.remains() == []

    def test_one_name_by_the_beginning_of_an_id_goes(self, house: House) -> None:
        packed = self.setup(house, "app:1")
        assert house.images.remove(packed.id[7:15])[:2] == [Untagged("app:1"), Deleted(packed.id)]

    def test_the_last_name_of_a_used_image_needs_force(self, house: House) -> None:
        packed = self.setup(house, "app:1")
        house.uses[packed.id] = ContainerUse("c" * 64, "web", running=False)
        with pytest.raises(Conflict) as refused:
            house.images.remove("app:1")
        assert str(refused.value) == (
            f'conflict: unable to remove repository reference "app:1" (must force) - container {"c" * 12} '
            f"is using its referenced image {packed.id[7:19]}"
        )
        assert house.names() == ["app:1"]

    def test_a_running_container_keeps_its_image_even_from_force(self, house: House) -> None:
        packed = self.setup(house, "app:1")
        house.uses[packed.id] = ContainerUse("c" * 64, "web", running=True)
        with pytest.raises(Conflict) as refused:
            house.images.remove(packed.id, force=True)
        assert str(refused.value) == (
            f"conflict: unable to delete {packed.id[7:19]} (cannot be forced) - image is being used by running container {'c' * 12}"
        )
        assert house.images.remove("app:1", force=True) == [Untagged("app:1")]
        assert house.images.get(packed.id).dangling

    def test_a_stopped_container_keeps_its_image_but_from_force(self, house: House) -> None:
        packed = self.setup(house, "app:1")
        house.uses[packed.id] = ContainerUse("c" * 64, "web", running=False)
        with pytest.raises(Conflict, match=r"\(must be forced\) - image is being used by stopped container c{12}$"):
            house.images.remove(packed.id)
        assert Deleted(packed.id) in house.images.remove(packed.id, force=True)

    def test_layers_below_a_container_stay_when_its_image_goes(self, house: House) -> None:
        packed = self.setup(house, "app:1")
        chain = house.images.get("app:1").chain_id
        house.snapshots.prepare("c" * 64, chain)
        assert house.images.remove(packed.id, force=True) == [Untagged("app:1"), Deleted(packed.id)]
        assert len(house.snapshots.mounts("c" * 64)[0].lower) == 2

    def test_what_is_not_there_is_named_as_docker_names_it(self, house: House) -> None:
        with pytest.raises(NotFound, match=r"^No such image: nothing:latest$"):
            house.images.remove("nothing")

    def test_prune_takes_only_what_has_no_name(self, house: House) -> None:
        packed = self.setup(house)
        house.load(tarballs.docker_archive(image("base:1", layers=(BASE,))))
        pruned = house.images.prune()
        assert Deleted(packed.id) in pruned.records
        assert pruned.reclaimed_bytes > len(b"changed\n")  # and its blobs
        assert house.names() == ["base:1"]

    def test_prune_of_all_spares_what_a_container_uses(self, house: House) -> None:
        used = self.setup(house, "used:1")
        house.load(tarballs.docker_archive(image("idle:1", layers=(BASE,))))
        house.uses[used.id] = ContainerUse("c" * 64, "web", running=False)
        house.images.prune({"dangling": ("false",)})
        assert house.names() == ["used:1"]


class TestList:
    def setup(self, house: House) -> None:
        old = image("old:1", layers=(BASE,), Labels={"tier": "back"})
        new = image("team/new:2", "team/new:latest", Labels={"tier": "front"})
        house.load(tarballs.docker_archive(old, new))

    @pytest.mark.parametrize(
        ("filters", "shown"),
        [
            ({}, ["old:1", "team/new:2", "team/new:latest"]),
            ({"reference": ("old",)}, ["old:1"]),
            ({"reference": ("team/*",)}, ["team/new:2", "team/new:latest"]),
            ({"reference": ("*/*:2",)}, ["team/new:2"]),
            ({"reference": ("*",)}, ["old:1"]),
            ({"label": ("tier=front",)}, ["team/new:2", "team/new:latest"]),
            ({"label": ("tier", "tier=back")}, ["old:1"]),
            ({"dangling": ("true",)}, []),
            ({"until": ("2024-01-02",)}, []),
            ({"until": ("2024-01-03",)}, ["old:1", "team/new:2", "team/new:latest"]),
            ({"before": ("old:1",)}, []),
        ],
    )
    def test_a_filter_shows(self, house: House, filters: dict[str, tuple[str, ...]], shown: list[str]) -> None:
        self.setup(house)
        assert sorted(name for found in house.images.list(filters) for name in found.names) == shown

    def test_before_and_since_compare_with_an_image(self, house: House) -> None:
        self.setup(house)
        house.images.import_(pieces(BASE), name="newest")
        assert [found.names for found in house.images.list({"since": ("old:1",)})] == [("newest:latest",)]
        assert len(house.images.list({"before": ("newest",)})) == 2

    def test_an_unknown_filter_is_refused(self, house: House) -> None:
        with pytest.raises(InvalidParameter, match=r"^invalid filter 'colour'$"):
            house.images.list({"colour": ("red",)})

    def test_an_unknown_image_in_a_filter_is_not_found(self, house: House) -> None:
        with pytest.raises(NotFound, match="No such image: nothing:latest"):
            house.images.list({"before": ("nothing",)})


class TestNames:
    def test_an_image_is_found_by_name_id_and_the_beginning_of_its_id(self, house: House) -> None:
        packed = image("app:1")
        house.load(tarballs.docker_archive(packed))
        for ref in ("app:1", "library/app:1", "docker.io/library/app:1", packed.id, packed.id[7:], packed.id[:20], packed.id[7:19]):
            assert str(house.images.get(ref).id) == packed.id

    def test_a_name_goes_before_the_beginning_of_an_id(self, house: House) -> None:
        packed = image("app:1")
        house.load(tarballs.docker_archive(packed, image(f"{packed.id[7:13]}:latest", layers=(BASE,))))
        assert house.images.get(packed.id[7:13]).names == (f"{packed.id[7:13]}:latest",)

    def test_a_tag_is_one_more_name_and_an_event(self, house: House) -> None:
        packed = image("app:1")
        house.load(tarballs.docker_archive(packed))
        house.images.tag("app:1", "registry.example/team/app:2")
        assert house.images.get("registry.example/team/app:2").names == ("app:1", "registry.example/team/app:2")
        assert house.events[-1] == ("tag", packed.id, "registry.example/team/app:2")

    @pytest.mark.parametrize("name", ["UPPER", "a:b:c", "sha256", "x@sha256:" + "a" * 64])
    def test_a_name_that_cannot_be_is_refused(self, house: House, name: str) -> None:
        house.load(tarballs.docker_archive(image("app:1")))
        with pytest.raises(InvalidParameter):
            house.images.tag("app:1", name)

    def test_history_tells_each_step_with_its_size(self, house: House) -> None:
        packed = image("app:1")
        house.load(tarballs.docker_archive(packed))
        lines = house.images.history("app:1")
        assert [(line.id, line.created_by, line.size_bytes, line.tags) for line in lines] == [
            (packed.id, "step 1", 8, ("app:1",)),
            ("<missing>", "step 0", 10, ()),
        ]


def test_what_was_removed_is_not_kept_in_memory(house: House) -> None:
    house.load(tarballs.dual_archive(Packed([tar(entry("a", b"1"))], ["app:1"])))
    assert house.names() == ["app:1"]
    index = house.images.store.index
    assert index._read
    house.images.remove("app:1")
    assert not index._read
