"""Reading a log: history over rotated and compressed files, the last lines, a span of time, and on through rotations.

A cursor's position is a file and an offset in it, so a slow reader costs no memory. History is opened from the newest file to the
oldest: while that happens files only move towards the older end, so none is missed, and one met twice is left out.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator

from isal import isal_zlib

from carrack.errors import DataCorrupt, InvalidParameter
from carrack.shim.logs import json_file, local
from carrack.shim.logs.record import Batch, LogRecord, LogRequest, Rendering, render_all
from carrack.shim.logs.rotation import rotated_name
from carrack.shim.messages import LogPlan

_BLOCK_BYTES = 64 * 1024
_GZIP = 31
"""zlib's window bits for a gzip wrapper."""


def read(plan: LogPlan, request: LogRequest) -> Iterator[LogRecord]:
    """The records that a log holds now, oldest first. Nothing for a log that does not exist.

    Raises InvalidParameter for a driver that keeps nothing, DataCorrupt, OSError. The iterator may be closed at any time.
    """
    for batch in _read_batches(plan, request):
        for line in batch.lines:
            yield LogRecord(batch.stream, batch.time_nanoseconds, line, batch.attributes)


def read_rendered(plan: LogPlan, request: LogRequest, how: Rendering) -> Iterator[bytes]:
    """The same as blocks of what a client gets (`docker logs` without follow).

    The files are opened before this returns: what they hold can be read whoever removes them meanwhile.
    """
    cursor = Cursor(plan, request)
    cursor.open_history()
    return iter(render_all(_batches_of(cursor), how))


def _read_batches(plan: LogPlan, request: LogRequest) -> Iterator[Batch]:
    cursor = Cursor(plan, request)
    cursor.open_history()
    yield from _batches_of(cursor)


def _batches_of(cursor: Cursor) -> Iterator[Batch]:
    try:
        while (batches := cursor.next()) is not None:
            yield from batches
    finally:
        cursor.close()


class Cursor:
    """A place in a log."""

    def __init__(self, plan: LogPlan, request: LogRequest) -> None:
        if plan.driver not in ("local", "json-file"):
            raise InvalidParameter("configured logging driver does not support reading")
        self._plan = plan
        self._request = request
        self._files: deque[_File] = deque()
        self._skip = 0
        self.finished = False
        """`until` was passed: nothing more will come."""

    def open_history(self, live_fd: int = -1) -> None:
        """Stand at the first wanted record of what is there now. `live_fd`: the file being written, which is read on and on."""
        newest = _File(self._plan, live_fd, live=True) if live_fd >= 0 else None
        self._files.extend(reversed(_open_files(self._plan, newest)))
        if self._request.tail >= 0:
            self._go_to_tail(self._request.tail)

    def add_file(self, file_fd: int) -> None:
        """The log was rotated; `file_fd` is the new file. One who is too far behind loses the oldest, as the log itself does."""
        self._files.append(_File(self._plan, file_fd, live=True))
        while len(self._files) > self._plan.max_files + 1:
            self._files.popleft().close()

    def next(self) -> list[Batch] | None:
        """The next batches that the request wants (perhaps none of a block); None at the present end."""
        while not self.finished and self._files:
            file = self._files[0]
            batches = file.next()
            if batches is not None:
                return self._select(batches)
            if file.live and len(self._files) == 1:
                return None
            self._files.popleft().close()
        return None

    def close(self) -> None:
        """Close its files. Idempotent."""
        for file in self._files:
            file.close()
        self._files.clear()

    def _select(self, batches: list[Batch]) -> list[Batch]:
        request = self._request
        selected = []
        for batch in batches:
            if not request.wants(batch.stream):
                continue
            if self._skip:
                skipped = min(self._skip, len(batch.lines))
                self._skip -= skipped
                batch = batch._replace(lines=batch.lines[skipped:])
            if batch.time_nanoseconds < request.since_nanoseconds:
                continue
            if request.until_nanoseconds and batch.time_nanoseconds > request.until_nanoseconds:
                self.finished = True
                break
            if batch.lines:
                selected.append(batch)
        return selected

    def _go_to_tail(self, lines: int) -> None:
        """Drop the files before the one where the last `lines` lines begin, and stand at the place in it."""
        for number in range(len(self._files) - 1, -1, -1):
            self._skip, found = self._files[number].go_to_tail(lines, self._request.wants)
            lines -= found
            if lines <= 0:
                for _ in range(number):
                    self._files.popleft().close()
                return


class _File:
    """One file of a log, read forward. A live one may grow; another ends where its last whole record ended when it was opened."""

    def __init__(self, plan: LogPlan, fd: int, *, live: bool = False, compressed: bool = False) -> None:
        self._fd = fd
        self._plan = plan
        self._offset = 0
        self.live = live
        self._inflate = isal_zlib.decompressobj(_GZIP) if compressed else None
        self._parser = self._new_parser()
        self._format = local if plan.driver == "local" else json_file
        self._limit = -1 if live or compressed else self._format.complete_bytes(fd)
        self.identity = _identity(fd)

    def next(self) -> list[Batch] | None:
        """None at the present end."""
        content = self._read()
        return self._parser.feed(content) if content else None

    def go_to_tail(self, lines: int, wanted: Callable[[int], bool]) -> tuple[int, int]:
        """Stand where the last `lines` wanted lines begin: (how many to skip from there, how many were found)."""
        if self._inflate is not None:
            return self._go_to_compressed_tail(lines, wanted)
        limit = self._format.complete_bytes(self._fd) if self.live else self._limit
        self._offset, skip, found = self._format.find_tail(self._fd, limit, lines, wanted)
        if isinstance(self._parser, local.Parser) and self._offset >= len(local.MAGIC):
            self._parser.continue_inside()
        return skip, found

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __del__(self) -> None:
        """One that was opened for a reader who never came."""
        self.close()

    def _go_to_compressed_tail(self, lines: int, wanted: Callable[[int], bool]) -> tuple[int, int]:
        """A compressed file is read through once to count, then again from its start."""
        total = 0
        while (batches := self.next()) is not None:
            total += sum(len(batch.lines) for batch in batches if wanted(batch.stream))
        self._offset, self._inflate, self._parser = 0, isal_zlib.decompressobj(_GZIP), self._new_parser()
        return max(0, total - lines), min(total, lines)

    def _new_parser(self) -> local.Parser | json_file.Parser:
        if self._plan.driver == "local":
            return local.Parser(self._plan.attributes)
        return json_file.Parser()

    def _read(self) -> bytes:
        if self._inflate is not None:
            return self._read_compressed(self._inflate)
        size = _BLOCK_BYTES if self._limit < 0 else min(_BLOCK_BYTES, self._limit - self._offset)
        content = os.pread(self._fd, size, self._offset)
        self._offset += len(content)
        return content

    def _read_compressed(self, inflate: isal_zlib.Decompress) -> bytes:
        while not inflate.eof:
            source = inflate.unconsumed_tail
            if not source:
                source = os.pread(self._fd, _BLOCK_BYTES, self._offset)
                self._offset += len(source)
                if not source:
                    raise DataCorrupt("a compressed log ends early")
            content = inflate.decompress(source, _BLOCK_BYTES)
            if content:
                return content
        return b""


def _open_files(plan: LogPlan, newest: _File | None) -> list[_File]:
    """Every file of the log, newest first."""
    files = [newest] if newest is not None else []
    names = [] if newest is not None else [(plan.path, False)]
    for index in range(1, plan.max_files):
        names += [(rotated_name(plan.path, index), False), (rotated_name(plan.path, index, compressed=True), True)]
    for name, compressed in names:
        try:
            fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        if any(_identity(fd) == file.identity for file in files):
            os.close(fd)
            continue
        files.append(_File(plan, fd, compressed=compressed))
    return files


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
