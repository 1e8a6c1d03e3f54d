"""Writing a tree as tar from inside a worker: a layer out of an upper directory, or everything that a stack of mounts shows."""

from __future__ import annotations

import hashlib
import os
import select

from carrack.archive import compression
from carrack.archive.compression import Compressor
from carrack.archive.writer import TreeWriter, directory_header
from carrack.errors import SystemFailure
from carrack.shim.messages import PackTree, WorkerDone

_GATHERED_BYTES = 256 << 10
"""Headers and small files leave together: a write for each would cost more than they do."""


class Output:
    """A descriptor written to in large pieces, everything hashed on its way. It may be non-blocking, for its other owner's sake."""

    def __init__(self, fd: int, compressor: Compressor | None = None) -> None:
        self._fd = fd
        self._compressor = compressor
        self._hash = hashlib.sha256()
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0
        self.bytes = 0

    def add(self, piece: bytes) -> None:
        """Take bytes, to be written with others."""
        self._gathered.append(piece)
        self._gathered_bytes += len(piece)
        if self._gathered_bytes >= _GATHERED_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered. Raises SystemFailure when the reader is gone."""
        piece = b"".join(self._gathered) if len(self._gathered) != 1 else self._gathered[0]
        self._gathered.clear()
        self._gathered_bytes = 0
        self._hash.update(piece)
        self.bytes += len(piece)
        self._write(self._compressor.compress(piece) if self._compressor else piece)

    def finish(self) -> None:
        """Write what is still gathered, and the compression's end."""
        self.flush()
        if self._compressor:
            self._write(self._compressor.flush())

    def _write(self, piece: bytes) -> None:
        view = memoryview(piece)
        while view:
            try:
                view = view[os.write(self._fd, view) :]
            except BlockingIOError:
                self._await_room()
            except OSError as error:
                raise SystemFailure(f"cannot write an archive: {error.strerror}") from error

    def _await_room(self) -> None:
        room = select.poll()
        room.register(self._fd, select.POLLOUT)
        room.poll()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def pack_tree(job: PackTree, root_fd: int, target_fd: int) -> WorkerDone:
    """Write the tree below `root_fd` to `target_fd`. Raises SystemFailure."""
    prefix = job.prefix.strip("/").encode() + b"/" if job.prefix else b""
    writer = TreeWriter(
        root_fd,
        prefix=prefix,
        whiteouts=job.whiteouts,
        whole_seconds=True,
        latest_mtime_ns=job.latest_mtime_seconds * 1_000_000_000 if job.latest_mtime_seconds >= 0 else None,
        xattrs=job.xattrs,
    )
    compressor = None
    if job.compression:
        portable = job.latest_mtime_seconds >= 0  # who rewrites times wants the same bytes everywhere
        compressor = compression.compressor(compression.Compression(job.compression), job.level, portable=portable)
    output = Output(target_fd, compressor)
    if prefix:
        output.add(directory_header(job.prefix.strip("/"), max(0, job.latest_mtime_seconds)))
    for piece in writer.stream(ends=job.ends):
        output.add(piece)
    output.finish()
    return WorkerDone(output.digest, writer.size_bytes, writer.entries, output.bytes)
