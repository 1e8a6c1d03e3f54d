"""archive.extract: what an archive makes on disk, and what it cannot make (root: owners, devices, trusted attributes).

A bait directory stands beside the target; after each attack it must be as it was.
"""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from carrack.archive import header
from carrack.archive.header import Entry
from carrack.archive.layer import ENTRIES_LIMIT, UnpackReport, unpack_layer
from carrack.archive.writer import END, TreeWriter, encode
from carrack.errors import DataCorrupt, InvalidParameter
from tests.rig.tarballs import digest, directory, entry, hardlink, symlink, tar
from tests.unit.archive.test_tar_reader import gnu_sparse

pytestmark = pytest.mark.root


@dataclass
class Place:
    """A target to unpack into, and the bait beside it."""

    target: Path
    bait: Path

    def unpack(self, content: bytes, **limits: int) -> UnpackReport:
        source_fd = os.memfd_create("layer")
        os.write(source_fd, content)
        os.lseek(source_fd, 0, os.SEEK_SET)
        target_fd = os.open(self.target, os.O_RDONLY)
        before = sorted(os.listdir("/proc/self/fd"))
        try:
            return unpack_layer(source_fd, target_fd, limits.get("limit_bytes", 0), limits.get("limit_entries", ENTRIES_LIMIT))
        finally:
            assert sorted(os.listdir("/proc/self/fd")) == before
            os.close(source_fd)
            os.close(target_fd)

    def refuse(self, content: bytes, message: str, **limits: int) -> None:
        with pytest.raises(InvalidParameter, match=message):
            self.unpack(content, **limits)
        assert [path.name for path in self.bait.iterdir()] == ["secret"]
        assert (self.bait / "secret").read_text() == "secret"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path / "target", tmp_path / "bait")
    made.target.mkdir()
    made.bait.mkdir()
    (made.bait / "secret").write_text("secret")
    return made


def test_files_have_their_content_owner_mode_and_time(place: Place) -> None:
    report = place.unpack(tar(entry("f", b"hello", mode=0o6751, uid=12, gid=34, mtime=1_600_000_000)))
    status = (place.target / "f").stat()
    assert (place.target / "f").read_bytes() == b"hello"
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime) == (0o6751, 12, 34, 1_600_000_000)
    assert (report.entries, report.size_bytes) == (1, 5)


def test_the_diff_id_covers_the_whole_archive_even_behind_its_end(place: Place) -> None:
    content = tar(entry("f", b"hello")) + bytes(5120) + b"trailing"
    assert place.unpack(content).diff_id == digest(content)


def test_a_directory_keeps_its_time_and_mode_though_files_come_into_it(place: Place) -> None:
    place.unpack(tar(directory("d", mode=0o2750, mtime=1_600_000_000, gid=7), entry("d/f", b"x")))
    status = (place.target / "d").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime, status.st_gid) == (0o2750, 1_600_000_000, 7)
    assert (place.target / "d/f").stat().st_gid == 0


def test_the_root_entry_sets_the_roots_own_facts(place: Place) -> None:
    place.unpack(tar(directory("./", mode=0o711, mtime=1_600_000_000), entry("./f", b"x")))
    status = place.target.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o711, 1_600_000_000)


def test_missing_parents_are_made(place: Place) -> None:
    place.unpack(tar(entry("a/b/c/f", b"x")))
    assert (place.target / "a/b/c/f").read_bytes() == b"x"
    assert stat.S_IMODE((place.target / "a").stat().st_mode) == 0o755


def test_links_devices_and_fifos_are_made(place: Place) -> None:
    place.unpack(
        tar(
            entry("f", b"x"),
            hardlink("h", "f"),
            symlink("s", "/absolute/elsewhere"),
            entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
            entry("disk", type=tarfile.BLKTYPE, devmajor=7, devminor=1, mode=0o660),
            entry("pipe", type=tarfile.FIFOTYPE, mode=0o640),
        )
    )
    assert (place.target / "h").stat().st_ino == (place.target / "f").stat().st_ino
    assert os.readlink(place.target / "s") == "/absolute/elsewhere"
    null = (place.target / "null").stat()
    assert (stat.S_ISCHR(null.st_mode), null.st_rdev, stat.S_IMODE(null.st_mode)) == (True, os.makedev(1, 3), 0o666)
    assert stat.S_ISBLK((place.target / "disk").stat().st_mode)
    assert stat.S_ISFIFO((place.target / "pipe").stat().st_mode)


def test_file_capabilities_and_user_attributes_are_set_and_overlays_own_are_not(place: Place) -> None:
    capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    fields = {
        "SCHILY.xattr.security.capability": capability,
        "SCHILY.xattr.user.colour": "red",
        "SCHILY.xattr.trusted.overlay.redirect": "/../../etc",
    }
    place.unpack(
        tar(entry("f", b"x", uid=1, pax_headers=fields), directory("d", pax_headers={"SCHILY.xattr.trusted.overlay.opaque": "y"}))
    )
    assert os.getxattr(place.target / "f", "security.capability") == capability.encode()
    assert os.getxattr(place.target / "f", "user.colour") == b"red"
    assert "trusted.overlay.redirect" not in os.listxattr(place.target / "f")
    assert os.listxattr(place.target / "d") == []


def test_sparse_files_have_their_holes(place: Place) -> None:
    place.unpack(gnu_sparse(b"abcdef", [(512, 3), (1 << 30, 3)], 2 << 30))
    with open(place.target / "sparse", "rb") as file:
        assert os.pread(file.fileno(), 5, 511) == b"\0abc\0"
        assert os.pread(file.fileno(), 4, 1 << 30) == b"def\0"
        status = os.fstat(file.fileno())
    assert (status.st_size, status.st_blocks < 100) == (2 << 30, True)


def test_a_whiteout_becomes_overlayfs_mark(place: Place) -> None:
    place.unpack(tar(directory("d"), entry("d/.wh.gone"), entry("d/.wh..wh..opq")))
    mark = (place.target / "d/gone").stat()
    assert (stat.S_ISCHR(mark.st_mode), mark.st_rdev) == (True, 0)
    assert os.getxattr(place.target / "d", "trusted.overlay.opaque") == b"y"


def test_a_directory_in_the_place_of_a_whiteout_hides_what_was_below(place: Place) -> None:
    place.unpack(tar(entry(".wh.d"), directory("d"), entry("d/f", b"x")))
    assert os.getxattr(place.target / "d", "trusted.overlay.opaque") == b"y"


def test_a_whiteout_after_its_directory_hides_what_was_below_and_keeps_what_is_new(place: Place) -> None:
    place.unpack(tar(directory("d"), entry("d/f", b"x"), entry(".wh.d")))
    assert os.getxattr(place.target / "d", "trusted.overlay.opaque") == b"y"
    assert (place.target / "d/f").read_bytes() == b"x"


def test_the_records_of_aufs_are_dropped(place: Place) -> None:
    place.unpack(tar(entry(".wh..wh.aufs"), directory(".wh..wh.plnk")))
    assert os.listdir(place.target) == []


def test_the_later_of_two_entries_wins(place: Place) -> None:
    place.unpack(tar(entry("x", b"1"), entry("x", b"2"), directory("y"), entry("y/z", b"1"), entry("y", b"now a file")))
    assert (place.target / "x").read_bytes() == b"2"
    assert (place.target / "y").read_bytes() == b"now a file"


def test_a_directory_given_twice_keeps_its_content(place: Place) -> None:
    place.unpack(tar(directory("d", mode=0o700), entry("d/f", b"x"), directory("d", mode=0o711)))
    assert (place.target / "d/f").read_bytes() == b"x"
    assert stat.S_IMODE((place.target / "d").stat().st_mode) == 0o711


def test_a_link_inside_the_archive_is_followed_in_the_middle_of_a_name(place: Place) -> None:
    place.unpack(
        tar(
            directory("usr/lib"),
            symlink("lib", "/usr/lib"),
            entry("lib/x", b"1"),
            symlink("deep", "usr/../lib"),
            entry("deep/y", b"2"),
        )
    )
    assert (place.target / "usr/lib/x").read_bytes() == b"1"
    assert (place.target / "usr/lib/y").read_bytes() == b"2"


def test_an_absolute_name_means_the_root_of_the_target(place: Place) -> None:
    """As Docker reads it, and as some builders write it."""
    place.unpack(tar(entry(f"{place.bait}/f", b"x")))
    assert sorted(path.name for path in place.bait.iterdir()) == ["secret"]
    assert (place.target / str(place.bait)[1:] / "f").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["../bait/evil", "a/../../bait/evil", "./../bait/evil", "..", "a/.."])
def test_a_name_that_goes_up_is_refused(place: Place, name: str) -> None:
    place.refuse(tar(entry(name, b"x")), "outside of the archive's root")


# CVE-2021-32760, CVE-2025-47290, CVE-2026-17106
def test_a_symbolic_link_that_leads_out_is_not_written_through(place: Place) -> None:
    place.refuse(tar(symlink("out", "../bait"), entry("out/evil", b"x")), "leads out of the archive's root")


def test_an_absolute_symbolic_link_is_not_written_through(place: Place) -> None:
    place.refuse(tar(symlink("out", str(place.bait)), entry("out/evil", b"x")), "leads nowhere in this archive")


def test_a_chain_of_links_does_not_lead_out_either(place: Place) -> None:
    place.refuse(
        tar(directory("a"), symlink("a/b", ".."), symlink("a/c", "b/.."), entry("a/c/bait/evil", b"x")),
        "leads out of the archive's root",
    )


def test_links_in_a_circle_are_refused(place: Place) -> None:
    place.refuse(tar(symlink("a", "b"), symlink("b", "a"), entry("a/x", b"")), "too many levels of symbolic links")


def test_a_file_is_not_written_through_a_link_of_its_own_name(place: Place) -> None:
    place.unpack(tar(symlink("x", str(place.bait / "secret")), entry("x", b"overwritten")))
    assert (place.bait / "secret").read_text() == "secret"
    assert (place.target / "x").read_bytes() == b"overwritten"


def test_a_directory_over_a_link_replaces_it(place: Place) -> None:
    place.unpack(tar(symlink("d", str(place.bait)), directory("d", mode=0o700), entry("d/f", b"x")))
    assert sorted(path.name for path in place.bait.iterdir()) == ["secret"]
    assert (place.target / "d/f").read_bytes() == b"x"


@pytest.mark.parametrize("target", ["../bait/secret", "a/../../bait/secret"])
def test_a_hard_link_that_leads_out_is_refused(place: Place, target: str) -> None:
    place.refuse(tar(hardlink("h", target)), "invalid hardlink to .*, outside of the archive's root")


def test_a_hard_link_to_a_file_of_the_host_is_refused(place: Place) -> None:
    place.refuse(tar(hardlink("h", str(place.bait / "secret"))), "which is not in this archive")


def test_a_hard_link_through_a_symbolic_link_does_not_lead_out(place: Place) -> None:
    place.refuse(tar(symlink("out", "../bait"), hardlink("h", "out/secret")), "leads out of the archive's root")


def test_a_hard_link_to_a_symbolic_link_is_one_more_link_not_its_target(place: Place) -> None:
    place.unpack(tar(symlink("s", str(place.bait / "secret")), hardlink("h", "s"), entry("h", b"x")))
    assert (place.bait / "secret").stat().st_nlink == 1


def test_a_whiteout_through_a_link_does_not_reach_out(place: Place) -> None:
    place.refuse(tar(symlink("out", "../bait"), entry("out/.wh.secret")), "leads out of the archive's root")


def test_an_opaque_mark_through_a_link_does_not_reach_out(place: Place) -> None:
    place.refuse(tar(symlink("out", "../bait"), entry("out/.wh..wh..opq")), "leads out of the archive's root")
    assert os.listxattr(place.bait) == []


@pytest.mark.parametrize("name", [".wh.", ".wh...", "d/.wh.."])
def test_a_whiteout_of_nothing_is_refused(place: Place, name: str) -> None:
    place.refuse(tar(directory("d"), entry(name)), "whiteout of nothing")


def test_a_device_is_made_but_not_written_to(place: Place) -> None:
    """A write behind a name that is a device, a fifo or a socket would reach the host or hang."""
    place.unpack(
        tar(
            entry("pipe", type=tarfile.FIFOTYPE),
            entry("pipe", b"x"),
            entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
            entry("null", b"y"),
        )
    )
    assert (place.target / "pipe").read_bytes() == b"x"
    assert stat.S_ISREG((place.target / "null").stat().st_mode)


def test_a_device_number_that_cannot_be_is_refused(place: Place) -> None:
    place.refuse(tar(entry("d", type=tarfile.CHRTYPE, devmajor=1 << 20, devminor=0)), "impossible device")


def test_a_type_that_is_none_is_refused(place: Place) -> None:
    place.refuse(encode(Entry(b"x", b"M", 0o644, 0, 0, 0, 0)) + END, "unhandled tar header type 77")


def test_a_bomb_is_refused_at_its_limit(place: Place) -> None:
    import gzip

    place.refuse(gzip.compress(tar(entry("zeros", bytes(32 << 20)))), "more than the 1.0 MB", limit_bytes=1 << 20)


def test_more_entries_than_the_limit_are_refused(place: Place) -> None:
    place.refuse(tar(*(entry(f"f{number}") for number in range(20))), "more than 10 entries", limit_entries=10)


def test_a_name_deeper_than_the_limit_is_refused(place: Place) -> None:
    place.refuse(tar(entry("d/" * 300 + "f")), "too deep")


def test_a_component_longer_than_the_file_system_takes_is_refused(place: Place) -> None:
    place.refuse(tar(entry("x" * 300)), "file name too long")


def test_a_damaged_layer_is_corrupt(place: Place) -> None:
    import gzip

    with pytest.raises(DataCorrupt):
        place.unpack(gzip.compress(tar(entry("f", os.urandom(50_000))))[:-1000])


def test_many_directories_do_not_exhaust_descriptors(place: Place) -> None:
    members = [entry(f"d{number // 40}/s{number}/f", b"x") for number in range(3000)]
    assert place.unpack(tar(*members)).entries == 3000
    assert (place.target / "d74/s2999/f").read_bytes() == b"x"


def test_names_that_are_no_utf8_are_kept(place: Place) -> None:
    place.unpack(encode(Entry(b"caf\xe9", header.REGULAR, 0o644, 0, 0, 0, 0)) + END)
    assert os.listdir(os.fsencode(place.target)) == [b"caf\xe9"]


def test_a_tree_that_is_written_out_unpacks_to_the_same_tree(place: Place, tmp_path: Path) -> None:
    place.unpack(
        tar(
            directory("d", mode=0o1777),
            entry("d/f", b"hello", uid=5, mode=0o4755),
            hardlink("d/h", "d/f"),
            symlink("s", "d/f"),
            entry("d/.wh.gone"),
            directory("o"),
            entry("o/.wh..wh..opq"),
            entry("n" * 120 + "/" + "é" * 60, b"x", mtime=1_600_000_000),
            entry("pipe", type=tarfile.FIFOTYPE),
        )
    )
    root_fd = os.open(place.target, os.O_RDONLY)
    try:
        written = b"".join(TreeWriter(root_fd, whiteouts=True).stream())
    finally:
        os.close(root_fd)
    again = Place(tmp_path / "again", place.bait)
    again.target.mkdir()
    again.unpack(written)
    show = "find . -printf '%P %y %m %U %G %l %n\\n' | sort; cat d/f"
    first, second = (
        subprocess.run(["sh", "-c", show], cwd=at, capture_output=True, check=True).stdout for at in (place.target, again.target)
    )
    assert first == second
    assert os.getxattr(again.target / "o", "trusted.overlay.opaque") == b"y"
    with tarfile.open(fileobj=io.BytesIO(written)) as archive:
        assert {"d/.wh.gone", "o/.wh..wh..opq", "d/f", "s"} <= set(archive.getnames())
