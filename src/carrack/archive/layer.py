"""The one job of a worker that unpacks a layer: read a compressed archive from one descriptor, put it under another."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from carrack.archive.compression import CHUNK_BYTES, Decompressed
from carrack.archive.extract import Extractor
from carrack.archive.reader import TarReader
from carrack.errors import SystemFailure

ENTRIES_LIMIT = 10_000_000


@dataclass(frozen=True, slots=True)
class UnpackReport:
    """What a layer turned out to be."""

    diff_id: str
    """The digest of the uncompressed archive, all of it."""
    size_bytes: int
    """The content of its files."""
    entries: int


def unpack_layer(
    source_fd: int, target_dir_fd: int, limit_bytes: int = 0, limit_entries: int = ENTRIES_LIMIT, *, whiteouts: bool = True
) -> UnpackReport:
    """Extract the layer that can be read from `source_fd` (a file or a pipe) into an empty directory.

    Meant for a process of its own that is confined to the target: it sets the umask of the process, needs to be root in its user
    namespace, and imports nothing. Whoever called it compares the report with what was promised and throws the directory away
    when it differs or when this raises: InvalidParameter, DataCorrupt, SystemFailure. Both descriptors stay the caller's.
    An archive that is no layer has no `whiteouts`: names that begin with ``.wh.`` are names.
    """
    diff = hashlib.sha256()
    stream = Decompressed(lambda: _read(source_fd))

    def piece() -> bytes:
        content = stream.read()
        diff.update(content)
        return content

    umask = os.umask(0)
    try:
        reader = TarReader(piece, limit_bytes)
        extractor = Extractor(target_dir_fd, whiteouts=whiteouts, limit_entries=limit_entries)
        extractor.extract(reader)
        reader.drain()
    finally:
        os.umask(umask)
    return UnpackReport(f"sha256:{diff.hexdigest()}", extractor.size_bytes, extractor.entries)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, CHUNK_BYTES)
    except OSError as error:
        raise SystemFailure(f"cannot read a layer: {error.strerror}") from error
