"""HTTP/1.1 as RFC 9112 frames it, seen from the client: request heads out, response heads and bodies in.

Bodies come in the three framings of section 6.3 (chunked, Content-Length, until close) and may arrive one byte at a time. No
socket is opened here and no status is judged.
"""

from __future__ import annotations

from carrack.client.connection import RECEIVE_BYTES
from carrack.client.failure import ConnectionFailed, ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from carrack.client.connection import Connection

MAX_HEADERS = 200
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")


def percent_encode(text: str, *, keep: str = "") -> str:
    """Text for a URL: every byte outside RFC 3986's unreserved set, and outside `keep`, becomes %XX."""
    if text.isascii() and text.isalnum():
        return text
    kept = _UNRESERVED.union(keep.encode())
    return "".join([chr(byte) if byte in kept else f"%{byte:02X}" for byte in text.encode("utf-8", "surrogateescape")])


def encode_query(parameters: Mapping[str, str | list[str]]) -> str:
    """A query string with its names in order, as Go's `url.Values` writes it; a list repeats its name."""
    pairs: list[str] = []
    for name in sorted(parameters):
        value = parameters[name]
        for item in [value] if isinstance(value, str) else value:
            pairs.append(f"{percent_encode(name)}={percent_encode(item)}")
    return "&".join(pairs)


def render_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """The bytes of a request head. Raises ProtocolError for a line break inside it, which would smuggle a header."""
    lines = [f"{method} {target} HTTP/1.1"]
    lines.extend([f"{name}: {value}" for name, value in headers.items()])
    for line in lines:
        if "\r" in line or "\n" in line:
            raise ProtocolError("a line break in a request header")
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


class Head:
    """The status line and headers of a response; header names in small letters."""

    __slots__ = ("headers", "reason", "status")

    def __init__(self, status: int, reason: str, headers: dict[str, str]) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers

    @property
    def closes(self) -> bool:
        """Whether the server will close the connection after this response."""
        return "close" in self.headers.get("connection", "").lower()


def read_head(connection: Connection) -> Head:
    """Reads one response head, skipping interim 1xx answers except 101. Raises ProtocolError, ConnectionFailed."""
    while True:
        head = _read_one_head(connection)
        if head.status >= 200 or head.status == 101:
            return head


def _read_one_head(connection: Connection) -> Head:
    line = connection.read_line().decode("latin-1")
    version, _, rest = line.partition(" ")
    status_text, _, reason = rest.partition(" ")
    if not version.startswith("HTTP/1.") or len(status_text) != 3 or not (status_text.isascii() and status_text.isdigit()):
        hint = "\n* Are you trying to connect to a TLS-enabled daemon without TLS?"
        raise ProtocolError(f"malformed HTTP response {line[:80]!r}.{hint}")
    headers: dict[str, str] = {}
    for _ in range(MAX_HEADERS):
        raw = connection.read_line()
        if not raw:
            return Head(int(status_text), reason, headers)
        name, colon, value = raw.decode("utf-8", "surrogateescape").partition(":")
        if not colon:
            raise ProtocolError(f"malformed header line {name[:80]!r}")
        headers[name.strip().lower()] = value.strip()
    raise ProtocolError(f"the daemon sent more than {MAX_HEADERS} headers")


class Body:
    """The content of one response. `read` gives what has arrived; after `ended` the connection may serve another request."""

    def __init__(self, connection: Connection, head: Head, *, method: str) -> None:
        self._connection = connection
        self.ended = False
        self.reusable = not head.closes
        self._left = 0  # bytes of the present chunk, or of the whole body
        self._in_chunk = False
        self._chunked = "chunked" in head.headers.get("transfer-encoding", "").lower()
        length = head.headers.get("content-length")
        self._until_close = False
        if method == "HEAD" or head.status in (204, 304) or head.status < 200:
            self.ended = True
        elif self._chunked:
            pass
        elif length is not None:
            if not (length.isascii() and length.isdigit()):
                raise ProtocolError(f"Content-Length {length[:40]!r} is no number")
            self._left = int(length)
            self.ended = self._left == 0
        else:
            self._until_close = True
            self.reusable = False

    @property
    def buffered(self) -> bool:
        """Whether `read` may return without the socket being readable."""
        return not self.ended and self._connection.buffered

    def fileno(self) -> int:
        """The descriptor to poll for more."""
        return self._connection.fileno()

    def read(self, size: int = RECEIVE_BYTES) -> bytes:
        """At least one byte, or empty at the end. Raises ConnectionFailed when the body is cut short."""
        if self.ended:
            return b""
        if self._chunked and not self._in_chunk:
            self._next_chunk()
            if self.ended:
                return b""
        if self._until_close:
            data = self._connection.receive(size)
            self.ended = not data
            return data
        data = self._connection.receive(min(size, self._left))
        if not data:
            raise ConnectionFailed("unexpected EOF")
        self._left -= len(data)
        if self._left == 0:
            self._finish_piece()
        return data

    def _next_chunk(self) -> None:
        line = self._connection.read_line()
        digits = line.partition(b";")[0].strip()
        if not digits or digits.strip(b"0123456789abcdefABCDEF") or len(digits) > 15:
            raise ProtocolError(f"malformed chunk size {line[:40]!r}")
        self._left = int(digits, 16)
        if self._left == 0:
            while self._connection.read_line():
                pass  # trailers: the Engine API has none that matter
            self.ended = True
        else:
            self._in_chunk = True

    def _finish_piece(self) -> None:
        if not self._chunked:
            self.ended = True
            return
        self._in_chunk = False
        if self._connection.read_line():
            raise ProtocolError("no line break after a chunk")

    def read_all(self) -> bytes:
        """Everything up to the end."""
        pieces: list[bytes] = []
        while True:
            data = self.read()
            if not data:
                return b"".join(pieces)
            pieces.append(data)

    def __iter__(self) -> Iterator[bytes]:
        while True:
            data = self.read()
            if not data:
                return
            yield data
