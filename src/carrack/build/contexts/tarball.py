"""Contexts that come as a tar, in the body of a request or as the answer of a web server."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress

from carrack.build.contexts.local import SlotContext
from carrack.build.contexts.slots import Slot, Slots
from carrack.build.trees import WorkerTrees
from carrack.distribution.cancellation import Cancellation
from carrack.errors import CarrackError
from carrack.shim.messages import UnpackContext, WorkerDone
from carrack.shim.workers import Job

_PIECE_BYTES = 1 << 20
_SPOOLED_BYTES = 256 << 20
"""A tar up to this size is looked at whole before it is unpacked: the same one again finds its tree still there."""

Body = Callable[[int], bytes]
"""Gives the next bytes, at most as many as asked for, empty at the end."""


def receive_tar(body: Body, slots: Slots, trees: WorkerTrees, cancel: Cancellation, limit_bytes: int = 0) -> SlotContext:
    """Unpack a tar of any compression into a context. Raises InvalidParameter, DataCorrupt, Cancelled."""
    spool_fd = slots.scratch_file()
    try:
        digest = hashlib.sha256()
        size = 0
        piece = b"."
        while size < _SPOOLED_BYTES and (piece := body(_PIECE_BYTES)):
            cancel.check()
            digest.update(piece)
            size += len(piece)
            _write(spool_fd, piece)
        key = "" if piece else f"tar:{digest.hexdigest()}"
        known = slots.take(key) if key else None
        if known is not None:
            return SlotContext(slots, known, trees)
        os.lseek(spool_fd, 0, os.SEEK_SET)
        slot = slots.new()
        try:
            if key:
                done = _unpack(spool_fd, slot, trees, cancel, limit_bytes)
            else:
                done = _unpack_stream(_joined(spool_fd, body), slot, trees, cancel, limit_bytes)
                key = f"tar:{done.diff_id}"
            slot.settle(key, done.size_bytes)
        except BaseException:
            slots.give_back(slot)
            raise
        return SlotContext(slots, slot, trees)
    finally:
        os.close(spool_fd)


def _unpack(source_fd: int, slot: Slot, trees: WorkerTrees, cancel: Cancellation, limit_bytes: int) -> WorkerDone:
    tree_fd = os.open(slot.tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    index_fd = os.open(slot.index, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        return trees.do(UnpackContext(limit_bytes), (source_fd, tree_fd, index_fd), cancel)
    finally:
        os.close(tree_fd)
        os.close(index_fd)


def _unpack_stream(body: Body, slot: Slot, trees: WorkerTrees, cancel: Cancellation, limit_bytes: int) -> WorkerDone:
    """A large one: unpacked while it comes."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    tree_fd = os.open(slot.tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    index_fd = os.open(slot.index, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
    try:
        job = trees.begin(UnpackContext(limit_bytes), (reader, tree_fd, index_fd), cancel)
    finally:
        for fd in (reader, tree_fd, index_fd):
            os.close(fd)
    return feed(body, writer, job, cancel)


def feed(body: Body, pipe_fd: int, job: Job, cancel: Cancellation) -> WorkerDone:
    """Write a body into the pipe that a worker reads, close it, and wait for the worker. A body that breaks off ends both."""
    with cancel.calling(job.cancel):
        try:
            while piece := body(_PIECE_BYTES):
                _write(pipe_fd, piece)
        except BrokenPipeError:
            pass  # the worker says why
        except BaseException:
            job.cancel()
            with suppress(CarrackError):
                job.result()
            raise
        finally:
            os.close(pipe_fd)
        return job.result()


def _joined(spool_fd: int, rest: Body) -> Body:
    return lambda size: os.read(spool_fd, size) or rest(size)


def _write(fd: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[os.write(fd, view) :]
