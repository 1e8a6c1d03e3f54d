"""carrackd's side of the names process: started when the first container needs it, told of every change, started anew when it died.

Inside the container the server stands at 127.0.0.11, port 53, where Docker's is; its sockets are on a high port, and two rules in
the container's own namespace lead there, so that an application may have port 53 of every address.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from carrack.errors import CarrackError, SystemFailure
from carrack.kernel import netns
from carrack.kernel.nftables import Nftables
from carrack.networks.dns import place
from carrack.networks.dns.control import (
    RESOLVER,
    VERSION,
    Answer,
    Done,
    Drop,
    Guard,
    Hello,
    Order,
    Put,
    Refused,
    Relay,
    RelaySpec,
    Retain,
    Serve,
    Stop,
    Unrelay,
    receive_answer,
    send,
)
from carrack.networks.dns.table import ContainerNames

log = logging.getLogger(__name__)

_START_SECONDS = 20
_SUCCESSIONS = 5
"""How many processes may die one after the other while we come to speak to them."""
_RULES = """\
table ip carrack_names {{
  chain output {{
    type nat hook output priority -100; policy accept;
    ip daddr {address} udp dport 53 dnat to {address}:{udp}
    ip daddr {address} tcp dport 53 dnat to {address}:{tcp}
  }}
}}
"""
BeginNames = Callable[[str, int, int], None]
"""Has the names process forked: (path, listening socket, its conversation with us). Raises SystemFailure, Unavailable."""
Init = tuple[int, int]
"""Descriptors of a running container: its network namespace, and the pidfd of its init."""


class NameService:
    """The names process of one instance, as `Networks` orders it. Blocking, thread-safe."""

    def __init__(self, directory: Path, table: str, begin: BeginNames) -> None:
        self._table = table
        self._begin = begin
        # An older process goes on answering its containers while a newer one, of another version, answers those that follow.
        self._path = directory / f"names-{VERSION}.sock"
        self._turn = threading.Lock()
        self._connection: socket.socket | None = None
        self._known: dict[str, ContainerNames] = {}
        self._relayed: set[str] = set()
        self._closed = False
        self.init_of: Callable[[str], Init] | None = None
        """Open a running container: for when the process and its spare were both lost. Raises OSError."""

    def resume(self, containers: Sequence[ContainerNames], relayed: Collection[str]) -> None:
        """After a start: if a names process is there, tell it how things are now. Without containers none is started.

        `relayed`: containers that have ports which are served by it.
        """
        with self._turn:
            self._known = {container.id: container for container in containers}
            self._relayed = set(relayed)
            self._connection = self._connect()
            if self._connection is not None:
                self._watch(self._connection)
                self._tell_or_reach()
            elif containers or relayed:
                log.warning("the name server of running containers is gone: starting another")

    def refresh(self) -> None:
        """See that the process knows what we know and serves whom it should; start it where it is gone."""
        with self._turn:
            if self._known or self._relayed:
                self._tell_or_reach()

    def serve(self, container: ContainerNames, namespace_fd: int, pidfd: int) -> None:
        """Answer a container from now on: its names, and its own questions. Again: only its names. Raises SystemFailure."""
        with self._turn:
            first = container.id not in self._known
            self._order(Put(container))
            self._known[container.id] = container
            if first:
                with _Opened(namespace_fd) as fds:
                    self._order(Serve(container.id), [*fds, pidfd] if pidfd >= 0 else fds)

    def update(self, container: ContainerNames) -> None:
        """Its names have changed. One that is not served does not matter."""
        with self._turn:
            if container.id in self._known:
                self._known[container.id] = container
                self._order(Put(container))

    def drop(self, container_id: str) -> None:
        """Answer it no more; its namespace is free to end. Idempotent."""
        with self._turn:
            if self._known.pop(container_id, None) is not None:
                self._order(Drop(container_id))

    # ── relayed ports ──────────────────────────────────────────────────────────────────────────────────────────────────

    def prepare(self) -> None:
        """Start the process where it is not there, and let nobody wait for it: it will be needed in a moment."""
        if self._connection is None:
            threading.Thread(target=self._prepare, name="names-start", daemon=True).start()

    def _prepare(self) -> None:
        with self._turn:
            if self._connection is None and not self._closed:
                try:
                    self._reach()
                except SystemFailure as error:
                    log.error("%s", error.message)

    def relay(self, container_id: str, ports: Sequence[tuple[RelaySpec, socket.socket | None]], pidfd: int) -> None:
        """Serve ports whose sockets are bound, and listening: what comes before the process does waits in them.

        A port without a socket is served already: it leads elsewhere from now on. The sockets remain the caller's. Raises
        SystemFailure.
        """
        with self._turn:
            self._relayed.add(container_id)
            for spec, holder in ports:
                fds = [holder.fileno()] if holder is not None else []
                self._order(Relay(container_id, spec), [*fds, pidfd] if fds and pidfd >= 0 else fds)

    def unrelay(self, container_id: str) -> None:
        """Close a container's relayed ports. Idempotent."""
        with self._turn:
            if container_id in self._relayed:
                self._relayed.discard(container_id)
                self._order(Unrelay(container_id))

    def close(self, *, stop: bool) -> None:
        """Leave the process to itself; `stop`: end it."""
        with self._turn:
            self._closed = True
            if stop and self._connection is None:
                self._connection = self._connect()
            if self._connection is not None and stop:
                self._try(Stop())
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that watches it
                self._connection.close()
                self._connection = None
            self._known.clear()
            self._relayed.clear()

    # ── the conversation ───────────────────────────────────────────────────────────────────────────────────────────────

    def _order(self, order: Order, fds: Sequence[int] = ()) -> None:
        """Have an order obeyed, by the spare when the process has died, by another when that is gone too."""
        answer = self._try(order, fds) if self._connection is not None else None
        if answer is None:
            if not self._known and not self._relayed and isinstance(order, Drop | Unrelay):
                return  # nobody is left to start one for
            self._reach()
            answer = self._try(order, fds)
        if answer is None:
            raise SystemFailure("the name server ends as soon as it is started")
        if isinstance(answer, Refused):
            raise SystemFailure(f"name server: {answer.message}")

    def _try(self, order: Order, fds: Sequence[int] = ()) -> Answer | None:
        """The answer to an order; None when the process has gone."""
        if self._connection is None:
            return None
        try:
            send(self._connection, order, fds)
            return receive_answer(self._connection)
        except (OSError, EOFError):
            self._connection.close()
            self._connection = None
            return None

    def _reach(self) -> None:
        """Speak to a process again: to the spare, or to a new one. Raises SystemFailure."""
        deadline = time.monotonic() + _START_SECONDS
        for left in reversed(range(_SUCCESSIONS)):
            self._connection = self._connect() or self._start()
            try:
                self._tell_everything()
                break
            except SystemFailure:
                if not left or time.monotonic() > deadline:
                    raise
        if self._connection is not None:
            self._watch(self._connection)

    def _tell_or_reach(self) -> None:
        """Tell everything to the process that we speak to; to its spare when it dies meanwhile. Raises SystemFailure."""
        if self._connection is not None:
            try:
                self._tell_everything()
                return
            except SystemFailure as error:
                log.warning("%s", error.message)
        self._reach()

    def _tell_everything(self) -> None:
        """Put every name, and have the process open again what it does not serve though it should."""
        self._try(Guard(self._table))
        for container in self._known.values():
            self._try(Put(container))
        told = self._try(Retain(tuple(self._known), tuple(self._relayed)))
        if not isinstance(told, Done):
            raise SystemFailure("the name server ends as soon as it is started")
        for container_id in set(self._known) - set(told.served):
            self._open_again(container_id)
        for container_id in self._relayed - set(told.relayed):
            # Those of a container that starts this moment follow at once; others were lost with both processes.
            log.info("the relayed ports of container %s are not served", container_id)

    def _open_again(self, container_id: str) -> None:
        if self.init_of is None:
            return  # the engine does not know its containers yet; it refreshes us when it does
        try:
            namespace, pidfd = self.init_of(container_id)
        except (OSError, CarrackError) as error:
            log.warning("container %s resolves no names: %s", container_id, error)
            return
        try:
            with _Opened(namespace) as fds:
                self._try(Serve(container_id), [*fds, pidfd])
        except SystemFailure as error:
            log.warning("container %s resolves no names: %s", container_id, error.message)
        finally:
            os.close(namespace)
            os.close(pidfd)

    def _connect(self) -> socket.socket | None:
        """Speak to who listens; None: nobody does. One that dies as we come has a spare, which is asked next."""
        for _ in range(_SUCCESSIONS):
            connection = socket.socket(socket.AF_UNIX)
            connection.settimeout(_START_SECONDS)
            try:
                connection.connect(str(self._path))
            except OSError:
                connection.close()
                return None
            try:
                send(connection, Hello())
                answer = receive_answer(connection)
            except TimeoutError:  # it lives, and has no spare in its place
                connection.close()
                return None
            except (OSError, EOFError):
                connection.close()
                continue
            if isinstance(answer, Refused):
                connection.close()
                raise SystemFailure(f"name server: {answer.message}")
            return connection
        return None

    def _start(self) -> socket.socket:
        """Have the process forked and wait until it answers. It outlives us, once it has something to serve."""
        self._path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        connection, theirs = socket.socketpair()
        try:
            with theirs, place.listen(str(self._path)) as listener:
                self._begin(str(self._path), listener.fileno(), theirs.fileno())
            connection.settimeout(_START_SECONDS)
            send(connection, Hello())
            receive_answer(connection)
        except (OSError, EOFError) as error:
            connection.close()
            raise SystemFailure(f"the name server did not start: {error}") from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _watch(self, connection: socket.socket) -> None:
        threading.Thread(target=self._await_end, args=(connection, connection.dup()), name="names-watch", daemon=True).start()

    def _await_end(self, connection: socket.socket, watched: socket.socket) -> None:
        """Notice at once that the process died, and speak to its spare."""
        with watched:
            poll = select.poll()
            poll.register(watched, select.POLLRDHUP)
            poll.poll()
        with self._turn:
            if self._connection is not connection or not (self._known or self._relayed):
                return  # we left it, or an order has noticed already
            log.warning("the name server ended unexpectedly: its spare goes on")
            connection.close()
            self._connection = None
            try:
                self._reach()
            except SystemFailure:
                log.exception("the name server cannot be started; the next change tries again")


class _Opened:
    """The server's two sockets in a container's namespace, while they are handed over. Raises SystemFailure."""

    def __init__(self, namespace_fd: int) -> None:
        try:
            self._pair = netns.inside(namespace_fd, _open_resolver)
        except OSError as error:
            raise SystemFailure(f"cannot open the name server's sockets: {error.strerror}") from error

    def __enter__(self) -> list[int]:
        return [each.fileno() for each in self._pair]

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        for each in self._pair:
            each.close()


def _open_resolver() -> tuple[socket.socket, socket.socket]:
    """The two sockets of the server and the rules that lead port 53 to them. Runs inside the container's namespace."""
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        datagrams.bind((RESOLVER, 0))
        listener.bind((RESOLVER, 0))
        listener.listen(16)
        nft = Nftables()
        try:
            nft.run("add table ip carrack_names\ndelete table ip carrack_names\n")  # of sockets that were lost
            nft.run(_RULES.format(address=RESOLVER, udp=datagrams.getsockname()[1], tcp=listener.getsockname()[1]))
        finally:
            nft.close()
    except BaseException:
        datagrams.close()
        listener.close()
        raise
    return datagrams, listener
