"""Blobs as files: `blobs/<algorithm>/<encoded>`, each renamed there from `ingest/` when it is whole, synced and verified.

Killed at any instant, the store holds only whole blobs; what stays in `ingest/` is either a resumable writer's bytes or removed
by `recover` at the next start. The sync is the file's own (fdatasync), never the whole file system's.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Self

from carrack.content.leases import Lease, LeaseBook
from carrack.content.store import CHUNK_BYTES, Collected
from carrack.errors import Conflict, DataCorrupt, InvalidParameter, NotFound, SystemFailure
from carrack.oci.digest import Digest

_ALGORITHMS = ("sha256", "sha512")
_ANONYMOUS = "tmp-"
_RESUMABLE = "key-"


class FilesystemContent:
    """The `ContentStore` of a data-root. `blobs` and `ingest` must be on one file system."""

    def __init__(self, blobs: Path, ingest: Path, *, sync: bool = True) -> None:
        """Make the directories when they are missing. Without `sync`, a power cut may cost what was just committed."""
        self._blobs = blobs
        self._ingest = ingest
        self._sync = sync
        self._leases = LeaseBook()
        self._lock = threading.Lock()
        self._keys: set[str] = set()
        for directory in (ingest, *(blobs / algorithm for algorithm in _ALGORITHMS)):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def writer(self, lease: Lease, *, expected: Digest | None = None, key: str = "") -> FileWriter:
        if not key:
            return FileWriter(self, lease, self._ingest / f"{_ANONYMOUS}{os.urandom(8).hex()}", expected, "")
        with self._lock:
            if key in self._keys:
                raise Conflict(f"content {key} is being written already")
            self._keys.add(key)
        try:
            name = f"{_RESUMABLE}{hashlib.sha256(key.encode()).hexdigest()[:32]}"
            return FileWriter(self, lease, self._ingest / name, expected, key)
        except BaseException:
            self.release_key(key)
            raise

    def has(self, digest: Digest) -> bool:
        return self.path(digest).exists()

    def size(self, digest: Digest) -> int:
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            raise NotFound(f"blob {digest} does not exist") from None

    def open(self, digest: Digest) -> int:
        try:
            return os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise NotFound(f"blob {digest} does not exist") from None

    def read(self, digest: Digest, limit_bytes: int) -> bytes:
        fd = self.open(digest)
        with os.fdopen(fd, "rb", buffering=0) as file:
            if os.fstat(fd).st_size > limit_bytes:
                raise InvalidParameter(f"blob {digest} is larger than {limit_bytes} bytes")
            content = file.readall()
        if hashlib.new(digest.algorithm, content).hexdigest() != digest.encoded:
            raise DataCorrupt(f"blob {digest} is corrupt on disk")
        return content

    def verify(self, digest: Digest) -> None:
        with os.fdopen(self.open(digest), "rb", buffering=0) as file:
            if hashlib.file_digest(file, digest.algorithm).hexdigest() != digest.encoded:
                raise DataCorrupt(f"blob {digest} is corrupt on disk")

    def remove(self, digest: Digest) -> None:
        self.path(digest).unlink(missing_ok=True)

    def list(self) -> Iterator[Digest]:
        for algorithm in _ALGORITHMS:
            for name in os.listdir(self._blobs / algorithm):
                yield Digest(algorithm, name)

    def lease(self) -> Lease:
        return Lease(self._leases)

    def collect(self, referenced: Callable[[], Collection[Digest]], only: Collection[Digest] | None = None) -> Collected:
        removed: list[Digest] = []
        size_bytes = 0
        with self._leases.collecting() as leased:
            candidates = list(self.list() if only is None else only)
            kept = referenced()
            for digest in candidates:
                if digest in kept:
                    continue
                with self._leases.holding():
                    if digest in leased:
                        continue
                    try:
                        size = self.size(digest)
                    except NotFound:
                        continue
                    self.remove(digest)
                size_bytes += size
                removed.append(digest)
        return Collected(tuple(removed), size_bytes)

    def recover(self, resumable_seconds: float = 7 * 86400) -> None:
        for path in self._ingest.iterdir():
            young = path.stat().st_mtime > time.time() - resumable_seconds
            if not (path.name.startswith(_RESUMABLE) and young):
                path.unlink()

    def path(self, digest: Digest) -> Path:
        """Where a blob is, or would be."""
        return self._blobs / digest.algorithm / digest.encoded

    def release_key(self, key: str) -> None:
        """Let a resumable writer's key go; the writer does this itself."""
        with self._lock:
            self._keys.discard(key)

    def accept(self, file: Path, fd: int, digest: Digest) -> None:
        """Take a whole and verified file in; the writer does this itself."""
        try:
            present = self.size(digest)
        except NotFound:
            present = -1
        if present == os.fstat(fd).st_size:
            file.unlink()
            return
        # Not there, or cut short by a power failure: then the new one takes its place.
        if self._sync:
            os.fdatasync(fd)
        file.rename(self.path(digest))


class FileWriter:
    """See `content.store.Writer`."""

    def __init__(self, store: FilesystemContent, lease: Lease, path: Path, expected: Digest | None, key: str) -> None:
        self._store = store
        self._lease = lease
        self._path = path
        self._expected = expected
        self._key = key
        self._hash = hashlib.new(expected.algorithm if expected else "sha256")
        self._offset = 0
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._fd = os.open(path, flags | (0 if key else os.O_EXCL), 0o600)
        except OSError as error:
            raise SystemFailure(f"cannot write {path}: {error.strerror}") from error
        if key:
            self._resume()

    @property
    def offset(self) -> int:
        return self._offset

    def write(self, content: bytes | memoryview) -> None:
        self._hash.update(content)
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            self._path.unlink(missing_ok=True)  # one to go on with later, too: on a full disk it would only be in the way
            raise SystemFailure(f"cannot write {self._path}: {error.strerror}") from error
        self._offset += len(content)

    def restart(self) -> None:
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = hashlib.new(self._hash.name)
        self._offset = 0

    def commit(self, expected: Digest | None = None, size_bytes: int | None = None) -> Digest:
        expected = expected or self._expected
        digest = Digest(self._hash.name, self._hash.hexdigest())
        wrong = None
        if size_bytes is not None and size_bytes != self._offset:
            wrong = f"content has {self._offset} bytes, not the {size_bytes} that were promised"
        elif expected is not None and expected != digest:
            wrong = f"content is {digest}, not {expected}"
        if wrong is not None:
            self._path.unlink(missing_ok=True)
            self.close()
            raise DataCorrupt(wrong)
        self._lease.add(digest)
        try:
            self._store.accept(self._path, self._fd, digest)
        except OSError as error:
            raise SystemFailure(f"cannot keep blob {digest}: {error.strerror}") from error
        self._shut()
        return digest

    def close(self) -> None:
        if self._fd >= 0:
            if not self._key:
                self._path.unlink(missing_ok=True)
            self._shut()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _resume(self) -> None:
        """Hash what an earlier writer left; go on behind it."""
        while chunk := os.read(self._fd, CHUNK_BYTES):
            self._hash.update(chunk)
            self._offset += len(chunk)

    def _shut(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            if self._key:
                self._store.release_key(self._key)
