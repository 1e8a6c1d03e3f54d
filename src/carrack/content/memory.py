"""Blobs in memory: the double that keeps the same promises, for tests of what uses a content store."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Collection, Iterator
from typing import Self

from carrack.content.leases import Lease, LeaseBook
from carrack.content.store import Collected
from carrack.errors import Conflict, DataCorrupt, InvalidParameter, NotFound
from carrack.oci.digest import Digest


class MemoryContent:
    """A `ContentStore` that forgets everything with its process."""

    def __init__(self) -> None:
        self._leases = LeaseBook()
        self._lock = threading.Lock()
        self._blobs: dict[Digest, bytes] = {}
        self._partial: dict[str, bytearray] = {}
        self._keys: set[str] = set()

    def writer(self, lease: Lease, *, expected: Digest | None = None, key: str = "") -> MemoryWriter:
        with self._lock:
            if key and key in self._keys:
                raise Conflict(f"content {key} is being written already")
            if key:
                self._keys.add(key)
            return MemoryWriter(self, lease, self._partial.setdefault(key, bytearray()) if key else bytearray(), expected, key)

    def has(self, digest: Digest) -> bool:
        return digest in self._blobs

    def size(self, digest: Digest) -> int:
        return len(self._get(digest))

    def open(self, digest: Digest) -> int:
        fd = os.memfd_create(digest.short, os.MFD_CLOEXEC)
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(self._get(digest))
        os.lseek(fd, 0, os.SEEK_SET)
        return fd

    def read(self, digest: Digest, limit_bytes: int) -> bytes:
        content = self._get(digest)
        if len(content) > limit_bytes:
            raise InvalidParameter(f"blob {digest} is larger than {limit_bytes} bytes")
        self.verify(digest)
        return content

    def verify(self, digest: Digest) -> None:
        if hashlib.new(digest.algorithm, self._get(digest)).hexdigest() != digest.encoded:
            raise DataCorrupt(f"blob {digest} is corrupt")

    def remove(self, digest: Digest) -> None:
        self._blobs.pop(digest, None)

    def list(self) -> Iterator[Digest]:
        yield from list(self._blobs)

    def lease(self) -> Lease:
        return Lease(self._leases)

    def recover(self, resumable_seconds: float = 7 * 86400) -> None:
        """Nothing outlives the process."""

    def collect(self, referenced: Callable[[], Collection[Digest]], only: Collection[Digest] | None = None) -> Collected:
        removed: list[Digest] = []
        size_bytes = 0
        with self._leases.collecting() as leased:
            candidates = list(self.list() if only is None else only)
            kept = referenced()
            for digest in candidates:
                with self._leases.holding():
                    if digest in kept or digest in leased or digest not in self._blobs:
                        continue
                    size_bytes += len(self._blobs.pop(digest))
                removed.append(digest)
        return Collected(tuple(removed), size_bytes)

    def accept(self, digest: Digest, content: bytes, key: str) -> None:
        """Take a whole blob in; the writer does this itself."""
        with self._lock:
            self._blobs.setdefault(digest, content)
            self._partial.pop(key, None)

    def release(self, key: str, *, forget: bool) -> None:
        """Let a writer's key go, and perhaps its bytes; the writer does this itself."""
        with self._lock:
            self._keys.discard(key)
            if forget:
                self._partial.pop(key, None)

    def _get(self, digest: Digest) -> bytes:
        try:
            return self._blobs[digest]
        except KeyError:
            raise NotFound(f"blob {digest} does not exist") from None


class MemoryWriter:
    """See `content.store.Writer`."""

    def __init__(self, store: MemoryContent, lease: Lease, content: bytearray, expected: Digest | None, key: str) -> None:
        self._store = store
        self._lease = lease
        self._content = content
        self._expected = expected
        self._key = key
        self._open = True

    @property
    def offset(self) -> int:
        return len(self._content)

    def write(self, content: bytes | memoryview) -> None:
        self._content += content

    def restart(self) -> None:
        self._content.clear()

    def commit(self, expected: Digest | None = None, size_bytes: int | None = None) -> Digest:
        expected = expected or self._expected
        algorithm = expected.algorithm if expected else "sha256"
        digest = Digest(algorithm, hashlib.new(algorithm, self._content).hexdigest())
        wrong = None
        if size_bytes is not None and size_bytes != self.offset:
            wrong = f"content has {self.offset} bytes, not the {size_bytes} that were promised"
        elif expected is not None and expected != digest:
            wrong = f"content is {digest}, not {expected}"
        if wrong is not None:
            self._end(forget=True)
            raise DataCorrupt(wrong)
        self._lease.add(digest)
        self._store.accept(digest, bytes(self._content), self._key)
        self._end(forget=True)
        return digest

    def close(self) -> None:
        self._end(forget=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end(self, *, forget: bool) -> None:
        if self._open:
            self._open = False
            self._store.release(self._key, forget=forget)
