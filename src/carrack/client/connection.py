"""One open byte stream to a daemon, with a read buffer and a half-close. Everything above it is sans-socket.

Uses the C module `_socket` directly: the `socket` module costs 6 ms of import (it brings `selectors` and `enum`). The
connection owns its descriptor and closes it once. TLS and ssh live in modules of their own, imported when an address asks.
"""

from __future__ import annotations

import _socket
import errno

from carrack.client.failure import ConnectionFailed, ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from carrack.client.endpoint import Endpoint

    class ByteStream(Protocol):
        """What a connection needs from a socket."""

        def fileno(self) -> int: ...

        def recv(self, size: int, /) -> bytes:
            """What has arrived, at most `size` bytes; empty at the other side's end. Blocks. Raises OSError."""

        def sendall(self, data: bytes, /) -> None:
            """Send all of it. Blocks. Raises OSError."""

        def shutdown(self, how: int, /) -> None:
            """End the sending side; the reading one stays open."""

        def send_some(self, data: bytes, /) -> int:
            """Send what the kernel takes now; how many bytes that was, perhaps 0."""

        def close(self) -> None:
            """Close both sides. Idempotent."""

    class Socket(Protocol):
        """What a connection needs from a plain socket, a `ByteStream` without a `send_some` of its own."""

        def fileno(self) -> int: ...
        def recv(self, size: int, /) -> bytes: ...
        def sendall(self, data: bytes, /) -> None: ...
        def send(self, data: bytes, flags: int = ..., /) -> int: ...
        def shutdown(self, how: int, /) -> None: ...
        def close(self) -> None: ...


RECEIVE_BYTES = 65536
MAX_LINE_BYTES = 65536
CONNECT_TIMEOUT_SECONDS = 30.0


class Connection:
    """A stream with its unread bytes. Reads raise ConnectionFailed when the other side is gone."""

    __slots__ = ("_buffer", "_stream", "closed")

    def __init__(self, stream: ByteStream | Socket, buffered: bytes = b"") -> None:
        self._stream = stream
        self._buffer = buffered
        self.closed = False

    def fileno(self) -> int:
        """The descriptor to poll; readable data may also wait in the buffer (`buffered`)."""
        return self._stream.fileno()

    @property
    def buffered(self) -> bool:
        """Whether a read would return without touching the socket."""
        return bool(self._buffer) or bool(getattr(self._stream, "pending", False))

    def send(self, data: bytes) -> None:
        """Sends everything. Raises ConnectionFailed when the daemon has closed its side."""
        try:
            self._stream.sendall(data)
        except OSError as error:
            raise ConnectionFailed(f"write to the daemon: {_reason(error)}") from error

    def send_some(self, data: bytes) -> int:
        """Sends what the kernel takes at once and says how much that was; never waits. Raises ConnectionFailed."""
        some = getattr(self._stream, "send_some", None)
        try:
            sent: int = some(data) if some else self._stream.send(data, _socket.MSG_DONTWAIT)  # type: ignore[union-attr]
        except BlockingIOError:
            return 0
        except OSError as error:
            raise ConnectionFailed(f"write to the daemon: {_reason(error)}") from error
        return sent

    def receive(self, size: int = RECEIVE_BYTES) -> bytes:
        """At least one byte, at most `size`; empty at the end of the stream."""
        if self._buffer:
            taken, self._buffer = self._buffer[:size], self._buffer[size:]
            return taken
        return self._fill(size)

    def read_line(self) -> bytes:
        """One line without its line break. Raises ProtocolError past 64 KiB, ConnectionFailed at the end of the stream."""
        while True:
            line, found, rest = self._buffer.partition(b"\n")
            if found:
                self._buffer = rest
                return line.removesuffix(b"\r")
            if len(self._buffer) > MAX_LINE_BYTES:
                raise ProtocolError("the daemon sent a header line over 64 KiB")
            more = self._fill(RECEIVE_BYTES)
            if not more:
                raise ConnectionFailed("unexpected EOF" if self._buffer else "EOF")
            self._buffer += more

    def half_close(self) -> None:
        """Tells the daemon that nothing more comes, and stays open for reading."""
        try:
            self._stream.shutdown(_socket.SHUT_WR)
        except OSError:
            pass  # the daemon closed first: nothing is left to tell it

    def close(self) -> None:
        """Closes the descriptor; safe to call again."""
        if not self.closed:
            self.closed = True
            self._stream.close()

    def _fill(self, size: int) -> bytes:
        try:
            return self._stream.recv(size)
        except OSError as error:
            if error.errno == errno.ECONNRESET:
                return b""
            raise ConnectionFailed(f"read from the daemon: {_reason(error)}") from error


def connect(endpoint: Endpoint) -> Connection:
    """Opens a connection. Raises ConnectionFailed with the sentence Docker's command prints when nobody listens."""
    if endpoint.scheme == "ssh":
        from carrack.client.ssh import open_ssh

        return Connection(open_ssh(endpoint))
    try:
        stream = _connect_unix(endpoint.path) if endpoint.scheme == "unix" else _connect_tcp(endpoint.host, endpoint.port)
    except OSError as error:
        raise _unreachable(endpoint, error) from error
    if endpoint.tls is None:
        return Connection(stream)
    from carrack.client.tls import open_tls

    return Connection(open_tls(stream, endpoint))


def _connect_unix(path: str) -> _socket.socket:
    stream = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)
    try:
        stream.connect("\0" + path[1:] if path.startswith("@") else path)
    except OSError:
        stream.close()
        raise
    return stream


def _connect_tcp(host: str, port: int) -> _socket.socket:
    failure: OSError | None = None
    for family, kind, protocol, _, address in _socket.getaddrinfo(host, port, 0, _socket.SOCK_STREAM):
        stream = _socket.socket(family, kind, protocol)
        try:
            stream.settimeout(CONNECT_TIMEOUT_SECONDS)
            stream.connect(address)
            stream.settimeout(None)
            stream.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            return stream
        except OSError as error:
            stream.close()
            failure = error
    raise failure or OSError(errno.EADDRNOTAVAIL, f"no address for {host}")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _whose(path: str) -> str:
    """What a user must be to be let in."""
    import grp
    import os

    try:
        group = grp.getgrgid(os.stat(path).st_gid).gr_name
    except (OSError, KeyError):
        return ""
    if group in ("root", "wheel"):
        return " (use sudo)"
    return f" (use sudo, or become a member of the group {group}: usermod -aG {group} USER, and log in again)"


def _unreachable(endpoint: Endpoint, error: OSError) -> ConnectionFailed:
    if error.errno in (errno.EACCES, errno.EPERM):
        dialled = f"dial unix {endpoint.path}: connect: permission denied"
        return ConnectionFailed(
            f"permission denied while trying to connect to the Carrack daemon socket at {endpoint.text}: {dialled}"
            f"{_whose(endpoint.path)}"
        )
    if isinstance(error, _socket.gaierror) or error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT):
        return ConnectionFailed(f"Cannot connect to the Carrack daemon at {endpoint.text}: {_reason(error)}")
    return ConnectionFailed(
        f"Cannot connect to the Carrack daemon at {endpoint.text}. Is the carrack daemon running?{endpoint.hint}"
    )
