"""Unfinished uploads of the filesystem store. All their state is on the disk, so any server may go on with any upload.

A digest that is still running is remembered in memory by the process that ran it, as a short cut only: another process reads the
file once at commit. An upload's `data` file is locked while somebody writes to it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING

from carrack.errors import SystemFailure
from carrack.oci.digest import Digest
from carrack.registry.errors import BlobUploadUnknown, DigestInvalid, UploadBusy
from carrack.registry.names import is_upload_id
from carrack.registry.storage import Buffer, UploadWriter
from carrack.registry.storage.digesting import digest_of_fd
from carrack.registry.storage.durable import make_directory, move_file
from carrack.registry.storage.tree import Tree

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

_RUNNING_LIMIT = 512
_VECTORS = 512
_WRITEBACK_BYTES = 32 << 20


class UploadFiles(Tree):
    """The uploads of `Storage`."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._running = _RunningDigests()

    def start_upload(self, repository: str) -> str:
        upload_id = str(uuid.uuid4())
        directory = self.layout.upload(repository, upload_id)
        make_directory(directory)
        with open(f"{directory}/startedat", "x", encoding="ascii") as started:
            started.write(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        os.close(os.open(f"{directory}/data", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
        return upload_id

    def upload_size(self, repository: str, upload_id: str) -> int:
        try:
            return os.stat(self._data(repository, upload_id)).st_size
        except (FileNotFoundError, NotADirectoryError):
            raise _unknown(upload_id) from None

    def open_upload(self, repository: str, upload_id: str) -> UploadWriter:
        path = self._data(repository, upload_id)
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise _unknown(upload_id) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            here = os.stat(path)
        except BlockingIOError:
            os.close(fd)
            raise UploadBusy("another request is writing to this upload", headers={"Retry-After": "1"}) from None
        except FileNotFoundError:
            os.close(fd)
            raise _unknown(upload_id) from None
        return _FileUpload(self, repository, upload_id, fd, here.st_size, self._running)

    def cancel_upload(self, repository: str, upload_id: str) -> None:
        path = self._data(repository, upload_id)
        try:
            os.unlink(path)
        except (FileNotFoundError, NotADirectoryError):
            raise _unknown(upload_id) from None
        shutil.rmtree(self.layout.upload(repository, upload_id), ignore_errors=True)

    def _data(self, repository: str, upload_id: str) -> str:
        if not is_upload_id(upload_id):
            raise _unknown(upload_id)
        return f"{self.layout.upload(repository, upload_id)}/data"


class _FileUpload:
    """`UploadWriter` on a locked file."""

    def __init__(self, tree: UploadFiles, repository: str, upload_id: str, fd: int, size: int, running: _RunningDigests) -> None:
        self.offset = size
        self._tree = tree
        self._repository = repository
        self._id = upload_id
        self._fd = fd
        self._running = running
        self._hasher = running.take(upload_id, size)
        self._synced = size

    def write(self, chunks: Sequence[Buffer]) -> None:
        try:
            for start in range(0, len(chunks), _VECTORS):
                self._write_vector(chunks[start : start + _VECTORS])
            if self.offset - self._synced >= _WRITEBACK_BYTES:
                # Dirty pages go out while the client still sends, so that commit's fsync finds little to wait for.
                os.posix_fadvise(self._fd, self._synced, self.offset - self._synced, os.POSIX_FADV_DONTNEED)
                self._synced = self.offset
        except OSError as error:
            self._hasher = None
            os.ftruncate(self._fd, self.offset)
            reason = "no space left in the registry" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
            raise SystemFailure(f"upload {self._id}: {reason}") from error

    def _write_vector(self, chunks: Sequence[Buffer]) -> None:
        if self._hasher is not None:
            for chunk in chunks:
                self._hasher.update(chunk)
        rest = [memoryview(chunk) for chunk in chunks if len(chunk)]
        total = sum(len(chunk) for chunk in rest)
        done = 0
        while rest:
            count = os.writev(self._fd, rest)
            done += count
            while rest and count >= len(rest[0]):
                count -= len(rest.pop(0))
            if rest and count:
                rest[0] = rest[0][count:]
        assert done == total
        self.offset += total

    def commit(self, digest: Digest) -> None:
        if self._digest(digest.algorithm) != digest:
            self._hasher = None
            self._tree.cancel_upload(self._repository, self._id)
            self.close()
            raise DigestInvalid("provided digest did not match uploaded content", detail={"digest": str(digest)})
        tree, layout = self._tree, self._tree.layout
        os.fsync(self._fd)
        with tree.locks.repository(self._repository, exclusive=False), tree.locks.content(digest, exclusive=False):
            directory = layout.upload(self._repository, self._id)
            try:
                # Even when the bytes are there already: these were verified just now, so a corrupt copy is healed.
                move_file(f"{directory}/data", layout.data(digest))
            except FileNotFoundError:
                raise _unknown(self._id) from None
            tree.link_stored(layout.layer(self._repository, digest), digest)
        self._hasher = None
        self.close()
        shutil.rmtree(directory, ignore_errors=True)

    def _digest(self, algorithm: str) -> Digest:
        if self._hasher is not None and algorithm == self._hasher.name:
            return Digest(algorithm, self._hasher.hexdigest())
        return digest_of_fd(self._fd, self.offset, algorithm)

    def close(self) -> None:
        if self._fd < 0:
            return
        if self._hasher is not None:
            self._running.keep(self._id, self.offset, self._hasher)
            self._hasher = None
        os.close(self._fd)
        self._fd = -1


class _RunningDigests:
    """sha256 states of uploads between two requests, the oldest forgotten."""

    def __init__(self) -> None:
        self._states: OrderedDict[str, tuple[int, Hash]] = OrderedDict()
        self._lock = Lock()

    def take(self, upload_id: str, size: int) -> Hash | None:
        """The state that covers exactly `size` bytes, if there is one. It now belongs to the caller."""
        with self._lock:
            offset, hasher = self._states.pop(upload_id, (0, None))
        if size == 0:
            return hashlib.sha256()
        return hasher if offset == size else None

    def keep(self, upload_id: str, size: int, hasher: Hash) -> None:
        with self._lock:
            self._states[upload_id] = (size, hasher)
            while len(self._states) > _RUNNING_LIMIT:
                self._states.popitem(last=False)


def _unknown(upload_id: str) -> BlobUploadUnknown:
    return BlobUploadUnknown("blob upload unknown to registry", detail={"upload": upload_id[:64]})
