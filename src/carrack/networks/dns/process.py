"""The names process: one per instance, forked by the zygote with the first container of a user-defined network, or the first
published port that must be relayed. It outlives carrackd and goes on serving from what it knows; when it is killed its spare goes
on (spare.py). It ends by itself when it has neither a container to serve nor a carrackd to hear.

It has one thread and one loop, stays in the host's own namespaces, and imports nothing (law 1).
"""

from __future__ import annotations

import os
import socket

import msgspec

from carrack.kernel.loop import READ, Loop
from carrack.networks.dns import place
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
from carrack.networks.dns.relays import Relays
from carrack.networks.dns.server import NameServer
from carrack.networks.dns.spare import Holdings, Spare, has_ended
from carrack.networks.dns.table import NameTable
from carrack.networks.dns.table_guard import TableGuard

_TALK_SECONDS = 5.0
"""How long a carrackd that stops in the middle of a message may keep everyone waiting."""
_LONELY_SECONDS = 60.0
"""A spare that took over with nothing to serve waits this long for a carrackd."""
_RESPAWN_SECONDS = 0.05
_FULL_SECONDS = 5.0


class Names:
    """The process: a name server, relays, and the conversations with carrackd, all on one loop and in one thread."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._loop = Loop()
        self._connections: set[socket.socket] = set()
        self._daemons: set[socket.socket] = set()
        """Those of the connections by which a word has come."""
        self._server = NameServer(self._loop, NameTable())
        self._relays = Relays(self._loop)
        self._ends: dict[str, int] = {}
        """Pidfds of the inits of those who are served: they tell of a container's end, though no carrackd is there to say so."""
        self._spare: Spare | None = None
        self._guard: TableGuard | None = None

    def run(self, holdings: Holdings, starter: socket.socket | None) -> None:
        """Serve what is held until there is nothing left to serve. `starter`: the conversation with the carrackd that began us."""
        inode = place.take(self._listener)
        self._begin_spare(holdings)
        for order, fds in holdings.all():
            self._obey(order, fds)
        self._loop.call_later(_LONELY_SECONDS, self._consider_end)
        self._listener.setblocking(False)
        self._loop.watch(self._listener.fileno(), READ, self._accept, vital=True)
        if starter is not None:
            self._join(starter)
        self._watch_table()
        self._loop.run()
        # Who connects from here on finds nobody, or is hung up on, and starts another process; the spare must not take our place.
        place.leave(self._listener, inode)
        if self._spare is not None:
            self._spare.dismiss()

    # ── the spare ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin_spare(self, holdings: Holdings) -> None:
        """Fork a spare that knows these orders."""
        self._spare = spare = Spare(self._listener, serve_until_done)
        self._loop.watch(spare.end_fd, READ, lambda _: self._spare_died(spare))
        for order, fds in holdings.all():
            spare.tell(order, fds)

    def _spare_died(self, spare: Spare) -> None:
        self._loop.forget(spare.end_fd)
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
        try:
            self._begin_spare(holdings)
        except OSError:  # no room for another process now
            self._loop.call_later(_FULL_SECONDS, self._renew_spare)

    def _with_end(self, container_id: str, fds: list[int]) -> list[int]:
        end = self._ends.get(container_id)
        return [*fds, end] if end is not None else fds

    def _tell_spare(self, order: Order, fds: list[int]) -> None:
        if self._spare is not None:
            self._spare.tell(order, fds)

    # ── conversations ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _accept(self, _: int) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        self._join(connection)

    def _join(self, connection: socket.socket) -> None:
        connection.settimeout(_TALK_SECONDS)
        self._connections.add(connection)
        self._loop.watch(connection.fileno(), READ, lambda _: self._hear(connection))

    def _hear(self, connection: socket.socket) -> None:
        try:
            order, fds = receive_order(connection)
            if connection not in self._daemons:
                self._daemons.add(connection)
                self._watch_table()
            if isinstance(order, Put | Serve | Relay):
                self._end_of_earlier(order.container.id if isinstance(order, Put) else order.container_id)
            if not isinstance(order, Hello | Stop):
                self._tell_spare(order, fds)
            send(connection, self._obey(order, fds))
        except (EOFError, OSError, msgspec.DecodeError):
            self._loop.forget(connection.fileno())
            self._connections.discard(connection)
            connection.close()
            if connection in self._daemons:
                self._daemons.discard(connection)
                self._watch_table()
            self._consider_end()

    def _watch_table(self) -> None:
        """The firewall table is ours to watch while there is no carrackd."""
        if self._guard is not None and not self._daemons:
            self._guard.begin()
        elif self._guard is not None:
            self._guard.end()

    def _consider_end(self) -> None:
        if not self._connections and not len(self._server) and not len(self._relays):
            self._loop.stop()

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
                self._server.serve(container_id, socket.socket(fileno=fds[0]), socket.socket(fileno=fds[1]))
                self._watch_end(container_id, fds[2:])
            case Relay(container_id=container_id, relay=relay):
                if fds:
                    self._relays.open(container_id, relay, socket.socket(fileno=fds[0]))
                    self._watch_end(container_id, fds[1:])
                elif not self._relays.turn(container_id, relay):
                    return Refused(f"container {container_id} has no such port")
            case Drop(container_id=container_id):
                self._server.table.drop(container_id)
                self._server.leave(container_id)
                self._forget_end(container_id)
            case Unrelay(container_id=container_id):
                self._relays.close(container_id)
                self._forget_end(container_id)
            case Retain(container_ids=named, relayed=relayed):
                return self._retain(named, relayed)
            case Guard(table=table):
                if self._guard is not None:
                    self._guard.end()
                self._guard = TableGuard(self._loop, table)
            case Stop():
                self._loop.stop()
        return Done()

    def _retain(self, named: tuple[str, ...], relayed: tuple[str, ...]) -> Done:
        self._server.table.retain(named)
        self._server.retain(set(named))
        for container_id in set(self._relays.container_ids()) - set(relayed):
            self._relays.close(container_id)
        for container_id in tuple(self._ends):
            self._forget_end(container_id)
        return Done(tuple(who for who, _ in self._server.all()), self._relays.container_ids())

    # ── containers that end ────────────────────────────────────────────────────────────────────────────────────────────

    def _watch_end(self, container_id: str, pidfds: list[int]) -> None:
        """`pidfds`: that of its init, if it came. One that is watched already is the same process: see `_end_of_earlier`."""
        for pidfd in pidfds:
            if container_id in self._ends:
                os.close(pidfd)
            else:
                self._ends[container_id] = pidfd
                self._loop.watch(pidfd, READ, lambda _: self._ended(container_id))

    def _end_of_earlier(self, container_id: str) -> None:
        """A container may start again before we have heard that it ended: what was served of that run goes first."""
        pidfd = self._ends.get(container_id)
        if pidfd is not None and has_ended(pidfd):
            self._ended(container_id)

    def _ended(self, container_id: str) -> None:
        """Nobody answers to its names any more, and its namespace and ports are free."""
        for order in (Drop(container_id), Unrelay(container_id)):
            self._tell_spare(order, [])
            self._obey(order, [])
        self._consider_end()

    def _forget_end(self, container_id: str) -> None:
        """Watch no longer for the end of one of whom nothing is served."""
        if container_id in self._ends and not self._server.serves(container_id) and not self._relays.serves(container_id):
            pidfd = self._ends.pop(container_id)
            self._loop.forget(pidfd)
            os.close(pidfd)


def serve_until_done(listener: socket.socket, holdings: Holdings, starter: socket.socket | None = None) -> None:
    """All of the process's work, with what is held already; the spare's too, when the names process has died."""
    Names(listener).run(holdings, starter)


def be_the_names_process(listener_fd: int, starter_fd: int) -> None:
    """Serve, in a process forked for it: a listening unix socket, and the conversation with the carrackd that ordered it."""
    serve_until_done(socket.socket(fileno=listener_fd), Holdings(), socket.socket(fileno=starter_fd))
