"""COPY and ADD in a confined worker: the reference's rules, one by one, on real overlays."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from carrack.errors import CarrackError, InvalidParameter, NotFound
from carrack.shim import messages as m
from tests.kernel.build.trees import Yard

pytestmark = pytest.mark.root


# ── where things go ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        ("file", "/name", {"name": "file"}),
        ("file", "/new/", {"new": "/", "new/file": "file"}),
        ("file", "/there", {"there": "/", "there/file": "file"}),
        ("file", "/deep/er/name", {"deep": "/", "deep/er": "/", "deep/er/name": "file"}),
        ("/file", "/name", {"name": "file"}),
        ("../../file", "/name", {"name": "file"}),
        ("dir", "/new", {"new": "/", "new/a": "dir/a", "new/sub": "/", "new/sub/b": "dir/sub/b"}),
        ("dir/", "/new/", {"new": "/", "new/a": "dir/a", "new/sub": "/", "new/sub/b": "dir/sub/b"}),
        ("dir/sub", "/", {"b": "dir/sub/b"}),
        ("dir/.", "/there", {"there": "/", "there/a": "dir/a", "there/sub": "/", "there/sub/b": "dir/sub/b"}),
        ("hom*", "/to/", {"to": "/", "to/home.txt": "home.txt", "to/homer": "homer"}),
        ("home.?xt", "/to/", {"to": "/", "to/home.txt": "home.txt"}),
        ("arr[[]0].txt", "/to/", {"to": "/", "to/arr[0].txt": "arr[0].txt"}),
        ("*/a", "/to/", {"to": "/", "to/a": "dir/a"}),
        ("none*", "/to/", {}),
    ],
)
def test_a_source_goes_where_the_reference_says(yard: Yard, source: str, destination: str, expected: dict[str, str]) -> None:
    yard.write("file", "dir/a", "dir/sub/b", "home.txt", "homer", "arr[0].txt")
    yard.write("there/", into=yard.base)
    yard.copy(source, destination)
    assert yard.listing() == expected


def test_several_sources_go_into_one_directory(yard: Yard) -> None:
    yard.write("a", "dir/b")
    done = yard.copy(["a", "dir", m.CopyInline("c", b"said")], "/to/")
    assert yard.listing() == {"to": "/", "to/a": "a", "to/b": "dir/b", "to/c": "said"}
    assert (done.entries, done.size_bytes) == (4, 10)


def test_a_plain_name_that_is_missing_is_named(yard: Yard) -> None:
    with pytest.raises(NotFound, match='"/no/such": not found'):
        yard.copy("no/such", "/")
    assert yard.copy("no/such", "/", required=False).entries == 0


def test_a_wildcard_without_a_match_changes_nothing(yard: Yard) -> None:
    assert yard.copy("*.none", "/to/").entries == 0
    assert yard.listing() == {}


def test_a_directory_joins_the_one_that_is_there(yard: Yard) -> None:
    yard.write("dir/new", "dir/same")
    (yard.context / "dir/inner").mkdir(mode=0o700)
    yard.write("to/old", "to/same", "to/inner/kept", into=yard.base)
    (yard.base / "to").chmod(0o711)
    yard.copy("dir", "/to")
    assert yard.listing() == {"to": "/", "to/new": "dir/new", "to/same": "dir/same", "to/inner": "/"}
    assert yard.mode("to") == 0o711
    assert yard.mode("to/inner") == 0o700


def test_a_file_takes_the_place_of_a_link_not_of_its_target(yard: Yard) -> None:
    yard.write("dir/name")
    yard.write("to/", "victim", into=yard.base)
    (yard.base / "to/name").symlink_to("/victim")
    yard.copy("dir", "/to")
    assert yard.listing() == {"to": "/", "to/name": "dir/name"}


def test_a_file_cannot_replace_a_directory_nor_a_directory_a_file(yard: Yard) -> None:
    yard.write("dir/x", "other/y/z")
    yard.write("to/x/", "to/y", into=yard.base)
    with pytest.raises(InvalidParameter, match="cannot replace to directory /to/x with file"):
        yard.copy("dir", "/to")
    with pytest.raises(InvalidParameter, match="cannot copy to non-directory: /to/y"):
        yard.copy("other", "/to")


def test_links_on_the_way_to_the_destination_are_followed_inside_the_stage(yard: Yard) -> None:
    yard.write("file")
    yard.write("real/", into=yard.base)
    (yard.base / "link").symlink_to("/real")
    (yard.base / "dangling").symlink_to("../../made/later")
    yard.copy("file", "/link/")
    yard.copy("file", "/dangling")
    assert yard.listing() == {"real": "/", "real/file": "file", "made": "/", "made/later": "file"}


def test_a_link_in_the_stage_cannot_reach_the_host(yard: Yard, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    yard.write("file")
    (yard.base / "out").symlink_to(victim)
    (yard.base / "up").symlink_to("../" * 40 + str(victim))
    yard.copy("file", "/out/")
    yard.copy("file", "/up/")
    assert list(victim.iterdir()) == []


# ── what comes from where ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_last_link_of_a_source_is_followed_those_inside_are_copied(yard: Yard) -> None:
    yard.write("dir/real")
    (yard.context / "dir/link").symlink_to("real")
    (yard.context / "file").symlink_to("dir/real")
    (yard.context / "folder").symlink_to("dir")
    yard.copy("file", "/file")
    yard.copy("folder", "/folder")
    assert yard.listing() == {"file": "dir/real", "folder": "/", "folder/real": "dir/real", "folder/link": "-> real"}


@pytest.mark.parametrize("name", ["out", "out/key", "up/key", "*/key"])
def test_a_link_in_a_source_cannot_make_a_worker_read_the_hosts_files(yard: Yard, tmp_path: Path, name: str) -> None:
    """CVE-2024-1753, CVE-2024-9675: a link out of the context or the stage."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("host")
    (yard.context / "out").symlink_to(secret)
    (yard.context / "up").symlink_to("../" * 40 + str(secret)[1:])
    try:
        yard.copy(name, "/to/")
    except NotFound:
        pass
    assert "host" not in yard.listing().values()


def test_owner_mode_attributes_and_times_travel(yard: Yard) -> None:
    yard.write("dir/file")
    file = yard.context / "dir/file"
    os.chown(file, 12, 34)
    file.chmod(0o4751)
    os.setxattr(file, "user.note", b"kept")
    os.utime(file, (1_600_000_000, 1_600_000_000))
    (yard.context / "dir").chmod(0o1770)
    yard.copy("dir", "/to", keep_owner=True)
    copied = (yard.upper / "to/file").stat()
    assert (copied.st_uid, copied.st_gid, stat.S_IMODE(copied.st_mode), copied.st_mtime) == (12, 34, 0o4751, 1_600_000_000)
    assert os.getxattr(yard.upper / "to/file", "user.note") == b"kept"
    assert yard.mode("to") == 0o755  # the directory itself is made, only what is in it is copied


def test_files_of_a_context_become_roots(yard: Yard) -> None:
    yard.write("file")
    os.chown(yard.context / "file", 12, 34)
    yard.copy("file", "/file")
    assert yard.owner("file") == (0, 0)


def test_hard_links_holes_and_devices_stay_what_they_are(yard: Yard) -> None:
    yard.write("dir/one")
    os.link(yard.context / "dir/one", yard.context / "dir/two")
    with (yard.context / "dir/sparse").open("wb") as sparse:
        sparse.seek(8 << 20)
        sparse.write(b"end")
    os.mkfifo(yard.context / "dir/pipe")
    os.mknod(yard.context / "dir/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    yard.copy("dir", "/to")
    one, two = (yard.upper / "to/one").stat(), (yard.upper / "to/two").stat()
    assert (one.st_ino, one.st_nlink) == (two.st_ino, 2)
    sparse_status = (yard.upper / "to/sparse").stat()
    assert sparse_status.st_size == (8 << 20) + 3
    assert sparse_status.st_blocks * 512 < 1 << 20
    assert stat.S_ISFIFO((yard.upper / "to/pipe").stat().st_mode)
    assert (yard.upper / "to/null").stat().st_rdev == os.makedev(1, 3)


# ── flags ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("wish", "owner"),
    [
        ("55:mygroup", (55, 77)),
        ("bin", (2, 3)),
        ("1", (1, 1)),
        ("10:11", (10, 11)),
        ("app:mygroup", (100, 77)),
        ("app", (100, 101)),
    ],
)
def test_chown_looks_names_up_in_the_stage(yard: Yard, wish: str, owner: tuple[int, int]) -> None:
    yard.write("dir/file")
    yard.write("etc/", into=yard.base)
    (yard.base / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nbin:x:2:3::/:/bin/sh\napp:x:100:101::/:/bin/sh\n")
    (yard.base / "etc/group").write_text("root:x:0:\nmygroup:x:77:\n")
    yard.copy("dir", "/made/to", owner=wish, keep_owner=True)
    assert [yard.owner(each) for each in ("made", "made/to", "made/to/file")] == [owner] * 3


def test_a_name_that_the_stage_does_not_know_is_refused(yard: Yard) -> None:
    yard.write("file")
    with pytest.raises(InvalidParameter, match="unable to find user nobody-here"):
        yard.copy("file", "/", owner="nobody-here")
    with pytest.raises(InvalidParameter, match="unable to find group none"):
        yard.copy("file", "/", owner="1:none")


@pytest.mark.parametrize(
    ("wish", "file", "directory"),
    [
        ("755", 0o755, 0o755),
        ("0600", 0o600, 0o600),
        ("4755", 0o4755, 0o4755),
        ("u=rwX,go=rX", 0o644, 0o755),
        ("+x", 0o751, 0o751),
        ("go-rwx", 0o640 & 0o700, 0o740 & 0o700),
        ("g=u", 0o660, 0o770),
        ("a+rw,u+s,+t", 0o5666, 0o5766),
        ("o=", 0o640, 0o740),
    ],
)
def test_chmod_takes_numbers_and_symbols(yard: Yard, wish: str, file: int, directory: int) -> None:
    yard.write("dir/sub/file")
    (yard.context / "dir/sub/file").chmod(0o640)
    (yard.context / "dir/sub").chmod(0o740)
    yard.copy("dir", "/to", mode=wish)
    if wish == "u=rwX,go=rX":
        assert (yard.mode("to/sub/file"), yard.mode("to/sub")) == (file, directory)
    assert (yard.mode("to/sub/file"), yard.mode("to/sub")) == (file, directory)


@pytest.mark.parametrize("wish", ["99999", "888", "u~x", "x", "u+q", ""])
def test_a_mode_that_is_none_is_refused(yard: Yard, wish: str) -> None:
    yard.write("file")
    if not wish:
        assert yard.copy("file", "/", mode=wish).entries == 1
        return
    with pytest.raises(InvalidParameter, match="invalid chmod parameter"):
        yard.copy("file", "/", mode=wish)


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["x/a.txt", "y/a.txt"], ["x", "x/a.txt", "y", "y/a.txt"]),
        (["x/./deep/b.txt"], ["deep", "deep/b.txt"]),
        (["./x/deep/*.txt"], ["x", "x/deep", "x/deep/b.txt"]),
        (["**/*.txt"], ["x", "x/a.txt", "x/deep", "x/deep/b.txt", "y", "y/a.txt"]),
        (["*/deep"], ["x", "x/deep", "x/deep/b.txt"]),
        (["x/**/b.txt"], ["x", "x/deep", "x/deep/b.txt"]),
        (["x/./"], ["a.txt", "deep", "deep/b.txt"]),
    ],
)
def test_parents_keeps_the_directories_above(yard: Yard, sources: list[str], expected: list[str]) -> None:
    yard.write("x/a.txt", "x/deep/b.txt", "y/a.txt", "y/c.md")
    (yard.context / "x/deep").chmod(0o710)
    yard.copy(sources, "/parents/", parents=True)
    assert sorted(name.removeprefix("parents/") for name in yard.listing() if name != "parents") == expected
    if "x/deep" in expected:
        assert yard.mode("parents/x/deep") == 0o710


def test_parents_wants_what_is_named_plainly(yard: Yard) -> None:
    yard.write("x/a")
    with pytest.raises(NotFound, match='"/x/b": not found'):
        yard.copy("x/b", "/", parents=True)
    assert yard.copy("x/*.none", "/", parents=True).entries == 0


@pytest.mark.parametrize(
    ("source", "excludes", "expected"),
    [
        ("hom*", ["*.txt", "*.md"], ["home"]),
        (".", ["**/*.o"], ["a", "home", "home.txt", "keep", "keep/x", "keep/y.c", "src", "src/main.c"]),
        (".", ["src", "hom*", "a"], ["keep", "keep/x", "keep/y.c"]),
        (".", ["*", "!keep/x"], ["keep", "keep/x"]),
        (".", ["keep", "src", "hom*", "!keep/*.c"], ["a", "keep", "keep/y.c"]),
    ],
)
def test_exclude_leaves_out(yard: Yard, source: str, excludes: list[str], expected: list[str]) -> None:
    yard.write("a", "home", "home.txt", "src/main.c", "src/main.o", "keep/x", "keep/y.c")
    yard.copy(source, "/to/", excludes=tuple(excludes))
    assert sorted(name.removeprefix("to/") for name in yard.listing() if name != "to") == expected


# ── ADD ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def archive(path: Path, mode: str, **files: str) -> None:
    with tarfile.open(path, mode) as out:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.uid, entry.gid = len(content), 5, 6
            out.addfile(entry, io.BytesIO(content.encode()))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_add_unpacks_an_archive_whatever_it_is_called(yard: Yard, mode: str) -> None:
    archive(yard.context / "blob", mode, inside="content")
    yard.write("to/inside", "to/other", into=yard.base)
    yard.copy("blob", "/to", unpack=True)
    assert yard.listing() == {"to": "/", "to/inside": "content"}
    assert yard.owner("to/inside") == (5, 6)


def test_add_unpacks_zstd(yard: Yard) -> None:
    from carrack.archive.compression import zstd

    archive(yard.root / "plain", "w", inside="content")
    (yard.context / "blob").write_bytes(zstd().compress((yard.root / "plain").read_bytes()))
    yard.copy("blob", "/to/", unpack=True)
    assert yard.listing() == {"to": "/", "to/inside": "content"}


def test_what_is_no_archive_is_copied_by_add(yard: Yard) -> None:
    yard.write("file.tar")
    (yard.context / "empty.tar.gz").touch()
    yard.copy(["file.tar", "empty.tar.gz"], "/to/", unpack=True)
    assert yard.listing() == {"to": "/", "to/file.tar": "file.tar", "to/empty.tar.gz": ""}


def test_an_archive_cannot_write_outside_of_its_destination(yard: Yard, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    for number, (kind, name, link) in enumerate(
        [(tarfile.SYMTYPE, "out", str(victim)), (tarfile.SYMTYPE, "out", "../../../../victim"), (tarfile.REGTYPE, "../../x", "")]
    ):
        with tarfile.open(yard.context / f"evil{number}", "w") as out:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, link
            out.addfile(entry)
            inner = tarfile.TarInfo("out/file")
            inner.size = 4
            out.addfile(inner, io.BytesIO(b"evil"))
        with pytest.raises(CarrackError):
            yard.copy(f"evil{number}", "/to/", unpack=True)
    assert list(victim.iterdir()) == []


def test_a_bomb_ends_at_the_limit(yard: Yard) -> None:
    archive(yard.context / "bomb", "w:gz", big="0" * (4 << 20))
    with pytest.raises(InvalidParameter, match="takes more than"):
        yard.copy("bomb", "/to/", unpack=True, limit_bytes=1 << 20)


# ── link, scratch, epoch ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_new_directories_and_heredocs_bear_the_epoch(yard: Yard) -> None:
    yard.copy([m.CopyInline("run.sh", b"#!/bin/sh\n")], "/a/b/", made_seconds=1234, mode="755")
    assert [(yard.upper / each).stat().st_mtime for each in ("a", "a/b", "a/b/run.sh")] == [1234] * 3
    assert yard.mode("a/b/run.sh") == 0o755
    assert yard.mode("a") == 0o755
