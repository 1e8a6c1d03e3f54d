"""From a changed copy of a tree to the difference: what stays, what goes, what leaves a whiteout."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from carrack.shim.subtract import subtract

pytestmark = pytest.mark.root


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    below, full = tmp_path / "below", tmp_path / "full"
    for name in ("same/deep/file", "changed/file", "gone/file", "turned", "linked/target"):
        (below / name).parent.mkdir(parents=True, exist_ok=True)
        (below / name).write_text(name)
    (below / "link").symlink_to("turned")
    os.setxattr(below / "same/deep/file", "user.kept", b"1")
    shutil.copytree(below, full, symlinks=True)
    for path in below.rglob("*"):
        status = path.lstat()
        os.utime(full / path.relative_to(below), ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)
    return below, full


def subtracted(below: Path, full: Path) -> dict[str, str]:
    fds = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (below, full)]
    try:
        subtract(*fds)
    finally:
        for fd in fds:
            os.close(fd)
    return {str(path.relative_to(full)): kind(path) for path in sorted(full.rglob("*"))}


def kind(path: Path) -> str:
    status = path.lstat()
    if stat.S_ISCHR(status.st_mode) and not status.st_rdev:
        return "whiteout"
    return "directory" if stat.S_ISDIR(status.st_mode) else "file"


def test_a_copy_that_nothing_changed_is_empty(trees: tuple[Path, Path]) -> None:
    assert subtracted(*trees) == {}


def test_changes_of_every_kind_stay_and_removals_leave_whiteouts(trees: tuple[Path, Path]) -> None:
    below, full = trees
    (full / "changed/file").write_text("other")
    shutil.rmtree(full / "gone")
    (full / "turned").unlink()
    (full / "turned").mkdir()
    (full / "link").unlink()
    (full / "link").symlink_to("elsewhere")
    shutil.rmtree(full / "linked")
    (full / "linked").symlink_to("/etc")
    (full / "new").write_text("new")
    assert subtracted(below, full) == {
        "changed": "directory", "changed/file": "file", "gone": "whiteout", "turned": "directory", "link": "file",
        "linked": "file", "new": "file",
    }  # fmt: skip


def test_modes_owners_and_attributes_count_and_times_of_directories_stay(trees: tuple[Path, Path]) -> None:
    below, full = trees
    os.setxattr(full / "same/deep/file", "user.kept", b"2")
    (full / "gone").chmod(0o700)
    os.chown(full / "changed/file", 5, 6)
    os.utime(full / "same", ns=(1, 2))
    assert set(subtracted(below, full)) == {"same", "same/deep", "same/deep/file", "gone", "changed", "changed/file"}
    assert (full / "same").stat().st_mtime_ns == 2
