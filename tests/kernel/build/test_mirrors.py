"""A client's folder, mirrored: whatever changes there is what the next build sees, and nothing else travels."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from carrack.archive.manifest import parse_manifest
from carrack.build.contexts.incremental import Mirror
from carrack.build.contexts.slots import Slots
from carrack.build.ports import ChecksumOrder
from carrack.build.trees import WorkerTrees
from carrack.cli.images.build_folder import BuildFolder
from carrack.distribution.cancellation import Cancellation
from carrack.errors import CarrackError, InvalidParameter
from tests.kernel.build.test_contexts import throw
from tests.kernel.build.trees import Yard, tree_of

pytestmark = pytest.mark.root
GO_ON = Cancellation()


class Mirrored:
    """The folder of a client, and what a daemon makes of it."""

    def __init__(self, yard: Yard) -> None:
        self.folder = yard.context
        self.root = yard.root / "slots"
        self.trees = WorkerTrees(yard.zygote_socket)
        self.slots = Slots(self.root, throw)

    def sync(self) -> tuple[Path, int]:
        """One build's worth: where the mirror is, and how many files travelled."""
        seen = BuildFolder(str(self.folder))
        mirror = Mirror(self.slots, self.trees, seen.key, seen.manifest)
        if mirror.missing:
            mirror.receive(io.BytesIO(b"".join(seen.tar(mirror.missing))).read, GO_ON)
        context = mirror.context(GO_ON)
        place = Path(context.tree()[0].source)
        order = ChecksumOrder(context.tree(), ".")
        indexed = self.trees.checksum(order, GO_ON)
        self.trees.indexes.clear()
        assert self.trees.checksum(order, GO_ON) == indexed  # the index is true
        self.trees.indexes[str(place)] = place.parent / "index"
        context.close()
        return place, len(mirror.missing)


@pytest.fixture
def mirrored(yard: Yard) -> Mirrored:
    yard.write("a", "dir/b", "dir/sub/c", "z")
    (yard.context / "link").symlink_to("a")
    return Mirrored(yard)


def _make_folder(path: Path) -> None:
    path.mkdir()
    (path / "in").write_text("x")


def _replace(path: Path, make: Callable[[Path], object]) -> None:
    if path.is_dir() and not path.is_symlink():
        throw(path)
    else:
        path.unlink()
    make(path)


@pytest.mark.parametrize(
    ("change", "travels"),
    [
        (lambda root: None, 0),
        (lambda root: (root / "a").write_text("changed"), 1),
        (lambda root: (root / "a").chmod(0o751), 1),
        (lambda root: os.utime(root / "a", (1, 1)), 1),
        (lambda root: (root / "new").write_text("new"), 1),
        (lambda root: (root / "a").unlink(), 0),
        (lambda root: throw(root / "dir"), 0),
        (lambda root: (root / "dir").rename(root / "moved"), 2),
        (lambda root: (root / "empty").mkdir(0o700), 0),
        (lambda root: (root / "dir/sub").chmod(0o700), 0),
        (lambda root: _replace(root / "link", lambda path: path.symlink_to("z")), 0),
        (lambda root: _replace(root / "a", lambda path: path.symlink_to("z")), 0),
        (lambda root: _replace(root / "a", lambda path: path.mkdir()), 0),
        (lambda root: _replace(root / "dir", lambda path: path.write_text("a file now")), 1),
        (lambda root: _replace(root / "dir", lambda path: path.symlink_to(".")), 0),
        (lambda root: _replace(root / "link", _make_folder), 1),
        (lambda root: os.mkfifo(root / "pipe"), 1),
    ],
)
def test_every_change_arrives_and_only_it_travels(mirrored: Mirrored, change: Callable[[Path], object], travels: int) -> None:
    first, everything = mirrored.sync()
    assert everything == 4
    change(mirrored.folder)
    place, count = mirrored.sync()
    assert place == first
    assert count == travels
    assert tree_of(place) == tree_of(mirrored.folder)
    for path in mirrored.folder.rglob("*"):
        mine, theirs = path.lstat(), (place / path.relative_to(mirrored.folder)).lstat()
        assert stat.S_IFMT(mine.st_mode) == stat.S_IFMT(theirs.st_mode)
        assert path.is_symlink() or mine.st_mode == theirs.st_mode
        assert int(mine.st_mtime) == int(theirs.st_mtime)
        assert theirs.st_uid == 0


def test_a_content_changed_with_its_time_set_back_still_travels(mirrored: Mirrored) -> None:
    """What mtime and size alone would miss."""
    mirrored.sync()
    before = (mirrored.folder / "a").stat()
    (mirrored.folder / "a").write_text("A")
    os.utime(mirrored.folder / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert mirrored.sync()[1] == 1


def test_two_builds_of_one_folder_do_not_meet(mirrored: Mirrored) -> None:
    mirrored.sync()
    seen = BuildFolder(str(mirrored.folder))
    first = Mirror(mirrored.slots, mirrored.trees, seen.key, seen.manifest)
    second = Mirror(mirrored.slots, mirrored.trees, seen.key, seen.manifest)
    assert (first.missing, len(second.missing)) == ([], 4)
    first.close()
    second.close()


def archive(**files: bytes) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
    return content.getvalue()


@pytest.mark.parametrize("sent", [archive(a=b"1"), archive(a=b"1", other=b"2"), archive(a=b"1", z=b"2")[:700], b""])
def test_an_archive_that_is_not_what_was_announced_leaves_nothing(mirrored: Mirrored, sent: bytes) -> None:
    seen = BuildFolder(str(mirrored.folder))
    mirror = Mirror(mirrored.slots, mirrored.trees, seen.key, seen.manifest)
    with pytest.raises(CarrackError):
        mirror.receive(io.BytesIO(sent).read, GO_ON)
    mirror.close()
    assert os.listdir(mirrored.root) == []


@pytest.mark.parametrize(
    "manifest",
    [
        b"f 644 1 0 0\0../out\0\0",
        b"f 644 1 0 0\0/etc/passwd\0\0",
        b"f 644 1 0 0\0a/../b\0\0",
        b"f 644 1 0 0\0a//b\0\0",
        b"f 644 1 0 0\0a/b\0\0",
        b"l 777 0 0 0\0a\0target\0f 644 1 0 0\0a/b\0\0",
        b"l 777 0 0 0\0a\0\0",
        b"f 644 1 0 0\0a\0\0f 644 1 0 0\0a\0\0",
        b"f 644 x 0 0\0a\0\0",
        b"f 999 1 0 0\0a\0\0",
        b"x 644 1 0 0\0a\0\0",
        b"f 644 1 0 0\0a",
        b"f 644 1 0 0\0" + b"a" * 5000 + b"\0\0",
    ],
)
def test_a_manifest_that_leaves_its_folder_is_refused(manifest: bytes) -> None:
    with pytest.raises(InvalidParameter):
        parse_manifest(manifest)
