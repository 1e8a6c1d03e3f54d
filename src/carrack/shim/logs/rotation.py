"""A log file that is renamed aside when it is full: `path` is written, `path.1` is the newest older one, `.gz` when compressed.

Compression happens in another process; until it is done the plain file stays in its place, so a reader finds each record in one of
the two. Followers read by descriptors of their own and are handed the next file's at each rotation: names may change under them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Protocol


class Compressor(Protocol):
    """Compress what `source_fd` reads (its own from now on) to the file `target`, somewhere else; say later whether it worked."""

    def __call__(self, source_fd: int, target: str, done: Callable[[bool], None]) -> None: ...


class Follower(Protocol):
    """Who is told about a growing log."""

    def appended(self) -> None:
        """There is more in the file than before."""

    def rotated(self, file_fd: int) -> None:
        """`file_fd` is a descriptor of the new file, now the follower's own."""
        ...


def rotated_name(path: str, index: int, *, compressed: bool = False) -> str:
    return f"{path}.{index}.gz" if compressed else f"{path}.{index}"


class RotatingFile:
    """Appends to `path`, rotating when the next write would pass `max_size_bytes` (0: never)."""

    def __init__(
        self,
        path: str,
        *,
        max_size_bytes: int,
        max_files: int,
        preamble: bytes = b"",
        complete_bytes: Callable[[int], int],
        compressor: Compressor | None,
    ) -> None:
        """Opens or creates the file (0640); what a killed writer left half-written at its end is cut off. Raises OSError."""
        self._path = path
        self._max_size = max_size_bytes
        self._max_files = max(1, max_files)
        self._preamble = preamble
        self._compressor = compressor
        self._compressing = 0
        """The index under which the file being compressed stands at present; 0: none is."""
        self.followers: list[Follower] = []
        for left in (self._temporary, self._next):
            _unlink_if_there(left)
        self._fd = self._opened(path)
        self.size = os.fstat(self._fd).st_size
        kept = complete_bytes(self._fd)
        if kept < self.size:
            os.ftruncate(self._fd, kept)
            self.size = kept
        if not self.size:
            self.size = os.write(self._fd, preamble)

    @property
    def room_bytes(self) -> int | None:
        """What may still be written before a rotation; None: anything."""
        return self._max_size - self.size if self._max_size else None

    @property
    def is_empty(self) -> bool:
        return self.size <= len(self._preamble)

    def append(self, parts: Sequence[bytes | memoryview], length: int) -> None:
        """Write the parts as one record. A full disk loses the record, never the shim: half a record is taken back."""
        try:
            written = os.writev(self._fd, parts)
            while written < length:
                rest = memoryview(b"".join(parts))[written:]
                written += os.write(self._fd, rest)
        except OSError:
            try:
                os.ftruncate(self._fd, self.size)
            except OSError:
                pass
            return
        self.size += length
        for follower in self.followers:
            follower.appended()

    def rotate(self) -> bool:
        """Move every file one place further, drop the oldest, begin a new one.

        False when the disk does not let us: the old file is written on then, for a log that cannot rotate must not stop the
        container. The new file is made, with its preamble, before any name moves.
        """
        try:
            fd = self._begin_next()
        except OSError:
            return False
        try:
            self._shift()
            os.rename(self._next, self._path)
        except OSError:
            os.close(fd)
            return False
        os.close(self._fd)
        self._fd, self.size = fd, len(self._preamble)
        for follower in self.followers:
            follower.rotated(os.dup(fd))
        self._compress_next()
        return True

    def duplicate(self) -> int:
        """A descriptor of the file being written, for a follower."""
        return os.dup(self._fd)

    def close(self) -> None:
        os.close(self._fd)

    @staticmethod
    def _opened(path: str) -> int:
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)

    def _begin_next(self) -> int:
        """An empty file with its preamble, beside the others. Raises OSError, and leaves none then."""
        _unlink_if_there(self._next)
        fd = self._opened(self._next)
        try:
            if os.write(fd, self._preamble) < len(self._preamble):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.close(fd)
            _unlink_if_there(self._next)
            raise
        return fd

    def _shift(self) -> None:
        last = self._max_files - 1
        if last == 0:
            return  # the new file takes the place of the old one
        for compressed in (False, True):
            _unlink_if_there(rotated_name(self._path, last, compressed=compressed))
        for index in range(last - 1, 0, -1):
            for compressed in (False, True):
                name = rotated_name(self._path, index, compressed=compressed)
                _rename_if_there(name, rotated_name(self._path, index + 1, compressed=compressed))
        _rename_if_there(self._path, rotated_name(self._path, 1))
        if self._compressing:
            self._compressing += 1

    def _compress_next(self) -> None:
        if self._compressor is None or self._compressing:
            return
        for index in range(self._max_files - 1, 0, -1):
            try:
                source_fd = os.open(rotated_name(self._path, index), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                continue
            self._compressing = index
            self._compressor(source_fd, self._temporary, self._compressed)
            return

    def _compressed(self, worked: bool) -> None:
        index, self._compressing = self._compressing, 0
        plain = rotated_name(self._path, index)
        if not worked or index >= self._max_files or not os.path.exists(plain):
            _unlink_if_there(self._temporary)
            return
        os.rename(self._temporary, rotated_name(self._path, index, compressed=True))
        os.unlink(plain)
        self._compress_next()

    @property
    def _temporary(self) -> str:
        return self._path + ".compressing"

    @property
    def _next(self) -> str:
        return self._path + ".next"


def _unlink_if_there(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _rename_if_there(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except FileNotFoundError:
        pass
