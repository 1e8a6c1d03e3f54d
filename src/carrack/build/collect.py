"""How much the build cache may take, what goes when it takes more, and an account of what stays and why.

One hard ceiling. What was used longest ago goes first, but never a step that a kept one stands on (it would free nothing and cost a
rebuild), never what a running build uses, and what an image holds as well counts nothing.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from carrack.build.cache import CACHE_MOUNT, INTERNAL, BuildCache, Record
from carrack.errors import InvalidParameter
from carrack.kernel.tree_size import tree_size

KNOWN_FILTERS = (
    "until",
    "unused-for",
    "id",
    "parent",
    "parents",
    "type",
    "description",
    "inuse",
    "shared",
    "private",
    "mutable",
    "immutable",
    "label",
    "label!",
)
_PART_OF_DISK = 10
"""The default ceiling is one part in this many of the disk."""
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


@dataclass(frozen=True, slots=True)
class Pruning:
    """What `POST /build/prune` asks for. Bytes: 0 for not said."""

    all: bool = False
    keep_bytes: int = 0
    ceiling_bytes: int = 0
    free_bytes: int = 0
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Kept:
    """One record of the account."""

    record: Record
    size_bytes: int
    shared: bool
    """An image holds its layer too: pruning it frees nothing."""
    in_use: bool
    why: str


class Beside(Protocol):
    """What else a builder keeps, within bounds of its own: contexts, downloads. It counts against the one ceiling."""

    @property
    def idle_bytes(self) -> int:
        """What could be freed: its size in bytes. Blocking."""

    def prune(self) -> int:
        """Remove everything that no build uses; how many bytes that were."""


class Collector:
    """Keeps the cache under its ceiling. Blocking; one collection at a time."""

    def __init__(
        self, cache: BuildCache, ceiling_bytes: int = 0, now: Callable[[], int] = time.time_ns, beside: Sequence[Beside] = ()
    ) -> None:
        """`ceiling_bytes` 0: a tenth of the disk."""
        self._cache = cache
        self._beside = beside
        self._now = now
        self._lock = threading.Lock()
        self._measured: dict[str, tuple[int, int]] = {}
        """Directories of cache mounts: when they were used last, and what they held then."""
        self.ceiling_bytes = ceiling_bytes or shutil.disk_usage(cache.root).total // _PART_OF_DISK

    def account(self) -> list[Kept]:
        """Everything that is kept, and why, the one used longest ago first."""
        shared, held = self._cache.shared_layers(), self._cache.held
        records = self._cache.all()
        stood_on = Counter(parent for record in records for parent in record.parents)
        account = []
        for record in records:
            if record.kind.startswith(INTERNAL):
                continue
            is_shared = record.chain_id is not None and str(record.chain_id) in shared
            size_bytes = self._size(record)
            if record.key in held:
                why = "a running build uses it"
            elif is_shared:
                why = "an image holds the same layer"
            elif stood_on[record.key]:
                why = f"{stood_on[record.key]} later steps stand on it"
            else:
                why = f"used {record.uses} times, and the cache is below its ceiling"
            account.append(Kept(record, size_bytes, is_shared, record.key in held, why))
        return account

    def collect(self) -> list[Record]:
        """Bring the cache under its ceiling; what was removed."""
        if not self._lock.acquire(blocking=False):
            return []
        try:
            return self._until(self.account(), max(0, self.ceiling_bytes - sum(each.idle_bytes for each in self._beside)))[0]
        finally:
            self._lock.release()

    def prune(self, pruning: Pruning) -> tuple[list[Record], int]:
        """`docker builder prune`: what was removed, and how much that freed. Raises InvalidParameter."""
        tests = self._tests(pruning.filters)
        with self._lock:
            account = self.account()
            chosen = [kept for kept in account if (pruning.all or not kept.shared) and all(test(kept) for test in tests)]
            keep = pruning.keep_bytes
            if pruning.ceiling_bytes:
                keep = pruning.ceiling_bytes
            if pruning.free_bytes:
                lacking = pruning.free_bytes - shutil.disk_usage(self._cache.root).free
                total = sum(kept.size_bytes for kept in account if not kept.shared)
                keep = max(0, total - max(0, lacking))
            freed = 0 if keep or tests else sum(each.prune() for each in self._beside)
            removed, more = self._until(account, keep, chosen)
            if pruning.all and not keep and not tests:
                self._cache.forget_history()
            return removed, freed + more

    def _until(self, account: Sequence[Kept], keep_bytes: int, chosen: Sequence[Kept] | None = None) -> tuple[list[Record], int]:
        """Remove the leaves that were used longest ago until no more than `keep_bytes` are left."""
        left = {kept.record.key: kept for kept in account}
        may_go = {kept.record.key for kept in ([each for each in account if not each.shared] if chosen is None else chosen)}
        total = sum(kept.size_bytes for kept in account if not kept.shared)
        stood_on = Counter(parent for kept in account for parent in kept.record.parents)
        removed: list[Record] = []
        freed = 0
        while total > keep_bytes or (not keep_bytes and chosen is not None):
            leaf = next(
                (kept for key, kept in left.items() if key in may_go and not stood_on[key] and not kept.in_use),
                None,
            )
            if leaf is None:
                break
            del left[leaf.record.key]
            self._cache.remove([leaf.record])
            stood_on.subtract(leaf.record.parents)
            removed.append(leaf.record)
            if not leaf.shared:
                total -= leaf.size_bytes
                freed += leaf.size_bytes
        return removed, freed

    def _size(self, record: Record) -> int:
        if record.kind != CACHE_MOUNT or not record.directory:
            return record.size_bytes
        measured = self._measured.get(record.directory)
        if measured is None or measured[0] != record.used or record.key in self._cache.held:
            size_bytes = tree_size(self._cache.root / record.directory)
            measured = self._measured[record.directory] = (record.used, size_bytes)
        return measured[1]

    def _tests(self, filters: Mapping[str, tuple[str, ...]]) -> list[Callable[[Kept], bool]]:
        tests: list[Callable[[Kept], bool]] = []
        for name, values in filters.items():
            if name not in KNOWN_FILTERS:
                raise InvalidParameter(f"invalid filter '{name}'")
            for value in values:
                tests.append(self._test(name, value))
        return tests

    def _test(self, name: str, value: str) -> Callable[[Kept], bool]:
        match name:
            case "until" | "unused-for":
                limit = self._moment(value)
                return lambda kept: kept.record.used <= limit
            case "id":
                return lambda kept: kept.record.id.startswith(value) or kept.record.key == value
            case "parent" | "parents":
                return lambda kept: any(parent.removeprefix("sha256:").startswith(value) for parent in kept.record.parents)
            case "type":
                return lambda kept: kept.record.kind == value
            case "description":
                return lambda kept: value in kept.record.description
            case "label":  # of `system prune`, which asks every kind of object the same: no record of the cache has labels
                return lambda _kept: False
            case "label!":
                return lambda _kept: True
            case "inuse":
                return lambda kept: kept.in_use == _is_true(value)
            case "shared":
                return lambda kept: kept.shared == _is_true(value)
            case "private":
                return lambda kept: kept.shared != _is_true(value)
            case "mutable":
                return lambda kept: (kept.record.kind == CACHE_MOUNT) == _is_true(value)
            case _:
                return lambda kept: (kept.record.kind != CACHE_MOUNT) == _is_true(value)

    def _moment(self, text: str) -> int:
        """``24h`` ago, or a time (RFC 3339, or seconds of the epoch), in nanoseconds."""
        parts = _DURATION.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            return self._now() - round(sum(float(number) * _UNITS[unit] for number, unit in parts))
        try:
            if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
                return round(float(text) * 10**9)
            return round(datetime.fromisoformat(text).timestamp() * 10**9)
        except ValueError:
            raise InvalidParameter(f"invalid filter 'until={text}'") from None


def _is_true(text: str) -> bool:
    return text in ("", "1", "t", "T", "true", "True", "TRUE")
