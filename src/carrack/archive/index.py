"""The index of a directory: the digests of its files, so that nobody hashes them twice.

A file of alternating names and facts, each ended by NUL: ``path``, ``size digest``. Files with extended attributes are not in it.
Whoever changes the directory writes its index anew.
"""

from __future__ import annotations

import os

_CHUNK_BYTES = 1 << 20


class Index:
    """Digests by path from the directory's root, without a slash in front."""

    def __init__(self, entries: dict[bytes, bytes] | None = None) -> None:
        self._entries = entries if entries is not None else {}

    @classmethod
    def read(cls, fd: int) -> Index:
        """Read an index from its beginning. Raises OSError."""
        fields = read_whole(fd).split(b"\0")
        return cls(dict(zip(fields[0::2], fields[1::2], strict=False)))

    def digest(self, path: str, size: int) -> bytes | None:
        """The sha256 of a file that has this size, in hexadecimal; None when it is not known."""
        facts = self._entries.get(os.fsencode(path.lstrip("/")))
        if facts is None:
            return None
        stated, _, digest = facts.partition(b" ")
        return digest if int(stated) == size else None

    def set(self, path: bytes, size: int, digest: bytes) -> None:
        """Note a file."""
        self._entries[path] = b"%d %s" % (size, digest)

    def forget(self, path: bytes) -> None:
        """A file is not what it was."""
        self._entries.pop(path, None)

    def forget_below(self, path: bytes) -> None:
        """A path, and what was below it, is not what it was."""
        if self._entries.pop(path, None) is not None:
            return
        below = path + b"/"
        for name in [each for each in self._entries if each.startswith(below)]:
            del self._entries[name]

    def write(self, fd: int) -> None:
        """Write the index whole, in the order of its names. Raises OSError."""
        content = memoryview(b"".join(b"%s\0%s\0" % each for each in sorted(self._entries.items())))
        while content:
            content = content[os.write(fd, content) :]


def read_whole(fd: int) -> bytes:
    """A file from its beginning to its end."""
    os.lseek(fd, 0, os.SEEK_SET)
    pieces = []
    while piece := os.read(fd, _CHUNK_BYTES):
        pieces.append(piece)
    return b"".join(pieces)
