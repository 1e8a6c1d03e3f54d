"""Where a request's head and body begin and end in the bytes that arrived (RFC 9112 sections 2 and 7). No socket, no clock.

The inbox keeps what was read and not yet used. Nothing past the request that is being answered is ever looked at: what follows may
be the next request of a pipeline, or the raw stream of a connection about to be handed over, and only the answer decides which.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Protocol

from carrack.errors import InvalidParameter

LINE_LIMIT = 4096
"""Bytes of a chunk's size line, its extensions included."""
TRAILER_LIMIT = 16384
"""Bytes of all trailer lines together."""

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")


class HeadTooLarge(Exception):
    """The request's head is longer than the limit (431)."""


class BrokenFraming(InvalidParameter):
    """The bytes do not follow HTTP's framing; the connection cannot be used further (400)."""


class Inbox:
    """Bytes that arrived and were not used yet."""

    __slots__ = ("_line", "_pieces", "_searched", "_start", "size_bytes")

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._start = 0
        """How much of the first piece is used: what is left of it is not copied for each line and chunk that is cut off."""
        self._line = bytearray()
        self._searched = 0
        self.size_bytes = 0

    def feed(self, piece: bytes) -> None:
        """Take what arrived."""
        if piece:
            self._pieces.append(piece)
            self.size_bytes += len(piece)

    def head(self, limit_bytes: int) -> bytes | None:
        """The next request head with its final empty line, or None until it is whole. Raises HeadTooLarge, BrokenFraming."""
        if not self._line:
            self._skip_line_ends()
            if self._pieces and not self._pieces[0][self._start : self._start + 1].isalpha():
                # A TLS client that takes us for one of its kind waits for an answer: say at once that it is wrong.
                raise BrokenFraming("malformed HTTP request")
        seen = max(0, len(self._line) - 1)  # a head that comes byte by byte is not searched from its beginning each time
        found = self._until(b"\r\n\r\n", limit_bytes)
        if found is None and self._line.find(b"\n\n", seen) >= 0:
            raise BrokenFraming("malformed HTTP request: lines end in CR LF")
        return found

    def line(self, limit_bytes: int = LINE_LIMIT) -> bytes | None:
        """The next line without its CR LF, or None until it is whole. Raises BrokenFraming when it is too long."""
        try:
            found = self._until(b"\r\n", limit_bytes)
        except HeadTooLarge:
            raise BrokenFraming("malformed chunked encoding: line too long") from None
        return None if found is None else found[:-2]

    def take(self, limit_bytes: int) -> bytes:
        """The next bytes, at most so many, as they came; empty when there are none."""
        if not self._pieces or limit_bytes <= 0:
            return b""
        piece = self._pieces[0]
        end = self._start + limit_bytes
        if end < len(piece):
            piece = piece[self._start : end]
            self._start = end
        else:
            self._pieces.popleft()
            piece = piece[self._start :] if self._start else piece
            self._start = 0
        self.size_bytes -= len(piece)
        return piece

    def rest(self) -> bytes:
        """Everything that is left."""
        left = bytes(self._line) + b"".join(self._pieces)[self._start :]
        self._pieces.clear()
        self._line.clear()
        self._searched = self._start = self.size_bytes = 0
        return left

    def _until(self, mark: bytes, limit_bytes: int) -> bytes | None:
        """The bytes up to a mark and with it; what is searched in vain is set aside, so that none is searched twice."""
        if not self._line and self._pieces:
            end = self._pieces[0].find(mark, self._start)
            if end >= 0:
                size = end + len(mark) - self._start
                if size > limit_bytes:
                    raise HeadTooLarge
                return self.take(size)
        while self._pieces:
            self._line += self._pieces.popleft()[self._start :]
            self._start = 0
            end = self._line.find(mark, max(0, self._searched - len(mark) + 1))
            if end >= 0:
                return self._cut(end + len(mark), limit_bytes)
            self._searched = len(self._line)
            if self._searched > limit_bytes:
                raise HeadTooLarge
        return None

    def _cut(self, end: int, limit_bytes: int) -> bytes:
        if end > limit_bytes:
            raise HeadTooLarge
        found = bytes(self._line[:end])
        if len(self._line) > end:
            self._pieces.appendleft(bytes(self._line[end:]))
        self._line.clear()
        self._searched = 0
        self.size_bytes -= end
        return found

    def _skip_line_ends(self) -> None:
        # RFC 9112 section 2.2: empty lines before a request line are ignored.
        while self._pieces and self._pieces[0][self._start : self._start + 1] in (b"\r", b"\n"):
            self.take(1)


class Body(Protocol):
    """How a request's body is delimited."""

    finished: bool

    @property
    def remaining_bytes(self) -> int | None:
        """What has not been taken yet; None: not known."""

    def next(self, inbox: Inbox) -> bytes | None:
        """The next bytes of the body; None: more must arrive first, or it is finished. Raises BrokenFraming."""


class NoBody:
    """The `Body` of a request without one."""

    finished = True
    remaining_bytes = 0

    def next(self, inbox: Inbox) -> bytes | None:
        return None


class LengthBody:
    """A `Body` of a length told in advance."""

    __slots__ = ("finished", "remaining_bytes")

    def __init__(self, length_bytes: int) -> None:
        self.remaining_bytes = length_bytes
        self.finished = length_bytes == 0

    def next(self, inbox: Inbox) -> bytes | None:
        piece = inbox.take(self.remaining_bytes)
        self.remaining_bytes -= len(piece)
        self.finished = self.remaining_bytes == 0
        return piece or None


class ChunkedBody:
    """A `Body` in chunks. Extensions and trailers are read, bounded and dropped."""

    __slots__ = ("_after_chunk", "_in_trailer", "_remaining", "_trailer_bytes", "finished")

    def __init__(self) -> None:
        self._remaining = 0
        self._after_chunk = False
        self._in_trailer = False
        self._trailer_bytes = 0
        self.finished = False

    @property
    def remaining_bytes(self) -> int | None:
        return 0 if self.finished else None

    def next(self, inbox: Inbox) -> bytes | None:
        while not self.finished:
            if self._remaining:
                piece = inbox.take(self._remaining)
                self._remaining -= len(piece)
                return piece or None
            line = inbox.line()
            if line is None:
                return None
            self._read_line(line)
        return None

    def _read_line(self, line: bytes) -> None:
        if self._in_trailer:
            self._trailer_bytes += len(line) + 2
            if self._trailer_bytes > TRAILER_LIMIT:
                raise BrokenFraming("malformed chunked encoding: trailer too long")
            self.finished = not line
        elif self._after_chunk:
            if line:
                raise BrokenFraming("malformed chunked encoding: a chunk is longer than its size")
            self._after_chunk = False
        else:
            match = _CHUNK_SIZE.fullmatch(line)
            if match is None:
                raise BrokenFraming("malformed chunked encoding: invalid chunk size")
            self._remaining = int(match.group(1), 16)
            self._in_trailer = self._remaining == 0
            self._after_chunk = not self._in_trailer
