"""state.Database: one writer, any reader, migrations, and the data-root's lock."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrack.errors import DataCorrupt, SystemFailure, Unavailable
from carrack.state import Database, Migration

FIRST = Migration(1, ("CREATE TABLE things (name TEXT PRIMARY KEY) STRICT",))
SECOND = Migration(2, ("ALTER TABLE things ADD COLUMN colour TEXT",))


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "state.db", (FIRST,)) as opened:
        yield opened


def add(database: Database, name: str, *, durable: bool = False) -> None:
    database.execute("INSERT INTO things VALUES (?)", (name,), durable=durable).result(10)


def names(database: Database) -> list[str]:
    return sorted(row[0] for row in database.read("SELECT name FROM things"))


def test_a_finished_write_is_seen_by_every_thread(database: Database) -> None:
    add(database, "one")
    seen: list[list[str]] = []
    thread = threading.Thread(target=lambda: seen.append(names(database)))
    thread.start()
    thread.join()
    assert seen == [["one"]]


def test_a_change_that_raises_is_undone_and_spares_the_others_of_its_commit(database: Database) -> None:
    gate = threading.Event()

    def block(connection: sqlite3.Connection) -> None:
        gate.wait(10)

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO things VALUES ('bad')")
        raise KeyError("no")

    blocked = database.write(block)  # what follows is queued together and becomes one commit
    first = database.execute("INSERT INTO things VALUES ('first')")
    failing = database.write(fail)
    last = database.execute("INSERT INTO things VALUES ('last')")
    gate.set()
    blocked.result(10)
    with pytest.raises(KeyError):
        failing.result(10)
    assert (first.result(10), last.result(10)) == (1, 1)
    assert names(database) == ["first", "last"]


def test_readers_cannot_write(database: Database) -> None:
    with pytest.raises(SystemFailure, match="readonly"):
        database.read("INSERT INTO things VALUES ('x')")


def test_a_unique_name_taken_twice_is_the_callers_integrity_error(database: Database) -> None:
    add(database, "one")
    with pytest.raises(sqlite3.IntegrityError):
        add(database, "one")


def test_a_durable_change_leaves_the_writer_in_normal_mode(database: Database) -> None:
    add(database, "kept", durable=True)
    assert database.write(lambda c: c.execute("PRAGMA synchronous").fetchone()[0]).result(10) == 1


def test_close_commits_what_is_queued(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.db", (FIRST,))
    futures = [database.execute("INSERT INTO things VALUES (?)", (str(number),)) for number in range(500)]
    database.close()
    assert all(future.result(0) == 1 for future in futures)
    with Database(tmp_path / "state.db", (FIRST,)) as again:
        assert len(names(again)) == 500


def test_a_closed_database_refuses_orders(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.db", (FIRST,))
    database.close()
    with pytest.raises(Unavailable):
        database.execute("DELETE FROM things")


def test_an_older_file_is_migrated_and_keeps_its_rows(tmp_path: Path) -> None:
    with Database(tmp_path / "state.db", (FIRST,)) as old:
        add(old, "kept")
    with Database(tmp_path / "state.db", (FIRST, SECOND)) as new:
        assert new.read("SELECT name, colour FROM things") == [("kept", None)]


def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    with Database(tmp_path / "state.db", (FIRST, SECOND)):
        pass
    with pytest.raises(Unavailable, match="schema version 2, this Carrack knows versions up to 1"):
        Database(tmp_path / "state.db", (FIRST,))
    with Database(tmp_path / "state.db", (FIRST, SECOND)):
        pass


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    with Database(tmp_path / "state.db", (FIRST,)):
        pass
    broken = Migration(2, ("CREATE TABLE more (x TEXT)", "CREATE TABLE things (x TEXT)"))
    with pytest.raises(SystemFailure):
        Database(tmp_path / "state.db", (FIRST, broken))
    with Database(tmp_path / "state.db", (FIRST,)) as again:
        assert again.read("SELECT name FROM sqlite_master WHERE name = 'more'") == []


def test_a_file_that_is_no_database_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database, whatever its name says" * 100)
    with pytest.raises(DataCorrupt):
        Database(tmp_path / "state.db", (FIRST,))


def test_a_second_daemon_is_refused_by_the_pid_of_the_first(database: Database, tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from carrack.errors import Unavailable
from carrack.state import Database
try:
    Database(Path({str(tmp_path / "state.db")!r}))
except Unavailable as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert f"is in use by another daemon (pid {os.getpid()})" in done.stdout


def test_a_killed_daemon_leaves_its_commits_and_no_lock(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from carrack.state import Database, Migration
database = Database(Path({str(tmp_path / "state.db")!r}), (Migration(1, ("CREATE TABLE things (name TEXT PRIMARY KEY) STRICT",)),))
database.execute("INSERT INTO things VALUES ('kept')").result()
os.kill(os.getpid(), signal.SIGKILL)
"""  # noqa: S608
    subprocess.run([sys.executable, "-c", program], check=False)
    with Database(tmp_path / "state.db", (FIRST,)) as again:
        assert names(again) == ["kept"]


def test_a_data_root_that_is_no_directory_is_a_clear_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemFailure, match="cannot use data-root"):
        Database(tmp_path / "file" / "state.db", (FIRST,))


def test_each_change_of_a_burst_from_many_threads_is_committed(database: Database) -> None:
    def burst(base: int) -> None:
        for number in range(50):
            add(database, f"{base}-{number}")

    threads = [threading.Thread(target=burst, args=(base,)) for base in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(names(database)) == 400
