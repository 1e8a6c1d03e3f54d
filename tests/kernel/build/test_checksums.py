"""The content key of what a COPY reads: it changes with everything that would be copied, and with nothing else."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from carrack.archive.index import Index
from carrack.errors import NotFound
from carrack.shim import messages as m
from carrack.shim.workers import run_job
from tests.kernel.build.trees import Yard, bind

pytestmark = pytest.mark.root


def furnish(yard: Yard) -> None:
    yard.write("dir/file", "dir/sub/deep", "other", "dir/x.o")
    (yard.context / "dir/link").symlink_to("file")


def _write(path: Path) -> None:
    path.write_text("changed")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("dir/file", _write),
        ("dir/sub/deep", _write),
        ("dir/file", lambda path: path.chmod(0o600)),
        ("dir/sub", lambda path: path.chmod(0o700)),
        ("dir/file", lambda path: os.chown(path, 1, 0)),
        ("dir/file", lambda path: os.chown(path, 0, 1)),
        ("dir/file", lambda path: os.setxattr(path, "user.note", b"said")),
        ("dir/file", lambda path: path.rename(path.with_name("renamed"))),
        ("dir/file", lambda path: path.unlink()),
        ("dir/new", lambda path: path.touch()),
        ("dir/new", lambda path: path.mkdir()),
        ("dir/link", lambda path: (path.unlink(), path.symlink_to("sub"))),
        ("dir/pipe", os.mkfifo),
        ("dir/null", lambda path: os.mknod(path, stat.S_IFCHR, os.makedev(1, 3))),
    ],
)
def test_whatever_would_be_copied_changes_the_key(yard: Yard, name: str, change: Callable[[Path], object]) -> None:
    furnish(yard)
    before = yard.checksum("dir")
    change(yard.context / name)
    assert yard.checksum("dir") != before


@pytest.mark.parametrize(
    "change",
    [
        lambda root: os.utime(root / "dir/file", (1, 1)),
        lambda root: os.utime(root / "dir", (1, 1)),
        lambda root: (root / "other").write_text("changed"),
        lambda root: (root / "new").touch(),
        lambda root: (root / "dir").chmod(0o700),
        lambda root: (root / "dir/x.o").write_text("changed"),
        lambda root: (root / "dir/y.o").touch(),
    ],
)
def test_what_would_not_be_copied_does_not(yard: Yard, change: Callable[[Path], object]) -> None:
    furnish(yard)
    before = yard.checksum("dir", excludes=("*.o",))
    change(yard.context)
    assert yard.checksum("dir", excludes=("*.o",)) == before


def test_a_copy_of_a_tree_has_its_key(yard: Yard) -> None:
    furnish(yard)
    yard.copy(".", "/")
    assert yard.checksum(".", yard.upper) == yard.checksum(".")


def test_a_wildcards_key_names_its_matches(yard: Yard) -> None:
    yard.write("a1", "a2", "b1")
    before = yard.checksum("a*")
    (yard.context / "b1").write_text("changed")
    assert yard.checksum("a*") == before
    (yard.context / "a3").touch()
    assert yard.checksum("a*") != before
    assert yard.checksum("none*") == yard.checksum("nor-this*")


def test_a_link_is_read_through_unless_told_otherwise(yard: Yard) -> None:
    yard.write("file")
    (yard.context / "link").symlink_to("file")
    following, itself = yard.checksum("link"), yard.checksum("link", follow_links=False)
    (yard.context / "file").write_text("changed")
    assert yard.checksum("link") != following
    assert yard.checksum("link", follow_links=False) == itself


def test_parents_count_with_parents(yard: Yard) -> None:
    yard.write("dir/sub/file")
    before = yard.checksum("dir/sub/file", parents=True)
    (yard.context / "dir").chmod(0o700)
    assert yard.checksum("dir/sub/file", parents=True) != before


def test_a_missing_name_is_told_as_buildkit_does(yard: Yard) -> None:
    with pytest.raises(NotFound, match='"/none": not found'):
        yard.checksum("none")


def test_no_name_can_pose_as_another_entrys_facts(yard: Yard) -> None:
    """Two trees whose records would be one string if they were only joined."""
    first, second = yard.root / "first", yard.root / "second"
    for root, names in ((first, ("a", "b")), (second, ("a b",))):
        root.mkdir()
        for name in names:
            (root / name).touch()
    assert yard.checksum(".", first) != yard.checksum(".", second)


def test_an_index_spares_the_reading(yard: Yard) -> None:
    """What the index says about a file of that size is believed: whoever keeps the tree keeps the index true."""
    yard.write("dir/file")
    honest = yard.checksum("dir")
    digest = b"0" * 64

    def with_index(path: bytes, size: int) -> str:
        index = Index()
        index.set(path, size, digest)
        fd = os.open(yard.root / "index", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            index.write(fd)
            return run_job(yard.zygote_socket, m.Checksum(bind(yard.context), m.CopySource("dir")), (fd,)).checksum
        finally:
            os.close(fd)

    assert with_index(b"dir/file", len("dir/file")) != honest
    assert with_index(b"dir/file", 3) == honest
    assert with_index(b"dir/other", 8) == honest
