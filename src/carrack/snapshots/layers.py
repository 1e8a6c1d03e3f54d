"""Layers as directories: what the drivers share. `layers/<short>/diff` on disk, the `layers` and `snapshots` tables in state.db.

Names are short (twelve letters) because an overlay mount of a hundred layers must name each of them.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path

from carrack.errors import CarrackError, Conflict, NotFound, SystemFailure
from carrack.kernel.placement import spread_children
from carrack.kernel.tree_size import tree_size
from carrack.oci.digest import Digest, chain_id
from carrack.snapshots.snapshotter import Layer
from carrack.snapshots.trash import Trash
from carrack.state import Database, Row

_STAGING = "new-"
_DIFF = "diff"
_RESERVE = 20
"""One part in this many of the file system stays free."""
RW = "rw"
WORK = "work"


class LayerStore:
    """All of `Snapshotter` but `prepare` and `mounts`: the layers of a data-root, and the records of the snapshots on them."""

    def __init__(self, layers_root: Path, containers_root: Path, database: Database, trash: Trash) -> None:
        self._root = layers_root
        self._containers = containers_root
        self._database = database
        self._trash = trash
        for root in (layers_root, containers_root):
            root.mkdir(mode=0o710, parents=True, exist_ok=True)
            spread_children(root)

    def has(self, chain_id: Digest) -> bool:
        return bool(self._database.read("SELECT 1 FROM layers WHERE chain_id = ?", (str(chain_id),)))

    def get(self, chain_id: Digest) -> Layer:
        rows = self._database.read(f"SELECT {_COLUMNS} FROM layers WHERE chain_id = ?", (str(chain_id),))  # noqa: S608  # ours
        if not rows:
            raise NotFound(f"layer {chain_id} does not exist")
        return _layer(rows[0])

    def chain(self, chain_id: Digest | None) -> tuple[Layer, ...]:
        if chain_id is None:
            return ()
        rows = self._database.read(_CHAIN, (str(chain_id),))
        if not rows:
            raise NotFound(f"layer {chain_id} does not exist")
        return tuple(_layer(row) for row in rows)

    def directory(self, layer: Layer) -> Path:
        return self._root / layer.short / _DIFF

    def directories(self, chain_id: Digest | None) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(self.directory(layer) for layer in self.chain(chain_id)))

    def stage(self) -> Path:
        staging = self._root / f"{_STAGING}{os.urandom(6).hex()}" / _DIFF
        try:
            staging.parent.mkdir(mode=0o700)
            staging.mkdir(mode=0o755)
        except OSError as error:
            raise SystemFailure(f"cannot make {staging}: {error.strerror}") from error
        return staging

    def abandon(self, staging: Path) -> None:
        self._trash.throw(staging.parent)

    def commit_layer(self, parent: Digest | None, diff_id: Digest, unpacked: Path, size_bytes: int) -> Layer:
        if parent is not None:
            self.get(parent)
        chain = _stacked(parent, diff_id)
        layer = Layer(chain, diff_id, parent, unpacked.parent.name.removeprefix(_STAGING), size_bytes)
        home = self._root / layer.short
        unpacked.parent.rename(home)
        row = (str(chain), layer.short, str(parent) if parent else None, str(diff_id), size_bytes, int(time.time()))
        try:
            self._database.execute("INSERT INTO layers VALUES (?, ?, ?, ?, ?, ?, NULL)", row).result()
        except sqlite3.IntegrityError as error:
            self._trash.throw(home)
            if not self.has(chain):
                raise NotFound(f"layer {parent} does not exist") from error
            return self.get(chain)
        except CarrackError:
            self._trash.throw(home)  # no record names it
            raise
        return layer

    def restack(self, parent: Digest | None, layer: Digest) -> Layer:
        chain = _stacked(parent, self.get(layer).diff_id)
        if self.has(chain):
            return self.get(chain)
        row = (str(chain), os.urandom(6).hex(), str(parent) if parent else None, int(time.time()), str(layer))
        try:
            self._database.execute(_RESTACK, row).result()
        except sqlite3.IntegrityError as error:
            if not self.has(chain):
                raise NotFound(f"layer {parent} does not exist") from error
        return self.get(chain)

    def release_layers(self, connection: sqlite3.Connection, chain_id: Digest) -> tuple[Layer, ...]:
        released: list[Layer] = []
        current: Digest | None = chain_id
        while current is not None:
            row = connection.execute(f"SELECT {_COLUMNS} FROM layers WHERE chain_id = ?", (str(current),)).fetchone()  # noqa: S608  # ours
            if row is None or connection.execute(_USED, {"chain": str(current)}).fetchone() is not None:
                break
            connection.execute("DELETE FROM layers WHERE chain_id = ?", (str(current),))
            layer = _layer(row)
            if (
                connection.execute("SELECT 1 FROM layers WHERE short = ? OR home = ?", (layer.short, layer.short)).fetchone()
                is None
            ):
                released.append(layer)
            current = layer.parent
        return tuple(released)

    def idle(self) -> list[Digest]:
        return [Digest.parse(row[0]) for row in self._database.read(_IDLE)]

    def discard(self, layers: Iterable[Layer]) -> None:
        for layer in layers:
            self._trash.throw(self._root / layer.short)

    def parent(self, key: str) -> Digest | None:
        rows = self._database.read("SELECT parent FROM snapshots WHERE key = ?", (key,))
        if not rows:
            raise NotFound(f"snapshot {key} does not exist")
        return Digest.parse(rows[0][0]) if rows[0][0] else None

    def home(self, key: str) -> Path:
        """The directory of a snapshot's container."""
        return self._containers / key

    def record(self, key: str, parent: Digest | None) -> None:
        """Write down a snapshot whose directories are there. Raises Conflict, NotFound when the parent has gone."""
        row = (key, str(parent) if parent else None, int(time.time()))
        try:
            self._database.execute("INSERT INTO snapshots VALUES (?, ?, ?)", row).result()
        except sqlite3.IntegrityError as error:
            if self._database.read("SELECT 1 FROM snapshots WHERE key = ?", (key,)):
                raise Conflict(f"snapshot {key} already exists") from error
            raise NotFound(f"layer {parent} does not exist") from error

    def take(self, key: str) -> Path:
        self.parent(key)
        staging = self._root / f"{_STAGING}{os.urandom(6).hex()}" / _DIFF
        try:
            staging.parent.mkdir(mode=0o700)
            (self.home(key) / RW).rename(staging)
        except OSError as error:
            raise SystemFailure(f"cannot take what snapshot {key} holds: {error.strerror}") from error
        self.remove(key)
        return staging

    def remove(self, key: str) -> None:
        self._database.execute("DELETE FROM snapshots WHERE key = ?", (key,)).result()
        self.throw_away(key)

    def throw_away(self, key: str) -> None:
        """Let a snapshot's directories go. Idempotent."""
        for name in (RW, WORK):
            self._trash.throw(self._containers / key / name)

    def changes(self, key: str) -> Path:
        self.parent(key)
        return self.home(key) / RW

    def usage_bytes(self, key: str) -> int:
        self.parent(key)
        return tree_size(self._containers / key / RW)

    def free_bytes(self) -> int:
        space = os.statvfs(self._root)
        free = (space.f_bavail - space.f_blocks // _RESERVE) * space.f_frsize
        if free <= 0:
            raise SystemFailure(f"No space left on device: less than a twentieth of the disk below {self._root} is free")
        return free

    def garbage(self) -> list[Path]:
        known = {row[0] for row in self._database.read("SELECT coalesce(home, short) FROM layers")}
        keys = {row[0] for row in self._database.read("SELECT key FROM snapshots")}
        found = [self._root / name for name in os.listdir(self._root) if name not in known]
        for key in os.listdir(self._containers):
            if key not in keys:
                found += [path for name in (RW, WORK) if (path := self._containers / key / name).is_dir()]
        return sorted(found)

    def throw(self, garbage: Path) -> None:
        self._trash.throw(garbage)

    def missing(self) -> list[Path]:
        homes = [self._root / row[0] / _DIFF for row in self._database.read("SELECT DISTINCT coalesce(home, short) FROM layers")]
        homes += [self._containers / row[0] / RW for row in self._database.read("SELECT key FROM snapshots")]
        return sorted(path for path in homes if not path.is_dir())


_COLUMNS = "chain_id, diff_id, parent, coalesce(home, short), size_bytes"
_RESTACK = """INSERT INTO layers (chain_id, short, parent, created, diff_id, size_bytes, home)
    SELECT ?, ?, ?, ?, diff_id, size_bytes, coalesce(home, short) FROM layers WHERE chain_id = ?"""
_CHAIN = """WITH RECURSIVE stack (chain_id, diff_id, parent, short, size_bytes, depth) AS (
        SELECT chain_id, diff_id, parent, coalesce(home, short), size_bytes, 0 FROM layers WHERE chain_id = ?
        UNION ALL
        SELECT l.chain_id, l.diff_id, l.parent, coalesce(l.home, l.short), l.size_bytes, depth + 1
            FROM layers l JOIN stack s ON l.chain_id = s.parent
    ) SELECT chain_id, diff_id, parent, short, size_bytes FROM stack ORDER BY depth"""
_USED = """SELECT 1 FROM layers WHERE parent = :chain
    UNION ALL SELECT 1 FROM snapshots WHERE parent = :chain
    UNION ALL SELECT 1 FROM build_records WHERE chain_id = :chain
    UNION ALL SELECT 1 FROM images WHERE chain_id = :chain LIMIT 1"""

_IDLE = """SELECT chain_id FROM layers l
    WHERE NOT EXISTS (SELECT 1 FROM layers WHERE parent = l.chain_id)
    AND NOT EXISTS (SELECT 1 FROM snapshots WHERE parent = l.chain_id)
    AND NOT EXISTS (SELECT 1 FROM build_records WHERE chain_id = l.chain_id)
    AND NOT EXISTS (SELECT 1 FROM images WHERE chain_id = l.chain_id)"""


def _layer(row: Row) -> Layer:
    chain, diff_id, parent, short, size_bytes = row
    return Layer(Digest.parse(chain), Digest.parse(diff_id), Digest.parse(parent) if parent else None, short, size_bytes)


def _stacked(parent: Digest | None, diff_id: Digest) -> Digest:
    stack = chain_id((diff_id,) if parent is None else (parent, diff_id))
    assert stack is not None
    return stack
