"""The Engine API as one caller sees it: version negotiation, requests, streams and hijacked connections on one endpoint.

Requests take turns on a kept connection; every stream that stays open (attach, events, wait) gets a connection of its own.
Nothing here knows what a container is: the paths and documents come from the callers.
"""

from __future__ import annotations

from carrack.client import codec
from carrack.client.connection import Connection, connect
from carrack.client.endpoint import Endpoint
from carrack.client.failure import ConnectionFailed, ProtocolError, refusal
from carrack.client.http import Body, Head, encode_query, percent_encode, read_head, render_head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, Self

    Query = Mapping[str, str | list[str]]

NEWEST_VERSION = "1.50"
OLDEST_VERSION = "1.24"
MAX_ERROR_BYTES = 1024 * 1024


def version_tuple(text: str) -> tuple[int, ...]:
    """An API version for comparison: `1.9` is older than `1.41`. What is no number counts as zero."""
    return tuple([int(part) if part.isdigit() else 0 for part in text.split(".")])


class Response:
    """One answer: status, headers and a body that is read at the caller's pace. Closing it early drops the connection."""

    def __init__(self, engine: Engine, connection: Connection, head: Head, method: str) -> None:
        self._engine = engine
        self._connection = connection
        self.status = head.status
        self.headers = head.headers
        self.body = Body(connection, head, method=method)

    def read_all(self) -> bytes:
        """The whole body; the connection goes back for the next request."""
        content = self.body.read_all()
        self.close()
        return content

    def documents(self) -> Iterator[Any]:
        """The JSON documents of a streaming answer, each as soon as it is whole."""
        reader = codec.DocumentReader()
        for data in self.body:
            yield from reader.feed(data)
        if reader.unfinished.strip():
            raise ConnectionFailed("unexpected EOF")

    def close(self) -> None:
        """Keeps the connection when the body is at its end, closes it when not."""
        if self.body.ended and self.body.reusable:
            self._engine._keep(self._connection)
        else:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Pending:
    """A request that has been sent and not yet been answered."""

    __slots__ = ("_connection", "_engine", "_method", "_target")

    def __init__(self, engine: Engine, connection: Connection, method: str, target: str) -> None:
        self._engine = engine
        self._connection = connection
        self._method = method
        self._target = target

    def finish(self) -> int:
        """Waits for the answer; its status. Raises ApiError, ConnectionFailed, ProtocolError."""
        try:
            head = read_head(self._connection)
            response = Response(self._engine, self._connection, head, self._method)
            if head.status >= 400:
                raise self._engine._refused(response, self._target)
            response.body.read_all()
        finally:
            self._connection.close()
        return head.status


class Hijacked:
    """A connection that stopped being HTTP: raw bytes both ways, `multiplexed` saying whether output is framed."""

    __slots__ = ("connection", "media_type")

    def __init__(self, connection: Connection, media_type: str) -> None:
        self.connection = connection
        self.media_type = media_type

    def close(self) -> None:
        self.connection.close()


class Engine:
    """A daemon at an endpoint. Opens connections when needed; `close` lets the kept one go.

    `headers` are sent with every request; `version` pins the API version instead of negotiating it.
    """

    def __init__(
        self, endpoint: Endpoint, *, headers: Mapping[str, str] | None = None, version: str = "", user_agent: str = ""
    ) -> None:
        self.endpoint = endpoint
        self._extra_headers = dict(headers or {})
        self._extra_headers["User-Agent"] = user_agent or "Carrack-Client"
        self._kept: Connection | None = None
        self._version = version
        self._ping_headers: dict[str, str] | None = None
        self.trace: Callable[[str], None] | None = None  # told of every request and its status

    # -- negotiation

    @property
    def version(self) -> str:
        """The API version spoken from now on: the newest both sides know. The first use asks the daemon."""
        if not self._version:
            offered = self.ping().get("api-version") or OLDEST_VERSION
            self._version = min(offered, NEWEST_VERSION, key=version_tuple)
        return self._version

    def speaks(self, version: str) -> bool:
        """Whether the negotiated version is at least `version`."""
        return version_tuple(self.version) >= version_tuple(version)

    @property
    def pinned(self) -> bool:
        """Whether a version is settled already, by negotiation or by the caller."""
        return bool(self._version)

    def ping(self) -> dict[str, str]:
        """The headers of `_ping`: api-version, ostype, builder-version, swarm. Asked once."""
        if self._ping_headers is None:
            with self._exchange("HEAD", "/_ping", {}, b"") as response:
                headers, status = response.headers, response.status
            if status in (404, 405):  # a daemon or proxy without HEAD
                with self._exchange("GET", "/_ping", {}, b"") as response:
                    response.read_all()
                    headers = response.headers
            self._ping_headers = headers
        return self._ping_headers

    # -- requests

    def path(self, path: str, query: Query | None = None) -> str:
        """The request target of an API path: base path, version and query added."""
        target = f"{self.endpoint.base_path}/v{self.version}{path}"
        return f"{target}?{encode_query(query)}" if query else target

    def request(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        document: Any = None,
        content: bytes | Iterable[bytes] | None = None,
        media_type: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Sends one request; the body is a JSON `document` or raw `content` (an iterable is sent chunked as it is made).

        Raises ApiError for a status of 400 or above, ConnectionFailed, ProtocolError.
        """
        sent = dict(headers or {})
        body: bytes | Iterable[bytes] = b""
        if document is not None:
            body = (codec.encode(document, escape_html=True) + "\n").encode("utf-8", "surrogateescape")
            sent["Content-Type"] = "application/json"
        elif content is not None:
            body = content
            sent["Content-Type"] = media_type or "text/plain"
        target = self.path(path, query)
        response = self._exchange(method, target, sent, body)
        if response.status >= 400:
            raise self._refused(response, target)
        return response

    def json(
        self, method: str, path: str, query: Query | None = None, *, document: Any = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """One request whose answer is one JSON document, or None when it has no body."""
        content = self.request(method, path, query, document=document, headers=headers).read_all()
        if not content.strip():
            return None
        try:
            return codec.decode(content)
        except ValueError as error:
            raise ProtocolError(f"the daemon's answer to {method} {path} is not JSON: {error}") from error

    def order(self, method: str, path: str, query: Query | None = None, *, document: Any = None) -> int:
        """One request whose answer says nothing but its status."""
        response = self.request(method, path, query, document=document)
        response.read_all()
        return response.status

    def begin(self, method: str, path: str, query: Query | None = None) -> Pending:
        """Sends a request on a connection of its own and leaves the answer for later: so that several run side by side."""
        target = self.path(path, query)
        connection = connect(self.endpoint)
        try:
            self._send(connection, method, target, {}, b"")
        except ConnectionFailed:
            connection.close()
            raise
        return Pending(self, connection, method, target)

    def hijack(self, path: str, query: Query | None = None, *, document: Any = None) -> Hijacked:
        """POSTs and takes the connection over. The daemon must answer 101. Raises ApiError, ProtocolError, ConnectionFailed."""
        headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
        body = b""
        if document is not None:
            body = (codec.encode(document, escape_html=True) + "\n").encode("utf-8", "surrogateescape")
            headers["Content-Type"] = "application/json"
        else:
            headers["Content-Type"] = "text/plain"
        target = self.path(path, query)
        connection = connect(self.endpoint)
        try:
            self._send(connection, "POST", target, headers, body)
            head = read_head(connection)
            if head.status >= 400:
                raise self._refused(Response(self, connection, head, "POST"), target)
            if head.status not in (101, 200):
                raise ProtocolError(f"unable to upgrade to tcp, received {head.status}")
        except BaseException:
            connection.close()
            raise
        return Hijacked(connection, head.headers.get("content-type", ""))

    def close(self) -> None:
        """Closes the kept connection."""
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    # -- one exchange

    def _exchange(self, method: str, target: str, headers: Mapping[str, str], body: bytes | Iterable[bytes]) -> Response:
        connection = self._take()
        reused = connection is not None
        if connection is None:
            connection = connect(self.endpoint)
        try:
            self._send(connection, method, target, headers, body)
            head = read_head(connection)
        except (ConnectionFailed, ProtocolError) as error:
            connection.close()
            # a kept connection that the daemon closed meanwhile is no failure of this request, if it may be sent again
            if reused and isinstance(error, ConnectionFailed) and method in ("GET", "HEAD"):
                return self._exchange(method, target, headers, body)
            if isinstance(error, ConnectionFailed):
                raise ConnectionFailed(f"error during connect: {error.message}") from error
            raise
        except BaseException:
            connection.close()
            raise
        if self.trace is not None:
            self.trace(f"{method} {target}: {head.status} {head.reason}")
        return Response(self, connection, head, method)

    def _send(
        self, connection: Connection, method: str, target: str, headers: Mapping[str, str], body: bytes | Iterable[bytes]
    ) -> None:
        sent = {"Host": self.endpoint.host_header, **self._extra_headers, **headers}
        if isinstance(body, bytes):
            if body or method in ("POST", "PUT"):
                sent["Content-Length"] = str(len(body))
            connection.send(render_head(method, target, sent) + body)
            return
        sent["Transfer-Encoding"] = "chunked"
        connection.send(render_head(method, target, sent))
        try:
            for piece in body:
                if piece:
                    connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            connection.send(b"0\r\n\r\n")
        except ConnectionFailed:
            # the daemon may refuse early and close: its answer says why, so read it before giving up
            if not _readable(connection):
                raise

    def _take(self) -> Connection | None:
        connection, self._kept = self._kept, None
        if connection is not None and _readable(connection):
            connection.close()  # an idle connection is readable only when the daemon has closed it
            return None
        return connection

    def _keep(self, connection: Connection) -> None:
        if self._kept is None and not connection.closed:
            self._kept = connection
        elif self._kept is not connection:
            connection.close()

    def _refused(self, response: Response, target: str) -> Exception:
        content = b""
        with response:
            while len(content) < MAX_ERROR_BYTES:
                data = response.body.read()
                if not data:
                    break
                content += data
        return refusal(response.status, self._refusal_text(response, content, target))

    def _refusal_text(self, response: Response, content: bytes, target: str) -> str:
        if not content:
            url = f"http://{percent_encode(self.endpoint.path or self.endpoint.host)}{target}"
            asked = f"request returned {response.status} for API route and version {url}"
            return f"{asked}, check if the server supports the requested API version"
        if not response.headers.get("content-type", "").startswith("application/json"):
            return content.decode("utf-8", "replace").strip()
        try:
            message = codec.decode(content).get("message", "")
        except (ValueError, AttributeError):
            return f"Error reading JSON: {content[:200].decode('utf-8', 'replace')}"
        return str(message).strip() or f"API returned a {response.status} but provided no error-message"


def _readable(connection: Connection) -> bool:
    from select import poll

    poller = poll()
    poller.register(connection.fileno(), 1)
    return bool(poller.poll(0))
