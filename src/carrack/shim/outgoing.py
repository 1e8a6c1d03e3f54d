"""Bytes on their way to one client: written at once when its socket takes them, else queued, never blocking anyone."""

from __future__ import annotations

import _socket
from collections import deque
from collections.abc import Callable

from carrack.kernel.loop import GONE, READ, WRITE, Loop

FULL_BYTES = 1024 * 1024
"""From here on a client counts as slow."""
RELIEVED_BYTES = FULL_BYTES // 4
_LAST_READS, _LAST_READ_BYTES = 64, 64 * 1024


class Outgoing:
    """One client's socket. `on_gone` is called once, when the socket is closed: by the client, by an error, or after `finish`."""

    def __init__(self, loop: Loop, sock_fd: int, on_gone: Callable[[], None]) -> None:
        """Takes ownership of `sock_fd`."""
        self._loop = loop
        self._sock = _socket.socket(fileno=sock_fd)
        self._sock.setblocking(False)
        self._fd = sock_fd
        self._on_gone = on_gone
        self._queue: deque[bytes] = deque()
        self._interest = -1
        self._extra_interest = 0
        self._finishing = False
        self._hung_up = False
        self.closed = False
        self.queued_bytes = 0
        self.on_input: Callable[[], None] | None = None
        self.on_relieved: Callable[[], None] | None = None
        self.on_peer_closed: Callable[[], None] | None = None
        self.wants_input: Callable[[], bool] = lambda: False
        """Whether what the client sent before it went is still to be read."""
        self._update()

    @property
    def fd(self) -> int:
        return self._fd

    @property
    def is_full(self) -> bool:
        return self.queued_bytes >= FULL_BYTES

    def listen_to(self, events: int) -> None:
        """Be told of these events too: READ → `on_input`, PEER_CLOSED → `on_peer_closed`."""
        self._extra_interest = events
        self._update()

    def receive(self, size: int) -> bytes | None:
        """What the client has sent; empty at the end of its input, None when there is nothing now."""
        try:
            return self._sock.recv(size)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def write(self, *parts: bytes | memoryview) -> None:
        """Send, or queue a copy of what the socket does not take."""
        if self.closed or self._finishing or self._hung_up:
            return
        sent = 0
        if not self._queue:
            try:
                sent = self._sock.sendmsg(parts, [], _socket.MSG_NOSIGNAL)
            except BlockingIOError:
                pass
            except OSError:
                self.close()
                return
        for part in parts:
            if sent >= len(part):
                sent -= len(part)
                continue
            rest = bytes(part[sent:])
            sent = 0
            self._queue.append(rest)
            self.queued_bytes += len(rest)
        if self._queue:
            self._update()

    def finish(self) -> None:
        """Close as soon as everything is written."""
        self._finishing = True
        if not self._queue:
            self.close()
        else:
            self.listen_to(0)

    def let_go(self) -> None:
        """Close our descriptor and leave the connection to whoever has another."""
        if not self.closed:
            self.closed = True
            self._queue.clear()
            self._loop.forget(self._fd)
            self._sock.close()
            self._on_gone()

    def close(self) -> None:
        """Close the socket at once; what is queued is dropped. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self._queue.clear()
        self._loop.forget(self._fd)
        try:
            self._sock.shutdown(_socket.SHUT_RDWR)
            self._drop_input()
        except OSError:
            pass
        self._sock.close()
        self._on_gone()

    def _drop_input(self) -> None:
        """Read what nobody wants: closed with bytes unread, a socket ends with "connection reset" for its client, not with EOF.

        After the shutdown no more can come on a unix socket; the bound is for TCP.
        """
        for _ in range(_LAST_READS):
            if not self._sock.recv(_LAST_READ_BYTES):
                return

    def _update(self) -> None:
        interest = self._extra_interest | (WRITE if self._queue else 0)
        if self._hung_up and interest & READ:
            self._loop.call_soon(self._read_the_rest)
        if interest == self._interest or self.closed or self._hung_up:
            return
        if self._interest < 0:
            self._loop.watch(self._fd, interest, self._events)
        else:
            self._loop.change(self._fd, interest)
        self._interest = interest

    def _events(self, events: int) -> None:
        if events & READ and self._extra_interest & READ and self.on_input is not None:
            self.on_input()
        if events & WRITE and not self.closed:
            self._flush()
        if events & GONE and not self.closed:
            self._peer_is_gone()
        elif events & self._extra_interest & ~READ and not self.closed and self.on_peer_closed is not None:
            self.on_peer_closed()

    def _peer_is_gone(self) -> None:
        """Nobody reads any more. What was sent before is read yet, as fast as it is wanted."""
        self._hung_up = True
        self._loop.forget(self._fd)
        self._queue.clear()
        self.queued_bytes = 0
        if self.on_relieved is not None:
            self.on_relieved()
        self._read_the_rest()

    def _read_the_rest(self) -> None:
        while not self.closed and self._extra_interest & READ and self.on_input is not None:
            self.on_input()
        if not self.closed and not self.wants_input():
            self.close()

    def _flush(self) -> None:
        while self._queue:
            try:
                sent = self._sock.send(self._queue[0], _socket.MSG_NOSIGNAL)
            except BlockingIOError:
                break
            except OSError:
                self.close()
                return
            self.queued_bytes -= sent
            if sent < len(self._queue[0]):
                self._queue[0] = self._queue[0][sent:]
            else:
                self._queue.popleft()
        if self.queued_bytes < RELIEVED_BYTES and self.on_relieved is not None:
            self.on_relieved()
        if not self._queue and self._finishing:
            self.close()
        else:
            self._update()
