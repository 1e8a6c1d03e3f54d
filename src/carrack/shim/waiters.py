"""Clients of `POST /containers/{id}/wait`: each is told the exit status as the last chunks of an HTTP response."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from carrack.kernel.loop import PEER_CLOSED
from carrack.shim.framing import FINAL_CHUNK, chunk
from carrack.shim.messages import Exited
from carrack.shim.outgoing import Outgoing

REMOVED = "removed"


class Waiters:
    """Everyone who waits for this container."""

    def __init__(self, enter: Callable[[int], Outgoing]) -> None:
        """`enter` makes a client's socket an Outgoing."""
        self._enter = enter
        self._waiting: dict[Outgoing, str] = {}

    def add(self, condition: str, sock_fd: int) -> None:
        """Takes ownership of the socket, whose HTTP header is already sent."""
        outgoing = self._enter(sock_fd)
        outgoing.on_peer_closed = lambda: self._leave(outgoing)
        outgoing.listen_to(PEER_CLOSED)
        self._waiting[outgoing] = condition

    @property
    def wait_for_removal(self) -> bool:
        """Whether anyone is still to be told of the container's removal."""
        return any(condition == REMOVED and not outgoing.closed for outgoing, condition in self._waiting.items())

    @property
    def at_rest(self) -> tuple[tuple[str, int], ...]:
        """What each waits for, and its socket; of those who are still there."""
        return tuple((condition, outgoing.fd) for outgoing, condition in self._waiting.items() if not outgoing.closed)

    def answer_exit(self, exited: Exited) -> None:
        """Tell those who wait for the exit."""
        self._answer([waiter for waiter, condition in self._waiting.items() if condition != REMOVED], exited)

    def answer_all(self, exited: Exited) -> None:
        """Tell everyone who is left, those who wait for the removal too."""
        self._answer(list(self._waiting), exited)

    def send_away(self) -> None:
        """Close the connections of those who can never be told."""
        for waiter in tuple(self._waiting):
            self._leave(waiter)

    def let_go(self) -> None:
        """Leave those who wait to whoever else holds their connections."""
        for waiter in tuple(self._waiting):
            del self._waiting[waiter]
            waiter.let_go()

    def _answer(self, waiters: list[Outgoing], exited: Exited) -> None:
        body: dict[str, object] = {"StatusCode": exited.exit_code}
        if exited.error:
            body = {"Error": {"Message": exited.error}} | body
        answer = chunk(msgspec.json.encode(body) + b"\n") + FINAL_CHUNK
        for waiter in waiters:
            del self._waiting[waiter]
            waiter.write(answer)
            waiter.finish()

    def _leave(self, waiter: Outgoing) -> None:
        self._waiting.pop(waiter, None)
        waiter.close()
