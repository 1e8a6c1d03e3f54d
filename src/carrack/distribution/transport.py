"""HTTP/1.1 to registries: kept connections, proxies, redirects that leave credentials behind, time limits.

One request at a time per connection; threads share the idle ones. What comes back is a stream, never a whole body by itself.
"""

from __future__ import annotations

import errno
import http.client
import os
import socket
import ssl
import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from urllib.parse import SplitResult, urljoin, urlsplit

from carrack import __version__
from carrack.distribution.cancellation import Cancellation
from carrack.distribution.hosts import BELIEVING, Trust
from carrack.distribution.proxies import proxy_for
from carrack.errors import InvalidParameter, Unavailable

CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60
_REDIRECTS = 5
_UNWANTED_BYTES = 64 << 10
"""How much of a body that says nothing is read, so that its connection can be kept."""
_IDLE_LIMIT, _IDLE_SECONDS = 32, 60.0
"""How many connections are kept for later, and how long. A registry may send us on to as many hosts as it likes."""
_REDIRECT_STATUSES = frozenset((301, 302, 303, 307, 308))
_PRODUCT = f"carrack/{__version__}"

Body = bytes | Iterator[bytes]


class TransportFailure(Unavailable):
    """The connection could not be made, or broke: worth another try."""


class CertificateRefused(Unavailable):
    """The other side cannot prove who it is, or does not speak TLS."""


class Answer:
    """A response on its way in. Read to the end, or closed, by who asked."""

    def __init__(self, pool: Transport, key: _Key, exchange: _Exchange, response: http.client.HTTPResponse, url: str) -> None:
        self._pool = pool
        self._key = key
        self._exchange = exchange
        self._response = response
        self.url = url
        self.status = response.status

    def header(self, name: str) -> str:
        """The value of a header field, empty when absent."""
        return self._response.getheader(name) or ""

    def headers(self, name: str) -> list[str]:
        """Every value of a header field."""
        return self._response.headers.get_all(name) or []

    def pieces(self) -> Generator[bytes, None, None]:
        """The body as it comes. Raises TransportFailure when it breaks off, Cancelled. Leaving early closes the connection."""
        whole = False
        try:
            while piece := self._response.read1(CHUNK_BYTES):
                yield piece
            if self._response.length:
                raise TransportFailure(f"{self.url}: connection closed in the middle of the answer")
            self._exchange.check()
            whole = True
        except (OSError, http.client.HTTPException) as error:
            raise TransportFailure(f"{self.url}: {_reason(error)}") from error
        finally:
            if not whole:
                self.close()
        self._release()

    def finish(self) -> None:
        """Have done with an answer whose body says nothing: that of a redirect, say. One without an end is not waited for."""
        left = _UNWANTED_BYTES
        for piece in (pieces := self.pieces()):
            left -= len(piece)
            if left < 0:
                pieces.close()

    def read(self, limit_bytes: int) -> bytes:
        """A small body. Raises InvalidParameter when it is larger, TransportFailure."""
        content = b""
        for piece in self.pieces():
            content += piece
            if len(content) > limit_bytes:
                self.close()
                raise InvalidParameter(f"{self.url}: answer is larger than {limit_bytes} bytes")
        return content

    def close(self) -> None:
        """Leave the rest unread. Idempotent."""
        self._response.close()
        self._exchange.close()

    def _release(self) -> None:
        self._response.close()  # read to its end, but http.client does not notice that of an empty body
        if self._response.will_close:
            self._exchange.close()
        else:
            self._exchange.end()
            self._pool.keep(self._key, self._exchange.connection)


class _Exchange:
    """A connection that is in use. Who takes the work back breaks it, however long the other side would keep us waiting."""

    def __init__(self, connection: http.client.HTTPConnection, cancel: Cancellation | None) -> None:
        self.connection = connection
        self._cancel = cancel
        self._connected: socket.socket | None = None
        if cancel is not None:
            cancel.listen(self.interrupt)

    def interrupt(self) -> None:
        """Have whoever reads or writes hear that the connection is gone; from any thread."""
        connected = self._connected or self.connection.sock
        if connected is not None:
            with suppress(OSError):
                socket.socket.shutdown(connected, socket.SHUT_RDWR)  # not TLS's own, which belongs to the thread that reads

    def sent(self) -> None:
        """The request is on its way. Raises Cancelled: for a connection that was made only after the cancellation."""
        self._connected = self.connection.sock  # http.client forgets it when the answer is to be its last
        self.check()

    def check(self) -> None:
        """Raises Cancelled: a head or body that we broke ends as one does that has no length."""
        if self._cancel is not None:
            self._cancel.check()

    def end(self) -> None:
        if self._cancel is not None:
            self._cancel.ignore(self.interrupt)

    def close(self) -> None:
        self.end()
        self.connection.close()


_Key = tuple[str, str, Trust]


class Transport:
    """Connections to any number of hosts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[float, _Key, http.client.HTTPConnection]] = []
        """The oldest first, each with the moment from which it lay idle."""

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        body: Body | None = None,
        length: int | None = None,
        trust: Trust = BELIEVING,
        cancel: Cancellation | None = None,
        to_plain: bool = False,
    ) -> Answer:
        """Send one request and give the answer's beginning. Redirects of GET and HEAD are followed.

        `body` as an iterator needs its `length`. An Authorization field goes to the host of `url` and no other.
        `to_plain`: a redirect may lead from https to http. `cancel` breaks the connection, whatever it waits for. Raises
        TransportFailure, CertificateRefused, Cancelled, InvalidParameter for what is no URL or a redirect that cannot be followed.
        """
        fields = {"User-Agent": _PRODUCT, "Accept-Encoding": "identity", **headers}
        origin = split(url)[:2]
        for _ in range(_REDIRECTS + 1):
            answer = self._once(method, url, fields, body, length, trust, cancel)
            if answer.status not in _REDIRECT_STATUSES or method not in ("GET", "HEAD"):
                return answer
            location = answer.header("Location")
            answer.finish()
            target = joined(url, location)
            downgraded = url.startswith("https:") and target.startswith("http:") and not to_plain
            if split(target).scheme not in ("http", "https") or downgraded:
                raise InvalidParameter(f"{redacted(url)}: refusing the redirect to {redacted(target)}")
            if split(target)[:2] != origin:
                fields.pop("Authorization", None)
                trust = BELIEVING  # our own certificate is for the registry, not for where it keeps its blobs
            url = target
        raise InvalidParameter(f"{redacted(url)}: too many redirects")

    def keep(self, key: _Key, connection: http.client.HTTPConnection) -> None:
        """Take a connection back; answers do this themselves."""
        now = time.monotonic()
        with self._lock:
            self._idle.append((now, key, connection))
            first = max(0, len(self._idle) - _IDLE_LIMIT)
            while self._idle[first][0] < now - _IDLE_SECONDS:
                first += 1
            old, self._idle = self._idle[:first], self._idle[first:]
        for _, _, each in old:
            each.close()

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, _, connection in idle:
            connection.close()

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None,
        length: int | None,
        trust: Trust,
        cancel: Cancellation | None,
    ) -> Answer:
        parts = split(url)
        key = (parts.scheme, parts.netloc, trust)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        fields = dict(headers)
        proxy = proxy_for("http", _name(parts)) if parts.scheme == "http" else None
        if proxy is not None:  # it is asked itself, and so has to be told of whom (RFC 9112, 3.2.2)
            path = f"http://{_name(parts)}{path or '/'}"
            fields |= proxy.fields
        if length is not None:
            fields["Content-Length"] = str(length)
        elif body is None and method in ("POST", "PUT", "PATCH"):
            fields["Content-Length"] = "0"
        kept = self._take(key)
        if kept is not None and (body is None or isinstance(body, bytes)):
            try:
                return self._exchange(_Exchange(kept, cancel), key, method, url, path, fields, body)
            except TransportFailure:
                if cancel is not None:
                    cancel.check()
                # it had been closed while it lay idle: once more on a new one
        elif kept is not None:
            kept.close()
        connection = _connect(parts.scheme, parts.netloc, trust)
        return self._exchange(_Exchange(connection, cancel), key, method, url, path, fields, body)

    def _exchange(
        self,
        exchange: _Exchange,
        key: _Key,
        method: str,
        url: str,
        path: str,
        fields: Mapping[str, str],
        body: Body | None,
    ) -> Answer:
        connection = exchange.connection
        try:
            connection.request(method, path, body=body, headers=fields)
            exchange.sent()
            response = connection.getresponse()
            exchange.check()
            return Answer(self, key, exchange, response, redacted(url))
        except ssl.SSLError as error:
            exchange.close()
            raise CertificateRefused(f"{redacted(url)}: {_reason(error)}{_untrusted(url, error)}") from error
        except (OSError, http.client.HTTPException) as error:
            exchange.close()
            raise TransportFailure(f"{redacted(url)}: {_reason(error)}{_by_way(url, error)}") from error
        except (ValueError, OverflowError) as error:  # a redirect to port 99999, a token with a line break in it
            exchange.close()
            raise InvalidParameter(f"{redacted(url)}: cannot be asked for: {error}") from error
        except BaseException:
            exchange.close()
            raise

    def _take(self, key: _Key) -> http.client.HTTPConnection | None:
        with self._lock:
            for position in reversed(range(len(self._idle))):
                if self._idle[position][1] == key:
                    return self._idle.pop(position)[2]
        return None


def split(url: str) -> SplitResult:
    """A URL in its parts. Raises InvalidParameter for what is none."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # looks at it
    except ValueError as error:
        raise InvalidParameter(f"{url[:200]!r} is no URL: {error}") from error
    return parts


def joined(base: str, location: str) -> str:
    """Where a relative reference leads. Raises InvalidParameter for what is none."""
    try:
        return urljoin(base, location)
    except ValueError as error:
        raise InvalidParameter(f"{redacted(base)} leads to {location[:200]!r}, which is no URL: {error}") from error


def redacted(url: str) -> str:
    """A URL without its query and its user: either may carry a secret."""
    parts = split(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _by_way(url: str, error: Exception) -> str:
    """For who has to set the proxy right: which one was used, or that none was where nothing could be reached at all."""
    parts = split(url)
    proxy = proxy_for(parts.scheme, _name(parts))
    if proxy is not None:
        return f" (by way of the proxy {proxy.url})"
    unreachable = isinstance(error, socket.gaierror | TimeoutError) or getattr(error, "errno", 0) == errno.ENETUNREACH
    return ' (behind a proxy? say so in daemon.json: "proxies")' if unreachable else ""


def _untrusted(url: str, error: ssl.SSLError) -> str:
    """What to do about a certificate that no authority known here has signed: that of a company's registry, or of its proxy."""
    if not isinstance(error, ssl.SSLCertVerificationError) or error.verify_code not in (18, 19, 20, 21):
        return ""
    host = _name(split(url))
    return (
        f" (signed by an authority of your own? put its certificate into /etc/carrack/certs.d/{host}/ca.crt, or "
        "among this system's: update-ca-certificates)"
    )


def _name(parts: SplitResult) -> str:
    """Host and port without a user."""
    return parts.netloc.rpartition("@")[2]


def _connect(scheme: str, host: str, trust: Trust) -> http.client.HTTPConnection:
    """A connection to be opened, through the proxy that the environment names."""
    name = host.rpartition("@")[2]
    proxy = proxy_for(scheme, name)
    if proxy is None:
        return _direct(scheme, name, trust)
    through = _direct(scheme, proxy.address, trust)
    if scheme == "https":
        through.set_tunnel(*_host_port(name, 443), headers=proxy.fields)
    return through


def _direct(scheme: str, host: str, trust: Trust) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(host, timeout=_TIMEOUT_SECONDS, context=_context(trust), blocksize=CHUNK_BYTES)
    return http.client.HTTPConnection(host, timeout=_TIMEOUT_SECONDS, blocksize=CHUNK_BYTES)


def _host_port(host: str, default: int) -> tuple[str, int]:
    parts = urlsplit(f"//{host}")
    return parts.hostname or "", parts.port or default


_contexts: dict[tuple[Trust, tuple[str, ...], tuple[int, ...]], ssl.SSLContext] = {}


def _context(trust: Trust) -> ssl.SSLContext:
    """Reading certificates takes long enough to do it once for each state of the files. Raises CertificateRefused."""
    places = (*trust.ca, trust.client_cert, trust.client_key, os.environ.get("SSL_CERT_FILE", ""))
    named = tuple(path for path in places if path)
    try:
        key = (trust, named, tuple(os.stat(path).st_mtime_ns for path in named))
        context = _contexts.get(key)
        if context is None:
            context = _contexts[key] = _new_context(trust)
        return context
    except (OSError, ssl.SSLError) as error:
        raise CertificateRefused(f"cannot use {', '.join(named) or 'the certificates of this system'}: {_reason(error)}") from error


def _new_context(trust: Trust) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))
    for path in trust.ca:
        context.load_verify_locations(path)
    if trust.client_cert:
        context.load_cert_chain(trust.client_cert, trust.client_key)
    if not trust.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
