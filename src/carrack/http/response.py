"""What a handler answers: a whole body, a stream of pieces, or a stretch of a file; and how a response's head is written.

A response says nothing of the connection: whether the body is chunked, delimited by the close, or left out for HEAD, and whether
the connection lives on, is the connection's affair (RFC 9112 sections 6 and 9).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from carrack.errors import SystemFailure

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Response:
    """A body that is in memory."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)


@dataclass(frozen=True, slots=True)
class StreamResponse:
    """A body made as it is sent. The head is flushed at once, then each piece; a slow client holds the iterator back.

    `content` is closed (`aclose`) when the client is lost, and its failure cuts the connection so that the client sees a body cut
    short. With a Content-Length among the headers the body must be of that length, and is not chunked.
    """

    status: int
    content: AsyncIterator[bytes]
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    endless: bool = False
    """A follow-up stream that ends when the client goes: then even a half-close by the client ends it, as in Docker."""


@dataclass(frozen=True, slots=True)
class FileResponse:
    """`length` bytes of an open file from `offset`, sent by the kernel. The descriptor is closed in every case."""

    status: int
    fd: int
    offset: int
    length: int
    headers: Mapping[str, str] = field(default_factory=lambda: _NO_HEADERS)
    before_last: Callable[[], Awaitable[None]] | None = None
    """Awaited before the last byte leaves: when it raises Cancelled the connection is cut, and nobody takes the body for whole."""


def has_no_body(status: int) -> bool:
    """Statuses that are never followed by a body (RFC 9110 sections 15.2, 15.3.5, 15.4.5)."""
    return status < 200 or status in (204, 304)


def render_head(status: int, headers: Mapping[str, str], *framing: tuple[str, str], reason: str = "") -> bytes:
    """The status line, the headers, those of the framing, and the empty line. Raises SystemFailure on a line break in a value."""
    lines = [f"HTTP/1.1 {status} {reason or _REASONS.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines += [f"{name}: {value}" for name, value in framing]
    text = "\r\n".join(lines)
    if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1 or "\0" in text:
        raise SystemFailure("a response header holds a line break")
    return (text + "\r\n\r\n").encode("latin-1", "replace")


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_date = (0, "")


def date() -> str:
    """The time in the form of the Date field (RFC 9110 section 5.6.7), made once a second."""
    global _date
    now = int(time.time())
    if _date[0] != now:
        at = time.gmtime(now)
        clock = f"{at.tm_hour:02d}:{at.tm_min:02d}:{at.tm_sec:02d}"
        _date = (now, f"{_DAYS[at.tm_wday]}, {at.tm_mday:02d} {_MONTHS[at.tm_mon - 1]} {at.tm_year} {clock} GMT")
    return _date[1]
