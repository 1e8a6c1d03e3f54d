"""Nothing corrupt is served as good, and nobody waits for that: a blob's first reader in a process makes it read whole.

The bytes are held against their digest in a thread while they already leave by sendfile; the last of them waits for the verdict.
Small blobs are judged before the answer begins. A verdict lasts as long as the file is the same by inode, size and modification
time; `scrub` finds what changes below the file system. A blob found corrupt is put aside, so that a push can heal it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from carrack.errors import Cancelled
from carrack.oci.digest import Digest
from carrack.registry.errors import BlobCorrupt, BlobUnknown
from carrack.registry.storage import OpenBlob, Storage
from carrack.registry.storage.digesting import digest_of_fd

log = logging.getLogger("carrack.registry")

_FIRST_BYTES = 1 << 20
"""Blobs up to this size are judged first, a matter of a millisecond."""
_REMEMBERED_LIMIT = 65_536
_Fingerprint = tuple[int, int, int]


class Verifier:
    """What this process knows of stored bytes."""

    def __init__(self, storage: Storage, corrupt_found: Callable[[], None]) -> None:
        self._storage = storage
        self._corrupt_found = corrupt_found
        self._good: OrderedDict[Digest, _Fingerprint] = OrderedDict()
        self._running: dict[tuple[Digest, _Fingerprint], asyncio.Future[bool]] = {}
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="verify")

    def knows(self, digest: Digest, blob: OpenBlob) -> bool:
        """Whether these very bytes were found good before."""
        return self._good.get(digest) == _fingerprint(blob.fd)

    def learn(self, digest: Digest) -> None:
        """Bytes just written and hashed on their way in are good."""
        try:
            blob = self._storage.open_stored(digest)
        except BlobUnknown:
            return
        try:
            self._remember(digest, _fingerprint(blob.fd))
        finally:
            os.close(blob.fd)

    async def before_last(self, digest: Digest, blob: OpenBlob) -> Callable[[], Awaitable[None]] | None:
        """What must be awaited before the last byte of the blob may leave; None when there is nothing to wait for.

        Raises BlobCorrupt when that is known at once; later the verdict is Cancelled, which cuts the connection.
        """
        if self.knows(digest, blob):
            return None
        verdict = self._judge(digest, blob)
        if blob.size_bytes <= _FIRST_BYTES:
            if not await verdict:
                raise BlobCorrupt(f"blob {digest} is corrupt in the registry")
            return None

        async def wait() -> None:
            if not await verdict:
                raise Cancelled(f"blob {digest} is corrupt in the registry")

        return wait

    def _judge(self, digest: Digest, blob: OpenBlob) -> asyncio.Future[bool]:
        """One reading for all who ask meanwhile."""
        key = digest, _fingerprint(blob.fd)
        running = self._running.get(key)
        if running is None:
            fd = os.dup(blob.fd)
            running = asyncio.get_running_loop().run_in_executor(self._threads, self._read, digest, fd, blob.size_bytes)
            self._running[key] = running
            running.add_done_callback(lambda done: self._judged(key, done))
        return asyncio.shield(running)

    def _read(self, digest: Digest, fd: int, size: int) -> bool:
        try:
            return digest_of_fd(fd, size, digest.algorithm) == digest
        except OSError as error:
            log.error("blob %s cannot be read: %s", digest, error.strerror)
            return False
        finally:
            os.close(fd)

    def _judged(self, key: tuple[Digest, _Fingerprint], done: asyncio.Future[bool]) -> None:
        digest, fingerprint = key
        del self._running[key]
        if done.cancelled() or done.exception() is not None:
            return
        if done.result():
            self._remember(digest, fingerprint)
            return
        log.error("blob %s is corrupt: put aside", digest)
        self._corrupt_found()
        asyncio.get_running_loop().run_in_executor(self._threads, self._put_aside, digest, fingerprint)

    def _put_aside(self, digest: Digest, fingerprint: _Fingerprint) -> None:
        try:
            blob = self._storage.open_stored(digest)
        except BlobUnknown:
            return
        try:
            is_same = _fingerprint(blob.fd) == fingerprint
        finally:
            os.close(blob.fd)
        if is_same:  # else a push has healed it meanwhile
            self._storage.quarantine(digest)

    def _remember(self, digest: Digest, fingerprint: _Fingerprint) -> None:
        self._good[digest] = fingerprint
        self._good.move_to_end(digest)
        while len(self._good) > _REMEMBERED_LIMIT:
            self._good.popitem(last=False)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _fingerprint(fd: int) -> _Fingerprint:
    state = os.fstat(fd)
    return state.st_ino, state.st_size, state.st_mtime_ns
