"""Volumes: records, references, names, and what removal leaves."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrack.errors import Conflict, InvalidParameter, NotFound
from carrack.state.database import Database
from carrack.volumes.drivers.local import parse_mount_options
from carrack.volumes.volumes import Volumes

Event = tuple[str, str, str, dict[str, str]]


class Store:
    """A data-root with volumes, that can be closed and opened again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[Event] = []
        self.open()

    def open(self) -> None:
        self.database = Database(self.root / "state.db")
        self.volumes = Volumes(self.database, self.root / "volumes", lambda *event: self.events.append(event))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path)
    yield made
    made.database.close()


def test_a_volume_is_a_directory_of_its_name(store: Store) -> None:
    volume = store.volumes.create("mine", "local", {}, {"a": "b"})
    assert volume.mountpoint == str(store.root / "volumes/mine/_data")
    assert Path(volume.mountpoint).is_dir()
    assert store.volumes.get("mine") == volume


def test_a_volume_without_name_is_anonymous(store: Store) -> None:
    volume = store.volumes.create("", "", {}, {})
    assert len(volume.name) == 64
    assert volume.anonymous
    assert volume.labels == {"com.docker.volume.anonymous": ""}


def test_making_a_volume_again_finds_it(store: Store) -> None:
    first = store.volumes.create("mine", "local", {}, {"a": "b"})
    assert store.volumes.create("mine", "local", {}, {"c": "d"}) == first
    assert store.events == [("volume", "create", "mine", {"driver": "local"})]


@pytest.mark.parametrize(
    ("name", "options", "complaint"),
    [
        ("x", {}, "create x: volume name is too short, names should be at least two alphanumeric characters"),
        (
            "a/b",
            {},
            'create a/b: "a/b" includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed',
        ),
        ("..", {}, "includes invalid characters"),
        (".hidden", {}, "includes invalid characters"),
        ("mine", {"colour": "red"}, 'create mine: invalid option: "colour"'),
        ("mine", {"device": "tmpfs"}, 'create mine: missing required option: "type"'),
        ("mine", {"o": "size=1m"}, 'create mine: missing required option: "device"'),
        ("mine", {"size": "1g"}, "create mine: quota size requested but no quota support"),
    ],
)
def test_what_cannot_be_is_refused_in_dockers_words(store: Store, name: str, options: dict[str, str], complaint: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        store.volumes.create(name, "local", options, {})
    assert complaint in refused.value.message
    assert list((store.root / "volumes").iterdir()) == []


def test_an_unknown_driver_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match='create mine: error looking up volume plugin nfs: plugin "nfs" not found'):
        store.volumes.create("mine", "nfs", {}, {})


def test_a_volume_that_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="get nope: no such volume"):
        store.volumes.get("nope")


def test_a_volume_in_use_cannot_be_removed(store: Store) -> None:
    store.volumes.create("mine", "local", {}, {})
    store.volumes.acquire("mine", "one")
    store.volumes.acquire("mine", "two")
    with pytest.raises(Conflict, match=r"remove mine: volume is in use - \[one, two\]"):
        store.volumes.remove("mine")


def test_a_released_volume_can_be_removed_with_all_that_is_in_it(store: Store) -> None:
    volume = store.volumes.create("mine", "local", {}, {})
    path = Path(store.volumes.acquire("mine", "one"))
    (path / "deep").mkdir()
    (path / "deep/file").write_text("x")
    outside = store.root / "precious"
    outside.mkdir()
    (outside / "file").write_text("x")
    (path / "link").symlink_to(outside)
    store.volumes.release("one")
    store.volumes.remove("mine")
    assert not Path(volume.mountpoint).parent.exists()
    assert (outside / "file").exists()
    assert store.events[-1] == ("volume", "destroy", "mine", {"driver": "local"})


def test_removing_what_is_not_there_matters_only_without_force(store: Store) -> None:
    store.volumes.remove("nope", force=True)
    with pytest.raises(NotFound, match="get nope: no such volume"):
        store.volumes.remove("nope")


def test_volumes_and_references_outlive_the_daemon(store: Store) -> None:
    store.volumes.create("mine", "local", {}, {"a": "b"})
    store.volumes.acquire("mine", "one")
    store.database.close()
    store.open()
    assert store.volumes.get("mine").references == ("one",)
    assert store.volumes.get("mine").labels == {"a": "b"}


def test_a_directory_that_was_never_recorded_goes_at_the_next_start_if_nothing_is_in_it(store: Store) -> None:
    store.volumes.create("mine", "local", {}, {})
    store.database.close()
    for name in ("unborn", "filled"):
        (store.root / "volumes" / name / "_data").mkdir(parents=True)
    (store.root / "volumes/filled/_data/file").write_text("somebody's")
    store.open()
    assert sorted(os.listdir(store.root / "volumes")) == ["filled", "mine"]
    assert (store.root / "volumes/filled/_data/file").read_text() == "somebody's"


def test_references_of_containers_that_are_no_more_are_forgotten(store: Store) -> None:
    store.volumes.create("mine", "local", {}, {})
    store.volumes.acquire("mine", "one")
    store.volumes.acquire("mine", "two")
    store.volumes.reconcile(["two"])
    assert store.volumes.get("mine").references == ("two",)


def test_prune_takes_what_nobody_has_and_tells_its_size(store: Store) -> None:
    for name in ("kept", "used", "gone"):
        store.volumes.create(name, "local", {}, {})
    store.volumes.acquire("used", "one")
    (Path(store.volumes.get("gone").mountpoint) / "file").write_bytes(b"x" * 5000)
    removed, reclaimed = store.volumes.prune(lambda volume: volume.name != "kept")
    assert (list(removed), reclaimed) == (["gone"], 5000)
    assert sorted(volume.name for volume in store.volumes.list()) == ["kept", "used"]
    assert store.events[-1] == ("volume", "prune", "", {"reclaimed": "5000"})


def test_a_hard_link_counts_once(store: Store) -> None:
    path = Path(store.volumes.create("mine", "local", {}, {}).mountpoint)
    (path / "a").write_bytes(b"x" * 700)
    (path / "b").hardlink_to(path / "a")
    assert store.volumes.usage_bytes(store.volumes.get("mine")) == 700


def test_mount_options_part_into_flags_propagation_and_the_rest() -> None:
    flags, propagation, rest = parse_mount_options("ro,nosuid,size=1m,rshared,uid=5,defaults,rw")
    assert (flags, propagation, rest) == (2, (1 << 20 | 16384,), "size=1m,uid=5")


def test_what_lies_too_deep_for_a_path_counts_too_and_what_a_link_leads_to_does_not(store: Store, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_bytes(b"x" * 5000)
    path = Path(store.volumes.create("mine", "local", {}, {}).mountpoint)
    (path / "link").symlink_to(tmp_path / "elsewhere")
    fd = os.open(path, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=fd)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=fd))
    os.truncate(f"/proc/self/fd/{fd}/file", 700)
    os.close(fd)
    linked = (path / "link").lstat().st_size
    assert store.volumes.usage_bytes(store.volumes.get("mine")) == 700 + linked
