"""From blobs to layers: several at once, each verified, and never the same one twice at the same time."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from carrack.archive.layer import UnpackReport
from carrack.content import ContentStore
from carrack.errors import DataCorrupt, InvalidParameter, NotFound
from carrack.oci.digest import Digest, chain_id
from carrack.snapshots import Layer, Snapshotter

DEPTH_LIMIT = 490
"""OVL_MAX_STACK of the kernel, less what an engine puts below an image's layers."""
_ATTEMPTS = 5


def check_depth(diff_ids: Sequence[Digest]) -> None:
    """Refuse a stack that overlayfs could not mount, before anything is fetched for it."""
    if len(diff_ids) > DEPTH_LIMIT:
        raise InvalidParameter(f"max depth exceeded: {len(diff_ids)} layers, at most {DEPTH_LIMIT} can be mounted")


class LayerUnpacker(Protocol):
    """Whoever unpacks a layer in confinement."""

    def unpack(self, source_fd: int, target_fd: int, limit_bytes: int) -> UnpackReport:
        """Extract a compressed layer into an empty directory. Blocks. Raises InvalidParameter, DataCorrupt, SystemFailure."""


class LayerBuilder:
    """Makes sure that stacks of layers are there."""

    def __init__(self, content: ContentStore, snapshots: Snapshotter, unpacker: LayerUnpacker, *, workers: int = 3) -> None:
        self._content = content
        self._snapshots = snapshots
        self._unpacker = unpacker
        self._workers = workers
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._running: dict[Digest, Future[Layer]] = {}

    def ensure(self, diff_ids: Sequence[Digest], blobs: Sequence[Digest], made: list[Digest]) -> None:
        """Have every layer of a stack committed; adds to `made` the chain ids of those that were not there, lowest first.

        When one fails the others of the stack are finished or given up before this raises: InvalidParameter, DataCorrupt,
        SystemFailure. The caller gives back what is in `made` and does not come to be recorded.
        """
        check_depth(diff_ids)
        for attempt in range(_ATTEMPTS):
            try:
                self._ensure(diff_ids, blobs, made)
                return
            except NotFound:
                # A lower layer was removed, with the last image that used it, between our look and our use.
                if attempt == _ATTEMPTS - 1:
                    raise

    def unpack(self, blob: Digest) -> tuple[Path, UnpackReport]:
        """Unpack one layer whose diff_id is not known yet, into a staging directory that is then the caller's."""
        staging = self._snapshots.stage()
        try:
            return staging, self._unpack_into(staging, blob)
        except BaseException:
            self._snapshots.abandon(staging)
            raise

    def start(self, diff_ids: Sequence[Digest], position: int, blob: Digest) -> Future[Layer]:
        """Begin one layer of a stack, the lower ones having been begun already; the same layer is never begun twice."""
        chain = chain_id(tuple(diff_ids[: position + 1]))
        parent = chain_id(tuple(diff_ids[:position]))
        assert chain is not None
        with self._lock:
            running = self._running.get(chain)
            if running is not None:
                return running
            below = self._running.get(parent) if parent is not None else None
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="unpack")
            future = self._pool.submit(self._build, position, diff_ids[position], parent, below, blob)
            self._running[chain] = future
        future.add_done_callback(lambda _: self._forget(chain))
        return future

    def close(self) -> None:
        """Wait for what runs and let the threads go."""
        if self._pool is not None:
            self._pool.shutdown()

    def _ensure(self, diff_ids: Sequence[Digest], blobs: Sequence[Digest], made: list[Digest]) -> None:
        begun: list[Future[Layer]] = []
        for position, blob in enumerate(blobs):
            chain = chain_id(tuple(diff_ids[: position + 1]))
            assert chain is not None
            if not self._snapshots.has(chain):
                begun.append(self.start(diff_ids, position, blob))
                made.append(chain)
        failures = [error for future in begun if (error := future.exception()) is not None]
        if failures:
            raise failures[0]

    def _build(self, position: int, diff_id: Digest, parent: Digest | None, below: Future[Layer] | None, blob: Digest) -> Layer:
        """One layer, in a thread of the pool. The pool is first in first out, so the layer below has always begun before."""
        staging, report = self.unpack(blob)
        try:
            if report.diff_id != str(diff_id):
                raise DataCorrupt(f'invalid diffID for layer {position}: expected "{diff_id}", got "{report.diff_id}"')
            if below is not None:
                below.result()
            return self._snapshots.commit_layer(parent, diff_id, staging, report.size_bytes)
        except BaseException:
            self._snapshots.abandon(staging)
            raise

    def _unpack_into(self, staging: Path, blob: Digest) -> UnpackReport:
        source_fd = self._content.open(blob)
        try:
            target_fd = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                return self._unpacker.unpack(source_fd, target_fd, self._snapshots.free_bytes())
            finally:
                os.close(target_fd)
        finally:
            os.close(source_fd)

    def _forget(self, chain: Digest) -> None:
        with self._lock:
            self._running.pop(chain, None)
