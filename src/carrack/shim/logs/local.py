"""The `local` format: binary records, one for each read of the container's output, which hold whole lines.

    file    magic (8 bytes), then records
    record  length of the payload u32 · time in nanoseconds u64 · stream u8 · flags u8 · u16 zero · payload · length u32

Little-endian. The length stands at both ends so that a reader for the last lines can walk backwards. A payload is one or more
lines with their line feeds, or (flag PART) a part of an overlong line. A file may end in the middle of a record when its writer was
killed; what is incomplete was never there.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

from carrack.errors import DataCorrupt
from carrack.shim.framing import STDERR, STDOUT
from carrack.shim.logs.record import Batch, split_lines

MAGIC = b"CKLOG\x00\x01\n"
OVERHEAD_BYTES = 20
PART = 1

_header = struct.Struct("<IQBBH")
_length = struct.Struct("<I")


def header(length: int, time_nanoseconds: int, stream: int, flags: int = 0) -> bytes:
    return _header.pack(length, time_nanoseconds, stream, flags, 0)


def trailer(length: int) -> bytes:
    return _length.pack(length)


class Parser:
    """Takes a file's bytes in any portions, gives batches."""

    def __init__(self, attributes: dict[str, str]) -> None:
        self._pending = b""
        self._attributes = attributes
        self._begun = False

    def feed(self, content: bytes) -> list[Batch]:
        """Raises DataCorrupt for what is no record of this format."""
        content = self._pending + content
        position = 0
        if not self._begun:
            if len(content) < len(MAGIC):
                self._pending = content
                return []
            if not content.startswith(MAGIC):
                raise DataCorrupt("not a log of the local driver")
            self._begun, position = True, len(MAGIC)
        batches = []
        while position + _header.size <= len(content):
            length, time_nanoseconds, stream, _, zero = _header.unpack_from(content, position)
            if zero or stream not in (STDOUT, STDERR):
                raise DataCorrupt("a log record of the local driver is damaged")
            end = position + OVERHEAD_BYTES + length
            if end > len(content):
                break
            payload = content[position + _header.size : end - _length.size]
            batches.append(Batch(stream, time_nanoseconds, split_lines(payload), self._attributes))
            position = end
        self._pending = content[position:]
        return batches

    def continue_inside(self) -> None:
        """The next portion begins at a record, not at the file's beginning."""
        self._begun = True


def complete_bytes(fd: int) -> int:
    """How much of the file is whole records (0: not even the magic). Looks at the last record first, walks only when it is torn."""
    size = os.fstat(fd).st_size
    if size < len(MAGIC) or os.pread(fd, len(MAGIC), 0) != MAGIC:
        return 0
    if size == len(MAGIC) or _record_before(fd, size) is not None:
        return size
    position = len(MAGIC)
    while True:
        raw = os.pread(fd, _header.size, position)
        if len(raw) < _header.size:
            return position
        length, _, stream, _, zero = _header.unpack(raw)
        end = position + OVERHEAD_BYTES + length
        if zero or stream not in (STDOUT, STDERR) or end > size:
            return position
        if os.pread(fd, _length.size, end - _length.size) != raw[: _length.size]:
            return position
        position = end


def find_tail(fd: int, size: int, lines: int, wanted: Callable[[int], bool]) -> tuple[int, int, int]:
    """Where the last `lines` lines of the wanted streams begin: (offset of a record, lines to skip there, lines found)."""
    found = 0
    position = size
    while found < lines and position > len(MAGIC):
        start = _record_before(fd, position)
        if start is None:
            break
        length, _, stream, flags, _ = _header.unpack(os.pread(fd, _header.size, start))
        if wanted(stream):
            payload = os.pread(fd, length, start + _header.size)
            found += payload.count(b"\n") + (flags & PART)
        position = start
    return position, max(0, found - lines), min(found, lines)


def _record_before(fd: int, end: int) -> int | None:
    """The offset of the record that ends at `end`; None when none does."""
    raw = os.pread(fd, _length.size, end - _length.size)
    if len(raw) < _length.size:
        return None
    start = end - OVERHEAD_BYTES - _length.unpack(raw)[0]
    if start < len(MAGIC):
        return None
    head = os.pread(fd, _header.size, start)
    if head[: _length.size] != raw or _header.unpack(head)[4] or head[12] not in (STDOUT, STDERR):
        return None
    return int(start)
