"""What earlier steps made: records in state.db, found by key, gone with a prune, and alive over restarts.

A record is written after the layer or directory that it names is on disk, and holds that layer as an image does. A running build
holds what it has found or made: nothing of it is removed under it. `directory` names a folder below `root` (a cache mount, a
fetched source).
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from carrack.build.cache_key import Key, Part, difference
from carrack.errors import NotFound
from carrack.kernel.placement import spread_children
from carrack.oci.descriptor import Descriptor
from carrack.oci.digest import Digest
from carrack.snapshots import Snapshotter
from carrack.state import Database, Row

REGULAR, SOURCE_HTTP, SOURCE_GIT, CACHE_MOUNT, INTERNAL = (
    "regular",
    "source.http",
    "source.git.checkout",
    "exec.cachemount",
    "internal",
)
"""The kinds of records, in the words of `docker buildx du`."""
HISTORY = f"{INTERNAL}.history"
"""Records that hold a time and nothing else: when a line of history was first written."""


class _Document(msgspec.Struct, omit_defaults=True):
    parts: list[Part] = []
    parents: list[str] = []
    note: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Record:
    """One record. Times in nanoseconds of the epoch."""

    key: str
    kind: str
    chain_id: Digest | None
    directory: str
    place: str
    description: str
    size_bytes: int
    created: int
    used: int
    uses: int
    parts: tuple[Part, ...]
    parents: tuple[str, ...] = ()
    """The keys of the records that it stands on, or has taken files from."""
    note: dict[str, str] | None = None

    @property
    def id(self) -> str:
        """A short name for lists."""
        return self.key.removeprefix("sha256:")[:25]


class BuildCache:
    """The records of a data-root. Every method may be called from any thread."""

    def __init__(self, database: Database, snapshots: Snapshotter, root: Path, throw: Callable[[Path], None]) -> None:
        self._database = database
        self._snapshots = snapshots
        self.root = root
        self._throw = throw
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        spread_children(root)

    # ── find and keep ────────────────────────────────────────────────────────────────────────────────────────────────

    def find(self, key: str) -> Record | None:
        """The record of a key, marked as used now."""
        rows = self._database.read(f"{_SELECT} WHERE key = ?", (key,))
        if not rows:
            return None
        found = _record(rows[0])
        if found.directory and not (self.root / found.directory).is_dir():
            return None
        self._database.execute("UPDATE build_records SET used = ?, uses = uses + 1 WHERE key = ?", (time.time_ns(), key))
        return found

    def put(
        self,
        key: Key,
        *,
        kind: str = REGULAR,
        chain_id: Digest | None = None,
        directory: str = "",
        place: str = "",
        description: str = "",
        size_bytes: int = 0,
        parents: Sequence[str] = (),
        created: int = 0,
        note: dict[str, str] | None = None,
    ) -> Record:
        """Write a record, in place of one of that key. Raises NotFound when its layer has gone meanwhile."""
        now = time.time_ns()
        document = msgspec.json.encode(_Document(list(key.parts), list(parents), note or {}))
        row = (
            key.digest, kind, str(chain_id) if chain_id else None, directory or None, place, description, size_bytes,
            created or now, now, 1, document,
        )  # fmt: skip

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM build_records WHERE key = ?", (key.digest,))
            connection.execute("INSERT INTO build_records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

        before = self._database.read("SELECT chain_id, directory FROM build_records WHERE key = ?", (key.digest,))
        try:
            self._database.write(write).result()
        except sqlite3.IntegrityError as error:
            raise NotFound(f"layer {chain_id} does not exist") from error
        for old_chain, old_directory in before:
            self._let_go(old_chain if old_chain != row[2] else None, old_directory if old_directory != directory else None)
        return Record(
            key.digest,
            kind,
            chain_id,
            directory,
            place,
            description,
            size_bytes,
            created or now,
            now,
            1,
            key.parts,
            tuple(parents),
            note,
        )

    def hold(self, keys: Iterable[str]) -> None:
        """Keep these records whatever a prune wants, until as many `free`."""
        with self._lock:
            self._held.update(keys)

    def free(self, keys: Iterable[str]) -> None:
        """Give back what `hold` held."""
        with self._lock:
            self._held.subtract(keys)
            self._held = +self._held

    @property
    def held(self) -> frozenset[str]:
        """The records that running builds use."""
        with self._lock:
            return frozenset(self._held)

    def new_directory(self) -> str:
        """The name of a new empty folder below `root`; a record comes to name it, or it is garbage."""
        name = os.urandom(12).hex()
        (self.root / name).mkdir(mode=0o755)
        return name

    def abandon(self, directory: str) -> None:
        """Throw away a folder that no record came to name."""
        self._throw(self.root / directory)

    # ── what is known of layers ──────────────────────────────────────────────────────────────────────────────────────

    def sum_of(self, chain_id: Digest, selection: str) -> str | None:
        """The remembered digest of what a selection reads of a stack."""
        rows = self._database.read("SELECT digest FROM build_sums WHERE chain_id = ? AND selection = ?", (str(chain_id), selection))
        return rows[0][0] if rows else None

    def sums_of(self, chain_id: Digest) -> list[tuple[str, str]]:
        """All remembered digests of a stack: selection and digest."""
        return self._database.read("SELECT selection, digest FROM build_sums WHERE chain_id = ?", (str(chain_id),))

    def remember_sum(self, chain_id: Digest, selection: str, digest: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO build_sums VALUES (?, ?, ?)", (str(chain_id), selection, digest))

    def blob_of(self, diff_id: Digest, compression: str) -> Descriptor | None:
        """The blob that a layer was packed into last; whether it is still there is the caller's question."""
        rows = self._database.read(
            "SELECT descriptor FROM build_blobs WHERE diff_id = ? AND compression = ?", (str(diff_id), compression)
        )
        return msgspec.json.decode(rows[0][0], type=Descriptor) if rows else None

    def remember_blob(self, diff_id: Digest, compression: str, descriptor: Descriptor) -> None:
        """Note the compressed form of a layer, so that the next export need not compress it again. Durable soon, not at once."""
        self._database.execute(
            "INSERT OR REPLACE INTO build_blobs VALUES (?, ?, ?)", (str(diff_id), compression, msgspec.json.encode(descriptor))
        )

    # ── lists ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def all(self) -> list[Record]:
        """Every record, the one used longest ago first; uses that are still on their way to the disk count."""
        self._database.write(lambda connection: None).result()
        return [_record(row) for row in self._database.read(f"{_SELECT} ORDER BY used, key")]

    def last_at(self, place: str) -> Record | None:
        """The record that a step at this place used last."""
        rows = self._database.read(f"{_SELECT} WHERE place = ? ORDER BY used DESC LIMIT 1", (place,))
        return _record(rows[0]) if rows else None

    def explain(self, key: Key, place: str) -> str:
        """Why there is no record of a key: the first part that differs from what stood at this place last."""
        last = self.last_at(place)
        if last is None:
            return "nothing was ever built at this place of the Dockerfile, or it was pruned"
        return difference(last.parts, key.parts)

    def shared_layers(self) -> set[str]:
        """The layers of records that images hold as well: pruning them frees nothing."""
        rows = self._database.read(
            """WITH RECURSIVE used (chain_id) AS (
                   SELECT chain_id FROM images WHERE chain_id IS NOT NULL
                   UNION SELECT l.parent FROM layers l JOIN used u ON l.chain_id = u.chain_id WHERE l.parent IS NOT NULL
               ) SELECT chain_id FROM used"""
        )
        return {row[0] for row in rows}

    # ── removal ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def remove(self, records: Sequence[Record]) -> None:
        """Take records away, with the layers and folders that nothing else holds. Those that builds hold stay."""
        held = self.held
        for record in records:
            if record.key in held:
                continue
            self._database.execute("DELETE FROM build_records WHERE key = ?", (record.key,)).result()
            self._let_go(str(record.chain_id) if record.chain_id else None, record.directory or None)

    def forget_history(self) -> None:
        """Take away the records that hold a time and nothing else."""
        self._database.execute("DELETE FROM build_records WHERE kind = ?", (HISTORY,)).result()

    def recover(self) -> None:
        """At start: records of builds that were killed, sums of layers that have gone, folders that no record names."""
        for record in self.all():
            if record.kind == INTERNAL:
                self.remove([record])
        self._database.execute("DELETE FROM build_sums WHERE chain_id NOT IN (SELECT chain_id FROM layers)").result()
        known = {row[0] for row in self._database.read("SELECT directory FROM build_records WHERE directory IS NOT NULL")}
        for name in os.listdir(self.root):
            if name not in known:
                self._throw(self.root / name)

    def _let_go(self, chain_id: str | None, directory: str | None) -> None:
        if chain_id:
            chain = Digest.parse(chain_id)
            released = self._database.write(lambda connection: self._snapshots.release_layers(connection, chain)).result()
            self._snapshots.discard(released)
        if directory:
            self._throw(self.root / directory)


_SELECT = """SELECT key, kind, chain_id, directory, place, description, size_bytes, created, used, uses, document
    FROM build_records"""
_decode = msgspec.json.Decoder(_Document).decode


def _record(row: Row) -> Record:
    document = _decode(row[10])
    chain = Digest.parse(row[2]) if row[2] else None
    return Record(
        row[0], row[1], chain, row[3] or "", row[4], row[5], row[6], row[7], row[8], row[9], tuple(document.parts),
        tuple(document.parents), document.note,
    )  # fmt: skip
