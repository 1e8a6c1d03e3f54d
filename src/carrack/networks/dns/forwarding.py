"""Questions that the table does not answer, asked of the servers that the container's `--dns` (or the host) names.

A question is handed on as it came, its identifier replaced by a random one from a socket of its own, and the answer is handed back
as it came: only what that server sends to that port with that identifier and that question counts. Servers are tried in order.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable

from carrack.kernel.loop import READ, WRITE, Loop, Timer

_TRY_SECONDS = 2.0
_RESOLV_CONF = "/etc/resolv.conf"
_PORT = 53
_SERVER_FAILURE = 2
PENDING_LIMIT = 4096
"""Questions on their way at once: more are refused, so that containers cannot make us open sockets without end."""
ASKER_LIMIT = 512
"""Those of one container: more are refused, so that it cannot keep the others from asking."""

Answered = Callable[[bytes | None], None]
"""Gets the answer, with the asker's identifier; None when no server has given one in time."""
MakeSocket = Callable[[int, int], socket.socket]
"""Makes a socket of a family and kind, in the network namespace that the question is asked from. Raises OSError."""


def host_socket(family: int, kind: int) -> socket.socket:
    """A socket of the namespace in which this process stands."""
    return socket.socket(family, kind | socket.SOCK_NONBLOCK)


class HostServers:
    """The nameservers of the host's resolv.conf, read again when the file changes."""

    def __init__(self) -> None:
        self._stamp: tuple[int, int] | None = None
        self._servers: tuple[str, ...] = ()

    def get(self) -> tuple[str, ...]:
        """The addresses as of now; none when the file cannot be read."""
        try:
            status = os.stat(_RESOLV_CONF)
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                with open(_RESOLV_CONF, encoding="utf-8", errors="replace") as lines:
                    self._servers = tuple(
                        words[1] for words in map(str.split, lines) if len(words) > 1 and words[0] == "nameserver"
                    )
                self._stamp = stamp
        except OSError:
            self._servers = ()
        return self._servers


class Forwarder:
    """Asks other servers."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._pending: dict[str, int] = {}
        self._all_pending = 0

    def ask(
        self,
        query: bytes,
        question: bytes,
        servers: tuple[str, ...],
        answered: Answered,
        *,
        asker: str = "",
        make_socket: MakeSocket = host_socket,
        by_stream: bool = False,
    ) -> None:
        """Tell `answered` the first server's answer that is not a failure. `by_stream`: by TCP, for long answers.

        `answered` may be called before this returns.
        """
        if self._pending.get(asker, 0) >= ASKER_LIMIT or self._all_pending >= PENDING_LIMIT:
            answered(None)
            return
        self._count(asker, 1)
        failure: bytes | None = None
        left = list(servers)

        def try_next(answer: bytes | None) -> None:
            nonlocal failure
            if answer is not None and answer[3] & 0x0F == _SERVER_FAILURE:  # the next may know better
                failure, answer = failure or answer, None
            while answer is None and left:
                try:
                    self._begin(left.pop(0), query, question, make_socket, by_stream, try_next)
                    return
                except OSError:
                    continue
            self._count(asker, -1)
            answer = answer or failure
            answered(query[:2] + answer[2:] if answer is not None else None)

        try_next(None)

    def _count(self, asker: str, change: int) -> None:
        self._all_pending += change
        own = self._pending.pop(asker, 0) + change
        if own:
            self._pending[asker] = own

    def _begin(self, server: str, query: bytes, question: bytes, make_socket: MakeSocket, by_stream: bool, done: Answered) -> None:
        """Ask one server. Raises OSError when it cannot be asked."""
        kind = socket.SOCK_STREAM if by_stream else socket.SOCK_DGRAM
        family, address = _address(server, _PORT)
        asker = make_socket(family, kind)
        try:
            asker.setblocking(False)
            if (number := asker.connect_ex(address)) not in (0, errno.EINPROGRESS):
                raise OSError(number, os.strerror(number))
            exchange = _Stream if by_stream else _Exchange
            exchange(self._loop, asker, query, question, done)
        except BaseException:
            asker.close()
            raise


def _address(server: str, port: int) -> tuple[int, tuple[str, int] | tuple[str, int, int, int]]:
    """The family and socket address of a server, which is never a name: nothing is looked up here (law 1). Raises OSError."""
    host, _, scope = server.partition("%")
    if ":" not in host:
        socket.inet_pton(socket.AF_INET, host)
        return socket.AF_INET, (host, port)
    socket.inet_pton(socket.AF_INET6, host)
    index = int(scope) if scope.isdecimal() else socket.if_nametoindex(scope) if scope else 0
    return socket.AF_INET6, (host, port, 0, index)


class _Exchange:
    """One question and the wait for its answer, by datagrams."""

    patience_seconds = _TRY_SECONDS
    first_events = READ

    def __init__(self, loop: Loop, asker: socket.socket, query: bytes, question: bytes, done: Answered) -> None:
        self._loop = loop
        self._socket = asker
        self._query = os.urandom(2) + query[2:]
        self._question = question.lower()
        self._done = done
        self._timer: Timer | None = None
        self._begin()
        loop.watch(asker.fileno(), self.first_events, self._ready)
        self._timer = loop.call_later(self.patience_seconds, lambda: self._end(None))

    def _begin(self) -> None:
        self._socket.send(self._query)

    def _ready(self, _: int) -> None:
        try:
            answer = self._hear()
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, EOFError):
            self._end(None)
            return
        if answer is not None:
            self._end(answer)

    def _hear(self) -> bytes | None:
        """An answer that counts; None: not yet. Raises OSError, EOFError."""
        answer = self._socket.recv(1 << 16)
        return answer if self._is_ours(answer) else None

    def _is_ours(self, answer: bytes) -> bool:
        # The question that is repeated must be ours too: an identifier alone can be guessed.
        repeated = answer[12 : 12 + len(self._question)].lower()
        return answer[:2] == self._query[:2] and repeated == self._question and bool(answer[2] & 0x80)

    def _end(self, answer: bytes | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        self._done(answer)


class _Stream(_Exchange):
    """The same by a stream, where a length stands before each message."""

    patience_seconds = _TRY_SECONDS * 2
    first_events = WRITE

    def _begin(self) -> None:
        self._left = struct.pack(">H", len(self._query)) + self._query
        self._heard = b""

    def _hear(self) -> bytes | None:
        if self._left:
            self._left = self._left[self._socket.send(self._left) :]
            if not self._left:
                self._loop.change(self._socket.fileno(), READ)
            return None
        piece = self._socket.recv(1 << 16)
        if not piece:
            raise EOFError
        self._heard += piece
        if len(self._heard) < 2 or len(self._heard) < 2 + struct.unpack_from(">H", self._heard)[0]:
            return None
        answer = self._heard[2 : 2 + struct.unpack_from(">H", self._heard)[0]]
        if len(answer) < 12 or not self._is_ours(answer):
            raise EOFError
        return answer
