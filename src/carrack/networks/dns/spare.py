"""The spare of the names process: a fork of it that does nothing but remember, and takes its place when it dies.

The spare hears every order that the names process has obeyed, with copies of its descriptors, before carrackd has the answer. So
a names process that is killed costs nobody a look-up, though carrackd may be away: questions wait in the sockets, which are the
same, and the spare answers them. It forks a spare of its own first.

Both are single-threaded, which makes the fork safe; what the child inherits of a loop it never touches again.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
from collections.abc import Callable, Iterable, Sequence

import msgspec

from carrack.kernel.process import close_all_but
from carrack.networks.dns.control import (
    Done,
    Drop,
    Guard,
    Order,
    Put,
    Relay,
    Retain,
    Serve,
    Stop,
    Unrelay,
    receive_answer,
    receive_order,
    send,
)

_CLOSING = (Drop, Unrelay, Retain)
_ANSWER_SECONDS = 2.0
Noted = tuple[Order, list[int]]


class Holdings:
    """Orders that are still true, each with its descriptors, which are ours."""

    def __init__(self) -> None:
        self._orders: dict[tuple[object, ...], Noted] = {}

    def note(self, order: Order, fds: list[int]) -> None:
        """Remember an order; forget those that it undoes."""
        match order:
            case Put(container=container):
                self._replace(("names", container.id), order, fds)
            case Serve(container_id=container_id):
                self._replace(("place", container_id), order, fds)
            case Relay(container_id=container_id, relay=relay):
                key = ("relay", container_id, *relay.key)
                self._replace(key, order, fds or self._orders.pop(key, (order, []))[1])
            case Guard():
                self._replace(("guard",), order, fds)
            case Drop(container_id=container_id):
                self._forget(lambda kind, who: kind != "relay" and who == container_id)
            case Unrelay(container_id=container_id):
                self._forget(lambda kind, who: kind == "relay" and who == container_id)
            case Retain(container_ids=named, relayed=relayed):
                self._forget(lambda kind, who: who not in (relayed if kind == "relay" else named))

    def all(self) -> Iterable[Noted]:
        """Every order, names before the sockets that ask for them."""
        return sorted(self._orders.values(), key=lambda noted: not isinstance(noted[0], Put))

    def _replace(self, key: tuple[object, ...], order: Order, fds: list[int]) -> None:
        for fd in self._orders.pop(key, (order, []))[1]:
            os.close(fd)
        self._orders[key] = (order, fds)

    def _forget(self, is_undone: Callable[[object, object], bool]) -> None:
        for key in [key for key in self._orders if key[1:] and is_undone(key[0], key[1])]:
            for fd in self._orders.pop(key)[1]:
                os.close(fd)


class Spare:
    """The names process's hold on its spare."""

    def __init__(self, listener: socket.socket, succeed: Callable[[socket.socket, Holdings], None]) -> None:
        """Fork it. In the child this never returns: it remembers, or is told to end, or runs `succeed` and ends with that."""
        self._connection, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            _be_the_spare(listener, theirs, succeed)
        theirs.close()
        self._connection.settimeout(_ANSWER_SECONDS)
        self.end_fd = os.pidfd_open(self._pid)
        """Readable when it has died."""

    def tell(self, order: Order, fds: Sequence[int] = ()) -> None:
        """Have it remember an order. One that died does not matter: its end is heard.

        Returns when it has closed what an order closes: only then a port, or a namespace, is free. A spare that does not answer in
        time (a stopped one, say) is killed: it knows less than it should.
        """
        try:
            send(self._connection, order, fds)
            if isinstance(order, _CLOSING):
                receive_answer(self._connection)
        except (OSError, EOFError):
            os.kill(self._pid, signal.SIGKILL)  # our own child, not reaped yet: the number is its

    def dismiss(self) -> None:
        """Tell it that all is over, and see that it ends."""
        self.tell(Stop())
        self.bury()

    def bury(self) -> None:
        """Reap one that died or was dismissed."""
        self._connection.close()
        if not has_ended(self.end_fd, _ANSWER_SECONDS):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self.end_fd)


def has_ended(pidfd: int, patience_seconds: float = 0) -> bool:
    """Whether a process has ended, or does within that time."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(patience_seconds * 1000))


def _be_the_spare(listener: socket.socket, orders: socket.socket, succeed: Callable[[socket.socket, Holdings], None]) -> None:
    """Runs in the child, and ends it."""
    status = 1
    try:
        gc.freeze()  # what belongs to the parent must not be collected here: its descriptors have other owners by now
        close_all_but((0, 1, 2, listener.fileno(), orders.fileno()))
        holdings = Holdings()
        if _remember(orders, holdings):
            orders.close()
            succeed(listener, holdings)
        status = 0
    finally:
        os._exit(status)


def _remember(orders: socket.socket, holdings: Holdings) -> bool:
    """Hear orders until the names process has died (True) or says that it is over (False)."""
    while True:
        try:
            order, fds = receive_order(orders)
        except (EOFError, OSError, msgspec.DecodeError):
            return True
        if isinstance(order, Stop):
            return False
        holdings.note(order, fds)
        if isinstance(order, _CLOSING):
            send(orders, Done())
