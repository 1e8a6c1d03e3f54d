"""The shim's side of its conversation with a carrackd: orders in, reports out, neither ever waiting for the other."""

from __future__ import annotations

import _socket
import os
from collections import deque
from collections.abc import Callable, Sequence

from carrack.errors import SystemFailure
from carrack.kernel.loop import READ, WRITE, Loop
from carrack.shim import wire
from carrack.shim.messages import Message

OnMessage = Callable[["Conversation", Message, list[int]], None]


class Conversation:
    """Takes ownership of the socket. `on_end` is called when the other side has gone or broken the protocol."""

    def __init__(self, loop: Loop, sock: _socket.socket, on_message: OnMessage, on_end: Callable[[Conversation], None]) -> None:
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        sock.setblocking(False)
        self._on_message = on_message
        self._on_end = on_end
        self._outbox: deque[tuple[Message, tuple[int, ...]]] = deque()
        self.open = True
        loop.watch(self._fd, READ, self._events)

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send, or queue with copies of the descriptors."""
        if not self.open:
            return
        if not self._outbox and self._sent(message, fds):
            return
        if self.open:
            self._outbox.append((message, tuple(os.dup(fd) for fd in fds)))
            self._loop.change(self._fd, READ | WRITE)

    @property
    def fd(self) -> int:
        return self._fd

    @property
    def has_unsent(self) -> bool:
        return bool(self._outbox)

    def close(self) -> None:
        """Close the socket; what is not sent yet is dropped, its descriptors closed. Idempotent."""
        if not self.open:
            return
        self.open = False
        self._loop.forget(self._fd)
        for _, fds in self._outbox:
            wire.close_all(fds)
        self._outbox.clear()
        self._sock.close()

    def _sent(self, message: Message, fds: Sequence[int]) -> bool:
        try:
            wire.send(self._sock, message, fds)
        except BlockingIOError:
            return False
        except OSError:
            self._ended()
        return True

    def _events(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if events & ~WRITE:
            self._receive()

    def _flush(self) -> None:
        while self._outbox and self._sent(*self._outbox[0]):
            if self.open:
                wire.close_all(self._outbox.popleft()[1])
        if self.open and not self._outbox:
            self._loop.change(self._fd, READ)

    def _receive(self) -> None:
        """One message: the next has to wait for whoever else has something to say."""
        if not self.open:
            return
        try:
            message, fds = wire.receive(self._sock)
        except BlockingIOError:
            return
        except (OSError, EOFError, SystemFailure):
            self._ended()
            return
        self._on_message(self, message, fds)

    def _ended(self) -> None:
        if self.open:
            self.close()
            self._on_end(self)
