"""Volumes of the local driver that are file systems of their own, really mounted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrack.errors import SystemFailure
from carrack.kernel import mount
from carrack.state.database import Database
from carrack.volumes.drivers.local import mounts_below
from carrack.volumes.volumes import Volumes

pytestmark = pytest.mark.root

TMPFS = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=700,noexec"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "state.db") as made:
        yield made


@pytest.fixture
def volumes(tmp_path: Path, database: Database) -> Iterator[Volumes]:
    made = Volumes(database, tmp_path / "volumes", lambda *_: None)
    yield made
    for volume in made.list():
        for point in mounts_below(volume.mountpoint):
            mount.unmount(point, mount.MNT_DETACH)


def test_a_tmpfs_volume_is_one_file_system_for_all_its_containers(volumes: Volumes) -> None:
    volumes.create("fast", "local", TMPFS, {})
    path = Path(volumes.acquire("fast", "one"))
    (path / "file").write_text("shared")
    assert (Path(volumes.acquire("fast", "two")) / "file").read_text() == "shared"
    assert os.statvfs(path).f_blocks * os.statvfs(path).f_frsize == 1 << 20
    assert os.statvfs(path).f_flag & os.ST_NOEXEC


def test_it_is_unmounted_with_its_last_container(volumes: Volumes) -> None:
    volumes.create("fast", "local", TMPFS, {})
    path = volumes.acquire("fast", "one")
    volumes.acquire("fast", "two")
    volumes.release("one")
    assert os.path.ismount(path)
    volumes.release("two")
    assert not os.path.ismount(path)


def test_a_bind_volume_shows_the_directory_it_names(volumes: Volumes, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").write_text("x")
    volumes.create("bound", "local", {"type": "none", "device": str(tmp_path / "there"), "o": "bind,ro"}, {})
    path = Path(volumes.acquire("bound", "one"))
    assert (path / "file").read_text() == "x"
    with pytest.raises(OSError, match="Read-only file system"):
        (path / "new").touch()


def test_removing_a_bind_volume_leaves_what_it_showed(volumes: Volumes, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/file").write_text("x")
    volumes.create("bound", "local", {"type": "none", "device": str(tmp_path / "there"), "o": "bind"}, {})
    volumes.acquire("bound", "one")
    volumes.release("one")
    volumes.remove("bound")
    assert (tmp_path / "there/file").read_text() == "x"


def test_a_volume_with_somebodys_mount_in_it_is_not_removed(volumes: Volumes, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").write_text("x")
    inside = Path(volumes.create("mine", "local", {}, {}).mountpoint) / "mounted here"
    inside.mkdir()
    mount.mount(str(tmp_path / "precious"), str(inside), "", mount.MS_BIND)
    with pytest.raises(SystemFailure, match=r"cannot remove .*/mine: something is mounted on .*/_data/mounted here"):
        volumes.remove("mine")
    assert (tmp_path / "precious/file").read_text() == "x"
    assert volumes.get("mine").name == "mine"
    mount.unmount(str(inside))


def test_a_mount_that_fails_is_told_with_what_was_tried_but_no_password(volumes: Volumes) -> None:
    options = {"type": "nosuchfs", "device": "/dev/nowhere", "o": "user=me,password=secret"}
    volumes.create("broken", "local", options, {})
    with pytest.raises(SystemFailure) as failed:
        volumes.acquire("broken", "one")
    assert failed.value.message.startswith("failed to mount local volume: mount /dev/nowhere:")
    assert "secret" not in failed.value.message
    assert volumes.get("broken").references == ()


def test_after_a_reboot_a_volume_that_is_had_is_mounted_again(volumes: Volumes, database: Database, tmp_path: Path) -> None:
    volumes.create("fast", "local", TMPFS, {})
    path = volumes.acquire("fast", "one")
    mount.unmount(path)
    Volumes(database, tmp_path / "volumes", lambda *_: None)
    assert os.path.ismount(path)


def test_prune_leaves_volumes_with_mount_options(volumes: Volumes) -> None:
    volumes.create("fast", "local", TMPFS, {})
    assert volumes.prune(lambda _: True) == ([], 0)
