"""The names process: one per instance, started with the first container of a user-defined network. It outlives carrackd and goes
on answering from what it knows; it ends by itself when it has neither a container to answer nor a carrackd to hear.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from functools import partial
from typing import TypeVar

import msgspec

from carrack.kernel.process import set_name
from carrack.networks.dns.control import VERSION as CONTROL_VERSION
from carrack.networks.dns.control import (
    Answer,
    Done,
    Drop,
    Fetch,
    Hello,
    Order,
    Put,
    Refused,
    Retain,
    Serve,
    Stop,
    receive_order,
    send,
)
from carrack.networks.dns.server import NameServer
from carrack.networks.dns.table import NameTable

T = TypeVar("T")


class Names:
    """The process: a name server on its loop, and a thread per carrackd that talks to it."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._connections = 0
        self._end = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._server = NameServer(NameTable(), changed=self._consider_end)

    async def run(self) -> None:
        """Serve until there is nothing left to serve."""
        threading.Thread(target=self._accept, name="control", daemon=True).start()
        await self._end.wait()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            self._on_loop(self._joined)
            threading.Thread(target=self._converse, args=(connection,), name="carrackd", daemon=True).start()

    def _joined(self) -> None:
        self._connections += 1

    def _left(self) -> None:
        self._connections -= 1
        self._consider_end()

    def _consider_end(self) -> None:
        if self._connections == 0 and len(self._server) == 0:
            self._end.set()

    def _on_loop(self, action: Callable[[], T]) -> T:
        async def call() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def _converse(self, connection: socket.socket) -> None:
        with connection:
            try:
                while True:
                    order, fds = receive_order(connection)
                    answer = self._on_loop(partial(self._obey, order, fds))
                    send(connection, answer, self._copies(order))
            except (EOFError, OSError, msgspec.DecodeError):
                pass
        try:
            self._on_loop(self._left)
        except (CancelledError, RuntimeError):
            pass  # the loop has ended: so does the process

    def _copies(self, order: Order) -> list[int]:
        return self._server.sockets_of(order.container_id) if isinstance(order, Fetch) else []

    def _obey(self, order: Order, fds: list[int]) -> Answer:
        match order:
            case Hello(version=version):
                if version != CONTROL_VERSION:
                    return Refused(f"the names process speaks version {CONTROL_VERSION}, not {version}")
            case Put(container=container):
                self._server.table.put(container)
            case Serve(container_id=container_id):
                if len(fds) < 2:
                    return Refused("serve without sockets")
                datagrams, listener = (socket.socket(fileno=fd) for fd in fds[:2])
                self._server.serve(container_id, datagrams, listener, fds[2] if len(fds) > 2 else -1)
            case Drop(container_id=container_id):
                self._server.table.drop(container_id)
                self._server.leave(container_id)
            case Fetch(container_id=container_id):
                if not self._server.sockets_of(container_id):
                    return Refused(f"container {container_id} is not served")
            case Retain(container_ids=container_ids):
                self._server.table.retain(container_ids)
                self._server.retain(set(container_ids))
            case Stop():
                self._end.set()
        return Done(len(self._server))


async def _serve(listener: socket.socket, ready_fd: int) -> None:
    names = Names(listener)
    os.write(ready_fd, b"1")
    os.close(ready_fd)
    await names.run()


def main(arguments: list[str]) -> None:
    """``path ready_fd``: listen at a unix socket of that path, say so on the descriptor, serve."""
    path, ready = arguments
    set_name("carrack-names")
    # A terminal's interrupt is for carrackd; this process ends when it is not needed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o177)
    listener = socket.socket(socket.AF_UNIX)
    if os.path.lexists(path):
        os.unlink(path)  # whoever started us has found nobody there
    listener.bind(path)
    listener.listen(4)
    own = os.stat(path).st_ino
    try:
        asyncio.run(_serve(listener, int(ready)))
    finally:
        if os.path.lexists(path) and os.stat(path).st_ino == own:
            os.unlink(path)


if __name__ == "__main__":
    main(sys.argv[1:])
