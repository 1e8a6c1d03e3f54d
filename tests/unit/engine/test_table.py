"""The table finds containers by id, name and prefix, and keeps names unique."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import pytest

from carrack.engine.config import ContainerConfig, HostConfig
from carrack.engine.container import Container
from carrack.engine.table import Table
from carrack.errors import Conflict, InvalidParameter, NotFound

T = TypeVar("T")


class MemoryStore:
    """The one table, in a SQLite of this process."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:")
        self.connection.execute("CREATE TABLE containers (id TEXT PRIMARY KEY, name TEXT UNIQUE, document BLOB)")

    def read(self, sql: str, params: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        return self.connection.execute(sql, params).fetchall()

    def write(self, change: Callable[[sqlite3.Connection], T], *, durable: bool = False) -> Future[T]:
        done: Future[T] = Future()
        done.set_result(change(self.connection))
        return done


def container(identity: str, name: str) -> Container:
    return Container(identity, name, 1, ContainerConfig(), HostConfig(), "sha256:0", "x")


@pytest.fixture
def table() -> Table:
    made = Table(MemoryStore())
    for identity, name in (("a" * 64, "first"), ("ab" + "c" * 62, "second"), ("d" * 64, "abc")):
        made.reserve_name(name, identity)
        made.add(container(identity, name))
    return made


def test_a_unique_prefix_finds_a_container(table: Table) -> None:
    assert table.get("aa").name == "first"


def test_a_name_wins_over_a_prefix(table: Table) -> None:
    assert table.get("abc").id == "d" * 64


def test_an_ambiguous_prefix_is_refused(table: Table) -> None:
    with pytest.raises(InvalidParameter, match="multiple IDs found with provided prefix: a"):
        table.get("a")


def test_an_unknown_reference_is_not_found(table: Table) -> None:
    with pytest.raises(NotFound, match="No such container: nope"):
        table.get("nope")


def test_a_taken_name_is_refused_and_names_its_holder(table: Table) -> None:
    with pytest.raises(Conflict, match='The container name "/first" is already in use by container "a{64}"'):
        table.reserve_name("/first", "e" * 64)


@pytest.mark.parametrize("name", ["-x", "a b", "x/y", "", "ü", "a"])
def test_a_name_is_checked_or_invented(table: Table, name: str) -> None:
    if name:
        with pytest.raises(InvalidParameter, match="Invalid container name"):
            table.reserve_name(name, "e" * 64)
    else:
        assert "_" in table.reserve_name(name, "e" * 64)


def test_records_come_back_from_the_store(table: Table) -> None:
    again = Table(table._store)
    again.load()
    assert again.get("first") == table.get("first")


def test_a_removed_container_frees_its_name(table: Table) -> None:
    table.remove(table.get("first"))
    assert table.reserve_name("first", "e" * 64) == "first"


def test_a_removed_container_stays_removed_whoever_records_it_late(table: Table) -> None:
    removed = table.get("first")
    table.remove(removed)
    table.save(removed)
    again = Table(table._store)
    again.load()
    assert again.find(removed.id) is None
    assert len(again) == 2
