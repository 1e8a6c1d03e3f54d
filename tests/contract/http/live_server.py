"""A server on a real unix or TCP socket, its loop in a thread of its own, and a client that is nothing but a socket."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from carrack.http import Handler, Limits, Observer, Server, serve, tls_below

T = TypeVar("T")


class LiveServer:
    """Serves until the block ends."""

    def __init__(
        self,
        handler: Handler,
        address: Path | None,
        limits: Limits | None = None,
        new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
        observer: Observer | None = None,
        *,
        certificates: Certificates | None = None,
    ) -> None:
        self._certificates = certificates
        self.is_encrypted = certificates is not None
        self._observer = observer
        self._handler = handler
        self._limits = limits
        self.loop = new_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        if address is None:
            self.listener = socket.create_server(("127.0.0.1", 0))
        else:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(address))
            self.listener.listen(64)
        self.address = self.listener.getsockname()
        self.server: Server

    def run(self, order: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the server's loop and wait for it."""
        return asyncio.run_coroutine_threadsafe(order, self.loop).result(20)

    def __enter__(self) -> Self:
        self._thread.start()
        wrap = None if self._certificates is None else tls_below(self._certificates.server)
        self.server = self.run(serve(self._handler, self.listener, limits=self._limits, observer=self._observer, wrap=wrap))
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.server.close(0.0))
        self.run(_settle())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def connect(self) -> Client:
        """A new connection."""
        return Client(self.address, None if self._certificates is None else self._certificates.client)


async def _settle() -> None:
    # transports tell their end in the round after
    for _ in range(3):
        await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Certificates:
    """The two ends of TLS."""

    server: ssl.SSLContext
    client: ssl.SSLContext


class TlsSocket:
    """A socket's few methods over TLS; `shutdown` sends close_notify and leaves the other direction open, as Go's CloseWrite."""

    def __init__(self, plain: socket.socket, context: ssl.SSLContext) -> None:
        self.plain = plain
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self._held = self._unsent = b""
        self._owes = False
        self._lock = threading.Lock()  # one thread may send while another receives
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._incoming.write(self.plain.recv(1 << 16))
        self._flush()

    def sendall(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            with self._lock:
                view = view[self._tls.write(view[:65536]) :]
            self._flush()  # without the lock: the other thread must be able to read meanwhile

    def send(self, data: bytes) -> int:
        """One piece, when the one before it has left; BlockingIOError as a socket that does not block has it."""
        self._owes = True
        with self._lock:
            self._unsent += self._outgoing.read()
            while self._unsent:
                self._unsent = self._unsent[self.plain.send(self._unsent) :]
            return self._tls.write(data[:16384])

    def recv(self, size: int) -> bytes:
        while True:
            with self._lock:
                if self._held:
                    taken, self._held = self._held[:size], self._held[size:]
                    return taken
                try:
                    return self._tls.read(size)
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLZeroReturnError:
                    return b""
            if self._owes:
                self._owes = False
                self._flush()
            data = self.plain.recv(1 << 16)
            if not data:
                raise ConnectionResetError("cut off without close_notify")
            with self._lock:
                self._incoming.write(data)

    def shutdown(self, how: int) -> None:
        with self._lock:
            try:
                while piece := self._tls.read(65536):  # what is not taken before, OpenSSL's shutdown loses
                    self._held += piece
            except ssl.SSLError:
                pass
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass
            self._flush()

    def settimeout(self, seconds: float) -> None:
        self.plain.settimeout(seconds)

    def setblocking(self, blocking: bool) -> None:
        self.plain.setblocking(blocking)

    def getsockname(self) -> object:
        return self.plain.getsockname()

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        self.plain.setsockopt(level, option, value)

    def close(self) -> None:
        self.plain.close()

    def _flush(self) -> None:
        data, self._unsent = self._unsent + self._outgoing.read(), b""
        if data:  # only the thread that writes comes here
            self.plain.sendall(data)


class Client:
    """One connection, seen from the other side."""

    def __init__(self, address: str | tuple[str, int], context: ssl.SSLContext | None = None) -> None:
        plain = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        plain.settimeout(20)
        plain.connect(address)
        self.socket = plain if context is None else cast(socket.socket, TlsSocket(plain, context))
        self.unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *lines: str, body: bytes = b"") -> None:
        """A head of these lines, then the body, in one segment."""
        self.socket.sendall("\r\n".join((*lines, "", "")).encode() + body)

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def until(self, mark: bytes) -> bytes:
        """What comes up to and with the mark."""
        while mark not in self.unread:
            piece = self.socket.recv(65536)
            assert piece, f"connection ended before {mark!r}: {self.unread!r}"
            self.unread += piece
        found, _, self.unread = self.unread.partition(mark)
        return found + mark

    def exactly(self, size: int) -> bytes:
        """The next so many bytes."""
        while len(self.unread) < size:
            piece = self.socket.recv(65536)
            assert piece, f"connection ended: {self.unread!r}"
            self.unread += piece
        found, self.unread = self.unread[:size], self.unread[size:]
        return found

    def rest(self) -> bytes:
        """Everything to the end of the connection."""
        pieces = [self.unread]
        self.unread = b""
        while piece := self.socket.recv(65536):
            pieces.append(piece)
        return b"".join(pieces)

    def head(self) -> tuple[str, dict[str, str]]:
        """A response's status line and headers (names in small letters)."""
        status, *lines = self.until(b"\r\n\r\n").decode("latin-1").rstrip().split("\r\n")
        return status, {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    def chunk(self) -> bytes:
        """The next chunk of a chunked body; empty: the end."""
        size = int(self.until(b"\r\n"), 16)
        return self.exactly(size + 2)[:-2]

    def body(self, headers: dict[str, str]) -> bytes:
        """A body as its headers delimit it."""
        if headers.get("transfer-encoding") == "chunked":
            pieces = []
            while piece := self.chunk():
                pieces.append(piece)
            return b"".join(pieces)
        if "content-length" in headers:
            return self.exactly(int(headers["content-length"]))
        return self.rest()

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """A whole response."""
        line, headers = self.head()
        status = int(line.split()[1])
        return status, headers, b"" if status in (204, 304) else self.body(headers)
