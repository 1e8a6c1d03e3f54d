"""Which blobs are being used by work whose records are not written yet."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Self

from carrack.oci.digest import Digest


class Lease:
    """Protects blobs from collection until it ends. Use as a context manager; `add` from any thread."""

    def __init__(self, book: LeaseBook) -> None:
        self._book = book
        self._digests: set[Digest] = set()

    def add(self, digest: Digest) -> None:
        """Protect a blob, there already or still to come."""
        self._book.add(self._digests, digest)

    @property
    def digests(self) -> frozenset[Digest]:
        """What is protected so far."""
        return frozenset(self._digests)

    def end(self) -> None:
        """Protect no longer. Idempotent."""
        self._book.end(self._digests)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class LeaseBook:
    """All leases of a store, and the rule that makes a collection safe beside them.

    A lease may begin and end, its record written, between a collector's reading of the records and its removal of a blob. So
    whatever was leased at any time since the collector began is left to the next collection.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count: Counter[Digest] = Counter()
        self._collectors: list[set[Digest]] = []

    def add(self, held: set[Digest], digest: Digest) -> None:
        """Protect a blob by the lease that has `held`."""
        with self._lock:
            if digest in held:
                return
            held.add(digest)
            self._count[digest] += 1
            for seen in self._collectors:
                seen.add(digest)

    def end(self, held: set[Digest]) -> None:
        """Let go of everything that a lease held. Idempotent."""
        with self._lock:
            self._count.subtract(held)
            self._count = +self._count
            held.clear()

    @contextmanager
    def collecting(self) -> Iterator[Collection[Digest]]:
        """For the time of a collection: the digests that are or were leased since it began (the set grows meanwhile)."""
        with self._lock:
            seen = set(self._count)
            self._collectors.append(seen)
        try:
            yield seen
        finally:
            with self._lock:
                self._collectors = [other for other in self._collectors if other is not seen]

    def holding(self) -> threading.Lock:
        """Held while a blob is removed after it was found to be unprotected: no lease can begin in between."""
        return self._lock
