"""Volumes that change their place: renamed, filled before they exist, limited; and what a kill in between leaves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from carrack.errors import Conflict, InvalidParameter, SystemFailure
from carrack.state.database import Database
from carrack.volumes.drivers.sizes import parse_size
from carrack.volumes.volume import ANONYMOUS_LABEL, Volume
from carrack.volumes.volumes import Volumes

Open = Callable[[], Volumes]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "state.db") as made:
        yield made


@pytest.fixture
def told() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def reopen(tmp_path: Path, database: Database, told: list[tuple[str, str]]) -> Open:
    """What the next daemon finds."""
    return lambda: Volumes(database, tmp_path / "volumes", lambda kind, action, actor, attributes: told.append((action, actor)))


def fill(directory_fd: int) -> None:
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=directory_fd))


def test_a_rename_that_was_recorded_is_finished_by_the_next_daemon(tmp_path: Path, database: Database, reopen: Open) -> None:
    volume = reopen().create("old", "local", {}, {})
    Path(volume.mountpoint, "file").touch()
    place = tmp_path / "volumes/new/_data"
    document = msgspec.json.encode(msgspec.structs.replace(volume, name="new", mountpoint=str(place), renamed_from="old"))
    database.write(lambda connection: connection.execute("DELETE FROM volumes")).result()
    database.execute("INSERT INTO volumes VALUES ('new', ?)", (document,)).result()
    for volumes in (reopen(), reopen()):
        assert [(each.name, each.renamed_from) for each in volumes.list()] == [("new", "")]
        assert os.listdir(place) == ["file"]
    assert os.listdir(tmp_path / "volumes") == ["new"]


def test_a_rename_the_disk_refuses_leaves_everything_as_it_was(tmp_path: Path, reopen: Open) -> None:
    volumes = reopen()
    volumes.create("old", "local", {}, {})
    (tmp_path / "volumes/new/in the way").mkdir(parents=True)
    with pytest.raises(SystemFailure):
        volumes.rename("old", "new")
    assert [volume.name for volume in reopen().list()] == ["old"]


def test_an_anonymous_volume_that_gets_a_name_is_anonymous_no_more(reopen: Open, told: list[tuple[str, str]]) -> None:
    volumes = reopen()
    volume = volumes.create("", "local", {}, {"a": "b"})
    assert volumes.rename(volume.name, "mine").labels == {"a": "b"}
    assert ANONYMOUS_LABEL not in reopen().get("mine").labels
    assert told[-1] == ("rename", "mine")


def test_a_volume_is_made_whole_or_not_at_all(tmp_path: Path, reopen: Open) -> None:
    volumes = reopen()
    assert os.listdir(volumes.make("full", fill, {}, {}).mountpoint) == ["file"]

    def fail(directory_fd: int) -> None:
        fill(directory_fd)
        raise InvalidParameter("bad")

    with pytest.raises(InvalidParameter):
        volumes.make("half", fail, {}, {})
    with pytest.raises(Conflict):
        volumes.make("full", fill, {}, {})
    assert os.listdir(tmp_path / "volumes") == ["full"]


def test_a_name_is_taken_while_its_volume_is_filled(reopen: Open) -> None:
    volumes = reopen()

    def meddle(directory_fd: int) -> None:
        with pytest.raises(Conflict, match="is being made"):
            volumes.create("new", "local", {}, {})

    assert volumes.make("new", meddle, {}, {}).name == "new"


def test_what_a_killed_daemon_was_filling_is_gone_at_the_next_start(tmp_path: Path, reopen: Open) -> None:
    reopen()
    (tmp_path / "volumes/.new-0123/_data").mkdir(parents=True)
    reopen()
    assert os.listdir(tmp_path / "volumes") == []


def test_a_volume_that_is_read_stays(reopen: Open) -> None:
    volumes = reopen()
    volumes.create("busy", "local", {}, {})
    with volumes.reading("busy") as volume:
        assert isinstance(volume, Volume)
        for order in (lambda: volumes.remove("busy"), lambda: volumes.rename("busy", "other")):
            with pytest.raises(Conflict, match="is being copied"):
                order()
    volumes.remove("busy")


@pytest.mark.parametrize(("text", "size"), [("10", 10), ("10k", 10240), ("1.5GiB", 3 << 29), ("2 mb", 2 << 20)])
def test_a_size_is_written_as_for_memory(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "ten", "-5m", "1x"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid size"):
        parse_size(text)
