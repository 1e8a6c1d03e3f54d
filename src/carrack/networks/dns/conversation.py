"""One relayed TCP connection: two sockets, each copied to the other until both have ended; a side that breaks is told to the other
by a reset."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable

from carrack.kernel.loop import READ, WRITE, Loop

_COPY_BYTES = 1 << 18
_CONNECT_SECONDS = 10.0
_RESET = struct.pack("ii", 1, 0)
_chunk: list[memoryview] = []
"""What is being copied this moment, shared by all: made with the first connection."""


class _Side:
    """One end: what waits to be written to it, and what it still may say."""

    __slots__ = ("backlog", "events", "open", "socket")

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.backlog = b""
        self.open = True
        """Its stream has not ended."""
        self.events = 0
        """What the loop watches it for; 0: it is not watched, lest a hang-up that changes nothing be told again and again."""


class Conversation:
    """Begins with `begin`, ends by itself or by `close`; `gone` is told once."""

    def __init__(self, loop: Loop, client: socket.socket, target: tuple[str, int], gone: Callable[[Conversation], None]) -> None:
        self._loop = loop
        self._target = target
        self._gone = gone
        self._client = _Side(client)
        family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self._container = _Side(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        self._connected = False
        self._closed = False
        self._patience = loop.call_later(_CONNECT_SECONDS, self._break)
        client.setblocking(False)

    def begin(self) -> None:
        """Connect to the container; what the client says meanwhile waits in its socket."""
        number = self._container.socket.connect_ex(self._target)
        if number not in (0, errno.EINPROGRESS):
            self._break()
        else:
            self._watch(self._container, WRITE)

    def close(self) -> None:
        """End it as it is. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._patience.cancel()
        for side in (self._client, self._container):
            self._watch(side, 0)
            side.socket.close()
        self._gone(self)

    def _break(self) -> None:
        if not self._closed:
            for side in (self._client, self._container):
                side.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.close()

    def _watch(self, side: _Side, events: int) -> None:
        if events == side.events:
            return
        fd = side.socket.fileno()
        if not side.events:
            other = self._client if side is self._container else self._container
            self._loop.watch(fd, events, lambda _: self._ready(side, other))
        elif events:
            self._loop.change(fd, events)
        else:
            self._loop.forget(fd)
        side.events = events

    def _ready(self, side: _Side, other: _Side) -> None:
        if self._closed:
            return
        try:
            if not self._connected:
                self._finish_connecting()
            if side.backlog:
                self._flush(side, other)
            if side.open and not other.backlog:
                self._copy(side, other)
        except OSError:
            self._break()
            return
        if not (self._client.open or self._container.open or self._client.backlog or self._container.backlog):
            self.close()
            return
        for each, opposite in ((side, other), (other, side)):
            self._watch(each, (READ if each.open and not opposite.backlog else 0) | (WRITE if each.backlog else 0))

    def _finish_connecting(self) -> None:
        if number := self._container.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(number, os.strerror(number))
        self._connected = True
        self._patience.cancel()
        for each in (self._client, self._container):
            each.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _copy(self, source: _Side, target: _Side) -> None:
        """Move what has come, once: the others have their turn."""
        if not _chunk:
            _chunk.append(memoryview(bytearray(_COPY_BYTES)))
        chunk = _chunk[0]
        try:
            count = source.socket.recv_into(chunk)
        except (BlockingIOError, InterruptedError):
            return
        if not count:
            source.open = False
            target.socket.shutdown(socket.SHUT_WR)
            return
        sent = _send(target, chunk[:count])
        if sent < count:
            target.backlog = bytes(chunk[sent:count])

    def _flush(self, side: _Side, source: _Side) -> None:
        side.backlog = side.backlog[_send(side, side.backlog) :]


def _send(side: _Side, content: bytes | memoryview) -> int:
    try:
        return side.socket.send(content)
    except (BlockingIOError, InterruptedError):
        return 0
