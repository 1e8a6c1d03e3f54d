"""The names process: one per instance, started with the first container of a user-defined network, or the first published port
that must be relayed. It outlives carrackd and goes on serving from what it knows; when it is killed its spare goes on (spare.py).
It ends by itself when it has neither a container to serve nor a carrackd to hear.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import sys

import msgspec

from carrack.kernel.process import set_name
from carrack.networks.dns.control import VERSION as CONTROL_VERSION
from carrack.networks.dns.control import (
    Answer,
    Done,
    Drop,
    Guard,
    Hello,
    Order,
    Put,
    Refused,
    Relay,
    Retain,
    Serve,
    Stop,
    Unrelay,
    receive_order,
    send,
)
from carrack.networks.dns.server import NameServer
from carrack.networks.dns.spare import Holdings, Spare
from carrack.networks.dns.table import NameTable
from carrack.networks.relays import Relays
from carrack.networks.table_guard import TableGuard

_TALK_SECONDS = 5.0
"""How long a carrackd that stops in the middle of a message may keep everyone waiting."""
_LONELY_SECONDS = 60.0
"""A spare that took over with nothing to serve waits this long for a carrackd."""
_RESPAWN_SECONDS = 0.05


class Names:
    """The process: a name server, relays, and the conversations with carrackd, all on one loop and in one thread."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._connections: set[socket.socket] = set()
        self._end = asyncio.Event()
        self._server = NameServer(NameTable())
        self._relays = Relays()
        self._ends: dict[str, int] = {}
        """Pidfds that tell of a container's end, though no carrackd is there to say so."""
        self._spare: Spare | None = None
        self._guard: TableGuard | None = None

    async def run(self, holdings: Holdings, starter: socket.socket | None) -> None:
        """Serve what is held until there is nothing left to serve. `starter`: the conversation with the carrackd that began us."""
        self._begin_spare(holdings)
        for order, fds in holdings.all():
            self._obey(order, fds)
        self._loop.call_later(_LONELY_SECONDS, self._consider_end)
        self._listener.setblocking(False)
        self._listener.listen(16)  # again, by a spare: whoever asks the socket for its process is told of us (SO_PEERCRED)
        self._loop.add_reader(self._listener, self._accept)
        if starter is not None:
            self._join(starter)
        self._watch_table()
        await self._end.wait()
        if self._spare is not None:
            self._spare.tell(Stop())

    # ── the spare ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin_spare(self, holdings: Holdings) -> None:
        """Fork a spare that knows these orders."""
        self._spare = spare = Spare(self._listener, serve_until_done)
        self._loop.add_reader(spare.connection, self._spare_died, spare)
        for order, fds in holdings.all():
            spare.tell(order, fds)

    def _spare_died(self, spare: Spare) -> None:
        self._loop.remove_reader(spare.connection)
        spare.bury()
        self._spare = None
        self._loop.call_later(_RESPAWN_SECONDS, self._renew_spare)

    def _renew_spare(self) -> None:
        holdings = Holdings()
        if self._guard is not None:
            holdings.note(Guard(self._guard.table), [])
        for container in self._server.table.all():
            holdings.note(Put(container), [])
        for container_id, fds in self._server.all():
            holdings.note(Serve(container_id), self._with_end(container_id, fds))
        for container_id, spec, fd in self._relays.all():
            holdings.note(Relay(container_id, spec), self._with_end(container_id, [fd]))
        self._begin_spare(holdings)

    def _with_end(self, container_id: str, fds: list[int]) -> list[int]:
        end = self._ends.get(container_id)
        return [*fds, end] if end is not None else fds

    # ── conversations ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        self._join(connection)

    def _join(self, connection: socket.socket) -> None:
        connection.settimeout(_TALK_SECONDS)
        self._connections.add(connection)
        self._watch_table()
        self._loop.add_reader(connection, self._hear, connection)

    def _hear(self, connection: socket.socket) -> None:
        try:
            order, fds = receive_order(connection)
            if self._spare is not None and not isinstance(order, Hello | Stop):
                self._spare.tell(order, fds)
            send(connection, self._obey(order, fds))
        except (EOFError, OSError, msgspec.DecodeError):
            self._loop.remove_reader(connection)
            self._connections.discard(connection)
            connection.close()
            self._watch_table()
            self._consider_end()

    def _watch_table(self) -> None:
        """The firewall table is ours to watch while there is no carrackd."""
        if self._guard is not None and not self._connections:
            self._guard.begin()
        elif self._guard is not None:
            self._guard.end()

    def _consider_end(self) -> None:
        if not self._connections and not len(self._server) and not len(self._relays):
            self._end.set()

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
                self._watch_end(container_id, fds[2:])
                self._server.serve(container_id, socket.socket(fileno=fds[0]), socket.socket(fileno=fds[1]))
            case Relay(container_id=container_id, relay=relay):
                self._watch_end(container_id, fds[1:])
                if fds:
                    self._relays.open(container_id, relay, socket.socket(fileno=fds[0]))
                elif not self._relays.turn(container_id, relay):
                    return Refused(f"container {container_id} has no such port")
            case Drop(container_id=container_id):
                self._drop(container_id)
            case Unrelay(container_id=container_id):
                self._relays.close(container_id)
            case Retain(container_ids=named, relayed=relayed):
                self._server.table.retain(named)
                self._server.retain(set(named))
                for container_id in set(self._relays.container_ids()) - set(relayed):
                    self._relays.close(container_id)
                return Done(tuple(who for who, _ in self._server.all()), self._relays.container_ids())
            case Guard(table=table):
                if self._guard is not None:
                    self._guard.end()
                self._guard = TableGuard(table)
            case Stop():
                self._end.set()
        self._forget_ends()
        return Done()

    def _drop(self, container_id: str) -> None:
        self._server.table.drop(container_id)
        self._server.leave(container_id)

    # ── containers that end ────────────────────────────────────────────────────────────────────────────────────────────

    def _watch_end(self, container_id: str, pidfds: list[int]) -> None:
        for pidfd in pidfds:
            if container_id in self._ends:
                os.close(pidfd)
            else:
                self._ends[container_id] = pidfd
                self._loop.add_reader(pidfd, self._ended, container_id)

    def _ended(self, container_id: str) -> None:
        """Nobody answers to its names any more, and its namespace and ports are free."""
        for order in (Drop(container_id), Unrelay(container_id)):
            if self._spare is not None:
                self._spare.tell(order)
            self._obey(order, [])
        self._consider_end()

    def _forget_ends(self) -> None:
        """Watch no longer for those of whom nothing is served."""
        if len(self._ends) > len(self._server) + len(self._relays):
            served = {who for who, _ in self._server.all()} | set(self._relays.container_ids())
            for container_id in set(self._ends) - served:
                pidfd = self._ends.pop(container_id)
                self._loop.remove_reader(pidfd)
                os.close(pidfd)


async def _serve(listener: socket.socket, holdings: Holdings, starter: socket.socket | None) -> None:
    await Names(listener).run(holdings, starter)


def serve_until_done(listener: socket.socket, holdings: Holdings, starter: socket.socket | None = None) -> None:
    """All of the process's work, with what is held already; the spare's too, when the names process has died."""
    path = listener.getsockname()
    own = os.stat(path).st_ino if os.path.lexists(path) else -1
    try:
        asyncio.run(_serve(listener, holdings, starter))
    finally:
        if os.path.lexists(path) and os.stat(path).st_ino == own:
            os.unlink(path)


def main(arguments: list[str]) -> None:
    """``path fd``: listen at a unix socket of that path, hear carrackd on the descriptor too, serve."""
    path, starter = arguments
    set_name("carrack-names")
    # A terminal's interrupt is for carrackd; this process ends when it is not needed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o177)
    # Three descriptors a container, and two for each relayed connection.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listener = socket.socket(socket.AF_UNIX)
    if os.path.lexists(path):
        os.unlink(path)  # whoever started us has found nobody there
    listener.bind(path)
    serve_until_done(listener, Holdings(), socket.socket(fileno=int(starter)))


if __name__ == "__main__":
    main(sys.argv[1:])
