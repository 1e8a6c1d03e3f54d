"""Digests of bytes in memory and of files, for the algorithms image-spec registers."""

from __future__ import annotations

import hashlib
import os

from carrack.oci.digest import Digest

_PIECE_BYTES = 1 << 20


def digest_of(content: bytes, algorithm: str) -> Digest:
    """The digest of bytes in memory."""
    return Digest(algorithm, hashlib.new(algorithm, content).hexdigest())


def digest_of_fd(fd: int, size_bytes: int, algorithm: str) -> Digest:
    """The digest of a file's first `size_bytes` bytes, in constant memory; reads by position, so others may share `fd`."""
    hasher = hashlib.new(algorithm)
    piece = bytearray(_PIECE_BYTES)
    view = memoryview(piece)
    offset = 0
    while offset < size_bytes:
        count = os.preadv(fd, [view[: min(_PIECE_BYTES, size_bytes - offset)]], offset)
        if count == 0:
            break
        hasher.update(view[:count])
        offset += count
    return Digest(algorithm, hasher.hexdigest())
