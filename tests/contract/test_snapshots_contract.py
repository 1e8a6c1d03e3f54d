"""What every snapshotter keeps, run for each driver (root: layers hold devices and trusted attributes)."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrack.errors import Conflict, NotFound
from carrack.oci.digest import Digest, chain_id
from carrack.snapshots import Layer, Native, Overlay, Snapshotter, Trash
from carrack.state import Database

pytestmark = pytest.mark.root

KEY = "c" * 64


def commit(snapshotter: Snapshotter, parent: Digest | None, **files: str) -> Layer:
    """A layer of these files; the diff_id is made up from them."""
    staging = snapshotter.stage()
    for name, content in files.items():
        path = staging / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return snapshotter.commit_layer(parent, Digest.of(repr(sorted(files.items())).encode()), staging, sum(map(len, files.values())))


def hide(snapshotter: Snapshotter, parent: Digest, name: str, *, opaque: str = "") -> Layer:
    """A layer that hides a name, or what is below a directory."""
    staging = snapshotter.stage()
    if opaque:
        (staging / opaque).mkdir()
        (staging / opaque / name).write_text("only")
        os.setxattr(staging / opaque, "trusted.overlay.opaque", b"y")
    else:
        os.mknod(staging / name, stat.S_IFCHR, 0)
    return snapshotter.commit_layer(parent, Digest.of(f"hide {name} {opaque}".encode()), staging, 0)


class SnapshotterContract:
    """A subclass supplies the `snapshotter` fixture by its driver."""

    driver: type[Overlay | Native]

    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[Database]:
        with Database(tmp_path / "state.db") as opened:
            yield opened

    @pytest.fixture
    def snapshotter(self, tmp_path: Path, database: Database) -> Snapshotter:
        return self.driver(tmp_path / "layers", tmp_path / "containers", database, Trash(tmp_path / "trash"))

    def test_a_layer_over_another_parent_shares_its_directory_until_the_last_goes(
        self, snapshotter: Snapshotter, database: Database
    ) -> None:
        base, other = commit(snapshotter, None, a="1"), commit(snapshotter, None, b="2")
        alone = commit(snapshotter, None, linked="content")
        over = [snapshotter.restack(parent.chain_id, alone.chain_id) for parent in (base, other)]
        assert [layer.chain_id for layer in over] == [chain_id((parent.chain_id, alone.diff_id)) for parent in (base, other)]
        assert snapshotter.restack(base.chain_id, alone.chain_id) == over[0]
        assert {snapshotter.directory(layer) for layer in (alone, *over)} == {snapshotter.directory(alone)}
        assert snapshotter.missing() == []
        for layer in (alone, over[0]):
            released = database.write(lambda connection, of=layer: snapshotter.release_layers(connection, of.chain_id)).result()  # type: ignore[misc]
            snapshotter.discard(released)
            assert layer not in released
        assert snapshotter.garbage() == []
        assert (snapshotter.directory(over[1]) / "linked").read_text() == "content"
        assert over[1] in database.write(lambda connection: snapshotter.release_layers(connection, over[1].chain_id)).result()
        with pytest.raises(NotFound):
            snapshotter.restack(Digest.of(b"nothing"), commit(snapshotter, None, c="3").chain_id)

    def test_a_difference_that_is_twice_in_a_stack_is_mounted_once(self, snapshotter: Snapshotter) -> None:
        alone = commit(snapshotter, None, linked="content")
        between = commit(snapshotter, alone.chain_id, linked="hidden")
        top = snapshotter.restack(between.chain_id, alone.chain_id)
        assert snapshotter.directories(top.chain_id) == (snapshotter.directory(alone), snapshotter.directory(between))

    def test_a_staged_directory_becomes_a_layer_named_by_its_chain(self, snapshotter: Snapshotter) -> None:
        base = commit(snapshotter, None, hello="1")
        top = commit(snapshotter, base.chain_id, hello="2")
        assert top.chain_id == chain_id((base.diff_id, top.diff_id))
        assert snapshotter.chain(top.chain_id) == (top, base)
        assert (snapshotter.directory(top) / "hello").read_text() == "2"

    def test_committing_what_is_there_keeps_the_first(self, snapshotter: Snapshotter) -> None:
        first = commit(snapshotter, None, hello="1")
        assert commit(snapshotter, None, hello="1") == first
        assert snapshotter.garbage() == []

    def test_a_layer_over_an_unknown_one_is_not_found(self, snapshotter: Snapshotter) -> None:
        with pytest.raises(NotFound):
            commit(snapshotter, Digest.of(b"nothing"), hello="1")

    def test_an_abandoned_directory_is_gone(self, snapshotter: Snapshotter) -> None:
        staging = snapshotter.stage()
        snapshotter.abandon(staging)
        snapshotter.abandon(staging)
        assert (staging.exists(), snapshotter.garbage()) == (False, [])

    def test_a_snapshot_is_named_once(self, snapshotter: Snapshotter) -> None:
        base = commit(snapshotter, None, hello="1")
        snapshotter.prepare(KEY, base.chain_id)
        with pytest.raises(Conflict):
            snapshotter.prepare(KEY, base.chain_id)

    def test_a_snapshot_over_an_unknown_layer_is_not_found_and_leaves_nothing(self, snapshotter: Snapshotter) -> None:
        with pytest.raises(NotFound):
            snapshotter.prepare(KEY, Digest.of(b"nothing"))
        assert snapshotter.garbage() == []

    def test_mounts_are_told_again_as_they_were(self, snapshotter: Snapshotter) -> None:
        base = commit(snapshotter, None, hello="1")
        assert snapshotter.prepare(KEY, base.chain_id) == snapshotter.mounts(KEY)
        assert snapshotter.parent(KEY) == base.chain_id

    def test_an_unknown_snapshot_is_not_found(self, snapshotter: Snapshotter) -> None:
        for ask in (snapshotter.mounts, snapshotter.usage_bytes, snapshotter.parent):
            with pytest.raises(NotFound):
                ask(KEY)

    def test_a_snapshot_is_removed_once_or_twice(self, snapshotter: Snapshotter) -> None:
        snapshotter.prepare(KEY, commit(snapshotter, None, hello="1").chain_id)
        snapshotter.remove(KEY)
        snapshotter.remove(KEY)
        assert snapshotter.garbage() == []
        snapshotter.prepare(KEY, None)

    def test_a_layer_below_a_snapshot_or_a_layer_is_not_released(self, snapshotter: Snapshotter, database: Database) -> None:
        base = commit(snapshotter, None, hello="1")
        top = commit(snapshotter, base.chain_id, hello="2")
        snapshotter.prepare(KEY, base.chain_id)
        assert self.release(snapshotter, database, base) == ()
        assert self.release(snapshotter, database, top) == (top,)
        snapshotter.remove(KEY)
        assert self.release(snapshotter, database, base) == (base,)
        assert snapshotter.garbage() == []

    def release(self, snapshotter: Snapshotter, database: Database, layer: Layer) -> tuple[Layer, ...]:
        def change(connection: sqlite3.Connection) -> tuple[Layer, ...]:
            return snapshotter.release_layers(connection, layer.chain_id)

        released = database.write(change).result(10)
        snapshotter.discard(released)
        return released

    def test_a_layer_that_nothing_uses_is_idle(self, snapshotter: Snapshotter) -> None:
        base = commit(snapshotter, None, hello="1")
        top = commit(snapshotter, base.chain_id, hello="2")
        assert snapshotter.idle() == [top.chain_id]
        snapshotter.prepare(KEY, top.chain_id)
        assert snapshotter.idle() == []

    def test_what_no_record_names_is_garbage(self, snapshotter: Snapshotter, tmp_path: Path) -> None:
        staging = snapshotter.stage()
        (tmp_path / "containers" / KEY / "rw").mkdir(parents=True)
        assert snapshotter.garbage() == sorted([staging.parent, tmp_path / "containers" / KEY / "rw"])

    def test_what_a_record_names_in_vain_is_missing(self, snapshotter: Snapshotter) -> None:
        layer = commit(snapshotter, None, hello="1")
        snapshotter.throw(snapshotter.directory(layer).parent)
        assert snapshotter.missing() == [snapshotter.directory(layer)]

    def test_a_container_sees_the_layers_as_one(self, snapshotter: Snapshotter, tmp_path: Path) -> None:
        base = commit(snapshotter, None, kept="base", gone="base", dir__old="base", over="base")
        top = commit(snapshotter, hide(snapshotter, base.chain_id, "gone").chain_id, over="top")
        opaque = hide(snapshotter, top.chain_id, "new", opaque="dir")
        snapshotter.prepare(KEY, opaque.chain_id)
        assert self.view(snapshotter, tmp_path) == ["dir/new:only", "kept:base", "over:top"]

    def test_writing_in_a_snapshot_leaves_the_layers_alone(self, snapshotter: Snapshotter, tmp_path: Path) -> None:
        base = commit(snapshotter, None, hello="1")
        snapshotter.prepare(KEY, base.chain_id)
        assert self.view(snapshotter, tmp_path, "echo changed > hello") == ["hello:changed\n"]
        assert (snapshotter.directory(base) / "hello").read_text() == "1"

    def test_an_image_without_layers_gives_an_empty_tree(self, snapshotter: Snapshotter, tmp_path: Path) -> None:
        snapshotter.prepare(KEY, None)
        assert self.view(snapshotter, tmp_path, "echo x > made") == ["made:x\n"]
        assert snapshotter.usage_bytes(KEY) == 2

    def view(self, snapshotter: Snapshotter, tmp_path: Path, order: str = "true") -> list[str]:
        """What stands in a mounted snapshot, after an order was carried out in it, in a mount namespace that dies with it."""
        (mount,) = snapshotter.mounts(KEY)
        target = tmp_path / "mounted"
        target.mkdir(exist_ok=True)
        options = [option for option in mount.options if option not in ("rbind", "rw")]
        if mount.type == "overlay":
            command = f"mount -t overlay overlay -o lowerdir={':'.join(mount.lower)},{','.join(options)} {target}"
        else:
            command = f"mount --rbind {mount.source} {target}"
        show = "find . -type f | sort | while read f; do printf '%s:' $f; cat $f; printf '\\0'; done"
        script = f"{command} && cd {target} && {order} && {show}"
        done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, check=True)
        return [entry[2:] for entry in done.stdout.split("\0") if entry]


class TestOverlay(SnapshotterContract):
    driver = Overlay

    def test_the_lower_directories_go_from_the_top_down(self, snapshotter: Snapshotter) -> None:
        base = commit(snapshotter, None, hello="1")
        top = commit(snapshotter, base.chain_id, hello="2")
        (mount,) = snapshotter.prepare(KEY, top.chain_id)
        assert mount.lower == (str(snapshotter.directory(top)), str(snapshotter.directory(base)))

    def test_usage_counts_only_what_the_snapshot_changed(self, snapshotter: Snapshotter, tmp_path: Path) -> None:
        snapshotter.prepare(KEY, commit(snapshotter, None, hello="x" * 1000).chain_id)
        assert snapshotter.usage_bytes(KEY) == 0
        self.view(snapshotter, tmp_path, "echo 12345 > more")
        assert snapshotter.usage_bytes(KEY) == 6


class TestNative(SnapshotterContract):
    driver = Native

    def test_owners_modes_and_links_are_copied(self, snapshotter: Snapshotter, tmp_path: Path) -> None:
        staging = snapshotter.stage()
        (staging / "one").write_text("x")
        os.link(staging / "one", staging / "two")
        os.chown(staging / "one", 12, 34)
        os.chmod(staging / "one", 0o4751)
        os.symlink("/nowhere", staging / "link")
        os.mkfifo(staging / "pipe")
        layer = snapshotter.commit_layer(None, Digest.of(b"facts"), staging, 1)
        snapshotter.prepare(KEY, layer.chain_id)
        rw = tmp_path / "containers" / KEY / "rw"
        status = (rw / "two").stat()
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), status.st_nlink) == (12, 34, 0o4751, 2)
        assert os.readlink(rw / "link") == "/nowhere"
        assert stat.S_ISFIFO((rw / "pipe").stat().st_mode)

    def test_holes_stay_holes(self, snapshotter: Snapshotter, tmp_path: Path) -> None:
        staging = snapshotter.stage()
        with open(staging / "sparse", "wb") as file:
            file.seek(10 << 20)
            file.write(b"end")
        layer = snapshotter.commit_layer(None, Digest.of(b"sparse"), staging, 0)
        snapshotter.prepare(KEY, layer.chain_id)
        copied = tmp_path / "containers" / KEY / "rw" / "sparse"
        assert copied.read_bytes()[-4:] == b"\0end"
        assert copied.stat().st_blocks * 512 < 1 << 20
