"""One SQLite file in WAL mode: any thread reads, one thread writes.

Changes queue up for the writer, which commits everything that is waiting as one transaction (group commit), so that a slow disk
costs a burst of orders one sync and never stalls the event loop. `synchronous` is NORMAL: a commit survives the death of the
process, and after a power cut the file is whole but may lack the last commits. A change whose loss nothing could repair asks
for `durable=True` and is on the disk when its future is done.
"""

from __future__ import annotations

import errno
import os
import queue
import sqlite3
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Self, TypeVar

from carrack.errors import CarrackError, DataCorrupt, SystemFailure, Unavailable
from carrack.state.lock import DataRootLock
from carrack.state.schema import MIGRATIONS, Migration

T = TypeVar("T")
Row = tuple[Any, ...]

_BATCH = 256
_BUSY_TIMEOUT_SECONDS = 10.0


class _Connection(sqlite3.Connection):
    """A connection that can be held weakly: it closes with the thread it belongs to."""


class _Change:
    __slots__ = ("apply", "durable", "future")

    def __init__(self, apply: Callable[[sqlite3.Connection], object], durable: bool, future: Future[Any]) -> None:
        self.apply = apply
        self.durable = durable
        self.future = future


class Database:
    """The records of one data-root, which is the directory of `path` and is locked until `close`.

    Raises Unavailable when another daemon holds the data-root or when the file was written by a newer Carrack, DataCorrupt when
    it is no database, SystemFailure when it cannot be opened or written.
    """

    def __init__(self, path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> None:
        self._path = path
        self._lock = DataRootLock(path.parent)
        self._local = threading.local()
        self._readers: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._queue: queue.SimpleQueue[_Change | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self.commits = 0
        """Grows with every commit: what was read while it had some value is still so while it has."""
        try:
            self._writer = self._open_writer(migrations)
        except BaseException:
            self._lock.release()
            raise
        self._thread = threading.Thread(target=self._serve, name="state-writer", daemon=True)
        self._thread.start()

    def read(self, sql: str, params: Sequence[object] = ()) -> list[Row]:
        """The rows of a query, as of the last commit. Any thread; each has its own connection."""
        try:
            return self._reader().execute(sql, params).fetchall()
        except sqlite3.DatabaseError as error:
            raise SystemFailure(f"{self._path}: {error}") from error

    def write(self, change: Callable[[sqlite3.Connection], T], *, durable: bool = False) -> Future[T]:
        """Have the writer call `change` inside a transaction; the future gives its result once that is committed.

        An exception of `change` undoes what it did, is given by the future, and touches no other change of the same commit.
        `change` runs in the writer's thread: it must be short and must not wait for another write.
        """
        future: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise Unavailable("the daemon is shutting down")
            self._queue.put(_Change(change, durable, future))
        return future

    def execute(self, sql: str, params: Sequence[object] = (), *, durable: bool = False) -> Future[int]:
        """`write` for a change that is one statement; the future gives how many rows it touched."""
        return self.write(lambda connection: connection.execute(sql, params).rowcount, durable=durable)

    def close(self) -> None:
        """Commit what is queued, close every connection, release the data-root. Idempotent."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        for reader in list(self._readers):
            reader.close()
        self._writer.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reader(self) -> _Connection:
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            if self._closed:
                raise Unavailable("the daemon is shutting down")
            connection = self._connect()
            connection.execute("PRAGMA query_only=ON")
            self._local.connection = connection
            self._readers.add(connection)
        return connection

    def _connect(self) -> _Connection:
        # Each connection is used by one thread only; `close` alone touches those of others, after their last use.
        return sqlite3.connect(
            self._path, timeout=_BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False, factory=_Connection
        )

    def _open_writer(self, migrations: Sequence[Migration]) -> _Connection:
        try:
            connection = self._connect()
        except sqlite3.Error as error:
            raise SystemFailure(f"cannot open {self._path}: {error}") from error
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute("PRAGMA foreign_keys=ON")
            self._migrate(connection, migrations)
            self._path.chmod(0o600)
        except sqlite3.OperationalError as error:
            connection.close()
            raise SystemFailure(f"cannot open {self._path}: {error}") from error
        except sqlite3.DatabaseError as error:
            connection.close()
            raise DataCorrupt(f"{self._path}: {error}") from error
        except CarrackError:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        newest = migrations[-1].version
        if version > newest:
            raise Unavailable(
                f"{self._path} has schema version {version}, this Carrack knows versions up to {newest}: "
                "it was written by a newer release"
            )
        for migration in migrations:
            if migration.version <= version:
                continue
            connection.execute("BEGIN IMMEDIATE")
            try:
                for statement in migration.statements:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={migration.version}")
                connection.execute("COMMIT")
            except sqlite3.Error:
                connection.execute("ROLLBACK")
                raise

    def _serve(self) -> None:
        finished = False
        while not finished:
            first = self._queue.get()
            if first is None:
                return
            batch = [first]
            while len(batch) < _BATCH:
                try:
                    change = self._queue.get_nowait()
                except queue.Empty:
                    break
                if change is None:
                    finished = True
                    break
                batch.append(change)
            self._commit(batch)

    def _commit(self, batch: list[_Change]) -> None:
        """Apply a batch as one transaction and settle its futures after the commit."""
        batch = [change for change in batch if change.future.set_running_or_notify_cancel()]
        durable = any(change.durable for change in batch)
        results: list[object] = []
        try:
            if durable:
                self._writer.execute("PRAGMA synchronous=FULL")
            self._writer.execute("BEGIN IMMEDIATE")
            results = [self._apply(change) for change in batch]
            self._writer.execute("COMMIT")
            self.commits += 1
        except sqlite3.Error as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            failure = SystemFailure(f"{self._path}: {_in_words(error)}")
            for change in batch:
                change.future.set_exception(failure)
            return
        finally:
            if durable:
                self._writer.execute("PRAGMA synchronous=NORMAL")
        for change, result in zip(batch, results, strict=True):
            if isinstance(result, _Failed):
                change.future.set_exception(result.error)
            else:
                change.future.set_result(result)

    def _apply(self, change: _Change) -> object:
        self._writer.execute("SAVEPOINT change")
        try:
            result = change.apply(self._writer)
        except Exception as error:  # the root of a foreign task: whatever it raises belongs to the one who asked
            if not self._writer.in_transaction:
                # SQLite itself rolled everything back (disk full, input/output error): the whole batch failed.
                raise sqlite3.OperationalError(str(error)) from error
            self._writer.execute("ROLLBACK TO change")
            result = _Failed(error)
        self._writer.execute("RELEASE change")
        return result


def _in_words(error: sqlite3.Error) -> str:
    """A full disk by the name that everything else has for it."""
    full = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL or str(error) == "database or disk is full"
    return os.strerror(errno.ENOSPC) if full else str(error)


class _Failed:
    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error
