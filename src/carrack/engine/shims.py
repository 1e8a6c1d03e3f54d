"""The daemon's end of its conversations with shims and with the zygote, on the event loop.

A `Shim` numbers orders, pairs answers with them, and hands every other report to its container's owner. It knows no container.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

from carrack import errors
from carrack.errors import CarrackError, InvalidParameter, SystemFailure, Unavailable
from carrack.shim import wire
from carrack.shim.messages import (
    VERSION,
    Abandon,
    Attach,
    Created,
    Done,
    Exec,
    FollowLogs,
    Forget,
    Go,
    Greeting,
    Inquire,
    Message,
    Refused,
    Resize,
    Signal,
    Started,
    StartFailed,
    StartOrder,
    Status,
    Wait,
)

log = logging.getLogger("carrack.shims")

Numbered = Exec | Attach | Wait | FollowLogs | Signal | Resize
ANSWER_SECONDS = 30.0
"""How long an order may go unanswered before its caller is told so; the shim itself is left alone."""


class Shim:
    """One conversation with one container's shim."""

    def __init__(self, connection: socket.socket, on_report: Callable[[object], None], on_lost: Callable[[], None]) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._on_report = on_report
        self._on_lost = on_lost
        self._sequence = 0
        self._answers: dict[int, asyncio.Future[Done]] = {}
        self._next: asyncio.Future[tuple[object, list[int]]] | None = None
        self._unsent: deque[tuple[Message, tuple[int, ...]]] = deque()
        self._dismissed = False
        self.closed = False
        self._loop.add_reader(connection.fileno(), self._readable)

    def expect_next(self) -> asyncio.Future[tuple[object, list[int]]]:
        """The next message that answers no numbered order, with its descriptors: Created, Started, Status."""
        self._next = self._loop.create_future()
        return self._next

    def tell(self, message: Go | Abandon | Inquire | Forget) -> None:
        """Send what gets no numbered answer."""
        self._send(message, ())

    async def order(self, make: Callable[[int], Numbered], fds: Sequence[int] = ()) -> Done:
        """Send an order built with its number and wait for Done. The caller keeps and closes its own descriptors.

        Raises the kind of error the shim names, SupervisorGone when it has ended and never took the order, or Unavailable when
        it does not answer.
        """
        self._sequence += 1
        number = self._sequence
        answer: asyncio.Future[Done] = self._loop.create_future()
        self._answers[number] = answer
        duplicates = tuple(os.dup(fd) for fd in fds)
        try:
            self._send(make(number), duplicates)
            return await asyncio.wait_for(answer, ANSWER_SECONDS)
        except TimeoutError:
            raise Unavailable("the container's supervisor does not answer") from None
        finally:
            self._answers.pop(number, None)
            self._close_dismissed()

    def dismiss(self, farewell: Forget) -> None:
        """The last word, after which the shim goes its way; the conversation ends once the orders before it are answered."""
        if self.closed:
            return
        self._on_report, self._on_lost = _ignore, lambda: None
        self._send(farewell, ())
        self._dismissed = True
        self._close_dismissed()

    def _close_dismissed(self) -> None:
        if self._dismissed and not self._answers:
            self.close()

    def take_in(self) -> None:
        """Read what the shim has already said, before anyone is answered from the record."""
        self._readable()

    def close(self) -> None:
        """End the conversation; the shim lives on. May be called more than once."""
        self._close(Unavailable("the conversation with the container's supervisor was ended"))

    def _close(self, lost: CarrackError) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        for _, fds in self._unsent:
            _close(fds)
        self._unsent.clear()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(lost)
        if self._next is not None and not self._next.done():
            self._next.set_exception(lost)

    def _send(self, message: Message, fds: tuple[int, ...]) -> None:
        if self.closed or self._dismissed:
            _close(fds)
            raise SupervisorGone()
        self._unsent.append((message, fds))
        if len(self._unsent) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._unsent:
            message, fds = self._unsent[0]
            try:
                wire.send(self._socket, message, fds)
            except BlockingIOError:
                self._loop.add_writer(self._socket.fileno(), self._flush)
                return
            except OSError:
                self._lose()
                return
            self._unsent.popleft()
            _close(fds)
        self._loop.remove_writer(self._socket.fileno())

    def _readable(self) -> None:
        while not self.closed:
            try:
                received = wire.receive(self._socket)
            except BlockingIOError:
                return
            except (OSError, EOFError):
                self._lose()
                return
            except CarrackError as error:
                self._misunderstand(error)
                continue
            self._take(*received)

    def _take(self, message: Message, fds: list[int]) -> None:
        if isinstance(message, Done | Refused):
            answer = self._answers.get(message.sequence)
            if answer is not None and not answer.done():
                if isinstance(message, Done):
                    answer.set_result(message)
                else:
                    answer.set_exception(refusal(message))
            _close(fds)
            return
        if isinstance(message, Created | Started | StartFailed | Status) and self._next is not None:
            waiting, self._next = self._next, None
            if not waiting.done():
                waiting.set_result((message, fds))
                return
        _close(fds)
        self._on_report(message)

    def _misunderstand(self, error: CarrackError) -> None:
        """What came is no message of ours, or brought more descriptors than we may have open. Nobody has ended for that."""
        waiting, self._next = self._next, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(Unavailable(f"the container's supervisor is not understood: {error}"))
        else:
            log.error("a container's supervisor is not understood: %s", error)

    def _lose(self) -> None:
        self._close(SupervisorGone())
        self._on_lost()


class RefusedExec(InvalidParameter):
    """A process could not be run in a container; carries the exit code Docker records for it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def refusal(message: Refused) -> CarrackError:
    """The error a shim's refusal stands for."""
    if message.exit_code:
        return RefusedExec(message.message, message.exit_code)
    return error_of(message.kind, message.message)


def error_of(kind: str, message: str) -> CarrackError:
    """An error of the named kind; of SystemFailure for a name we do not know."""
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, CarrackError):
        return found(message)
    return SystemFailure(message)


class Zygote:
    """Where the daemon has its shims forked."""

    def __init__(self, order_start: Callable[[StartOrder, Sequence[int]], socket.socket]) -> None:
        self._order_start = order_start
        self._ungreeted: set[socket.socket] = set()

    def start(
        self,
        order: StartOrder,
        fds: Sequence[int],
        on_report: Callable[[object], None],
        on_lost: Callable[[], None],
    ) -> Shim:
        """Have a shim forked. The caller keeps its descriptors. Raises Unavailable when there is no zygote."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        with theirs:
            try:
                connection = self._order_start(order, (theirs.fileno(), *fds))
            except OSError as error:
                ours.close()
                raise Unavailable(f"cannot reach the zygote: {error}") from error
            except BaseException:
                ours.close()
                raise
        self._ungreeted.add(connection)
        asyncio.get_running_loop().add_reader(connection.fileno(), self._greeted, connection)
        return Shim(ours, on_report, on_lost)

    def close(self) -> None:
        """Let go of orders that nobody has taken yet; the zygote goes on. Idempotent."""
        for connection in tuple(self._ungreeted):
            self._let_go(connection)

    def _greeted(self, connection: socket.socket) -> None:
        """The order has been taken, or it cannot be: then the conversation that went with it ends."""
        try:
            greeting, _ = wire.receive(connection)
            if isinstance(greeting, Greeting) and greeting.trouble:
                log.error("the zygote %s", greeting.trouble)
        except (OSError, EOFError, SystemFailure):
            pass  # it has died, and the order with it
        self._let_go(connection)

    def _let_go(self, connection: socket.socket) -> None:
        self._ungreeted.discard(connection)
        asyncio.get_running_loop().remove_reader(connection.fileno())
        connection.close()


class SupervisorGone(Unavailable):
    """Nobody is there to answer: the supervisor has ended, and its container with it (law 5). What it has not answered it has not
    done."""

    def __init__(self, message: str = "the container's supervisor is gone") -> None:
        super().__init__(message)


async def reconnect(path: str, on_report: Callable[[object], None], on_lost: Callable[[], None]) -> tuple[Shim, Status, list[int]]:
    """Find the shim of a container that an earlier daemon started, and wait until it has said how things are.

    Raises SupervisorGone when there is none (any more). Unavailable says only that we cannot talk with the one there is: it may
    keep a container that runs.
    """
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise Unavailable(f"cannot reach the container's supervisor: {error.strerror}") from error
    connection.setblocking(False)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        kind = SupervisorGone if isinstance(error, FileNotFoundError | ConnectionRefusedError) else Unavailable
        raise kind(f"cannot reach the container's supervisor: {error.strerror}") from error
    shim = Shim(connection, on_report, on_lost)
    answer = shim.expect_next()
    try:
        shim.tell(Inquire())
        message, fds = await answer
        if not isinstance(message, Status):
            _close(fds)
            raise Unavailable("the container's supervisor does not speak our language")
        if message.version > VERSION:
            _close(fds)
            raise Unavailable(
                f"the container's supervisor is newer ({message.version}) than this carrackd ({VERSION}): start the newer carrackd"
            )
    except BaseException:
        shim.close()
        raise
    return shim, message, fds


def _ignore(_: object) -> None:
    """For reports that nobody needs any more."""


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
