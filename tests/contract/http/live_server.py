"""A server on a real unix or TCP socket, its loop in a thread of its own, and a client that is nothing but a socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self, TypeVar

from carrack.http import Handler, Limits, Observer, Server, serve

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
    ) -> None:
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
        self.server = self.run(serve(self._handler, self.listener, limits=self._limits, observer=self._observer))
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.server.close(0.0))
        self.run(_settle())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def connect(self) -> Client:
        """A new connection."""
        return Client(self.address)


async def _settle() -> None:
    # transports tell their end in the round after
    for _ in range(3):
        await asyncio.sleep(0)


class Client:
    """One connection, seen from the other side."""

    def __init__(self, address: str | tuple[str, int]) -> None:
        self.socket = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.socket.settimeout(20)
        self.socket.connect(address)
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
