"""carrackd's side of the names process: started when the first container needs it, told of every change, started anew when it died.

Inside the container the server stands at 127.0.0.11, port 53, where Docker's is; its sockets are on a high port, and two rules in
the container's own namespace lead there, so that an application may have port 53 of every address.
"""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from carrack.errors import SystemFailure
from carrack.kernel import netns
from carrack.kernel.nftables import Nftables
from carrack.networks.dns.control import (
    VERSION,
    Answer,
    Drop,
    Fetch,
    Hello,
    Order,
    Put,
    Refused,
    Retain,
    Serve,
    Stop,
    receive_answer,
    receive_answer_with_descriptors,
    send,
)
from carrack.networks.dns.table import ContainerNames

log = logging.getLogger(__name__)

RESOLVER = "127.0.0.11"
"""The nameserver that belongs into the resolv.conf of every container that is in a user-defined network."""

_START_SECONDS = 20
_RULES = """\
table ip carrack_names {{
  chain output {{
    type nat hook output priority -100; policy accept;
    ip daddr {address} udp dport 53 dnat to {address}:{udp}
    ip daddr {address} tcp dport 53 dnat to {address}:{tcp}
  }}
}}
"""
_LAUNCH = (
    "import sys, json; sys.path[:] = json.loads(sys.argv.pop(1)); from carrack.networks.dns.process import main; main(sys.argv[1:])"
)


class NameService:
    """The names process of one instance, as `Networks` orders it. Blocking, thread-safe."""

    def __init__(self, directory: Path) -> None:
        # An older process goes on answering its containers while a newer one, of another version, answers those that follow.
        self._path = directory / f"names-{VERSION}.sock"
        self._turn = threading.Lock()
        self._connection: socket.socket | None = None
        self._known: dict[str, ContainerNames] = {}
        self._sockets: dict[str, tuple[socket.socket, socket.socket]] = {}
        """Copies, so that a names process that died can be given them again. They keep the namespace until `drop`."""

    def resume(self, containers: Sequence[ContainerNames]) -> None:
        """After a start: if a names process is there, tell it how things are now. Without containers none is started."""
        with self._turn:
            self._known = {container.id: container for container in containers}
            connection = self._connect()
            if connection is None:
                if containers:
                    log.warning("the name server of running containers is gone: they resolve names again after a restart")
                return
            self._adopt(connection)
            self._tell_everything()
            self._take_back()

    def serve(self, container: ContainerNames, namespace_fd: int, pidfd: int = -1) -> None:
        """Answer a container from now on: its names, and its own questions. Again: only its names. Raises SystemFailure."""
        with self._turn:
            first = container.id not in self._known
            self._known[container.id] = container
            self._order(Put(container))
            if not first:
                return
            try:
                pair = netns.inside(namespace_fd, _open_resolver)
            except OSError as error:
                raise SystemFailure(f"cannot open the name server's sockets: {error.strerror}") from error
            self._sockets[container.id] = pair
            fds = [each.fileno() for each in pair]
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
            if self._known.pop(container_id, None) is None:
                return
            for each in self._sockets.pop(container_id, ()):
                each.close()
            self._order(Drop(container_id))

    def close(self, *, stop: bool) -> None:
        """Leave the process to itself; `stop`: end it."""
        with self._turn:
            if stop and self._connection is None:
                self._connection = self._connect()
            if self._connection is not None and stop:
                self._try(Stop())
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that watches it
                self._connection.close()
                self._connection = None
            for pair in self._sockets.values():
                for each in pair:
                    each.close()
            self._sockets.clear()

    # ── the conversation ───────────────────────────────────────────────────────────────────────────────────────────────

    def _order(self, order: Order, fds: Sequence[int] = ()) -> None:
        """Have an order obeyed; a process that is not there, or died, is started and told everything first."""
        if self._connection is not None and (answer := self._try(order, fds)) is not None:
            if isinstance(answer, Refused):
                raise SystemFailure(f"name server: {answer.message}")
            return
        if isinstance(order, Drop) and not self._known:
            return  # nobody is left to start one for
        self._start()
        self._tell_everything()

    def _try(self, order: Order, fds: Sequence[int] = ()) -> Answer | None:
        """The answer to an order; None when the process has gone."""
        assert self._connection is not None
        try:
            send(self._connection, order, fds)
            return receive_answer(self._connection)
        except (OSError, EOFError):
            self._connection.close()
            self._connection = None
            return None

    def _tell_everything(self) -> None:
        orders: list[tuple[Order, list[int]]] = [(Put(container), []) for container in self._known.values()]
        orders.append((Retain(tuple(self._known)), []))
        orders += [(Serve(container_id), [each.fileno() for each in pair]) for container_id, pair in self._sockets.items()]
        for order, fds in orders:
            if self._connection is None or self._try(order, fds) is None:
                raise SystemFailure("the name server ends as soon as it is started")

    def _take_back(self) -> None:
        """After a start: get copies of the sockets again, so that the process could be replaced."""
        for container_id in self._known:
            assert self._connection is not None
            try:
                send(self._connection, Fetch(container_id))
                answer, fds = receive_answer_with_descriptors(self._connection)
            except (OSError, EOFError) as error:
                raise SystemFailure("the name server ended while it was asked for its sockets") from error
            if isinstance(answer, Refused) or len(fds) != 2:
                log.warning("the name server does not answer container %s: it resolves names again after a restart", container_id)
                continue
            self._sockets[container_id] = (socket.socket(fileno=fds[0]), socket.socket(fileno=fds[1]))

    def _connect(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_START_SECONDS)
        try:
            connection.connect(str(self._path))
            send(connection, Hello())
            answer = receive_answer(connection)
        except (OSError, EOFError):
            connection.close()
            return None
        if isinstance(answer, Refused):
            connection.close()
            raise SystemFailure(f"name server: {answer.message}")
        return connection

    def _start(self) -> None:
        """Start the process and wait until it listens. It is nobody's child for long: it leaves our session and outlives us."""
        self._path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        ready, said = os.pipe()
        command = [sys.executable, "-I", "-S", "-c", _LAUNCH, json.dumps(sys.path), str(self._path), str(said)]
        try:
            process = subprocess.Popen(
                command, pass_fds=[said], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True, cwd="/"
            )
        except OSError as error:
            os.close(ready)
            raise SystemFailure(f"cannot start the name server: {error.strerror}") from error
        finally:
            os.close(said)
        try:
            listening = os.read(ready, 1) == b"1"
        finally:
            os.close(ready)
        connection = self._connect() if listening else None
        if connection is None:
            raise SystemFailure(f"the name server did not start (status {process.wait()})")
        self._adopt(connection, process)

    def _adopt(self, connection: socket.socket, process: subprocess.Popen[bytes] | None = None) -> None:
        self._connection = connection
        watched = connection.dup()
        threading.Thread(target=self._await_end, args=(connection, watched, process), name="names-watch", daemon=True).start()

    def _await_end(self, connection: socket.socket, watched: socket.socket, process: subprocess.Popen[bytes] | None) -> None:
        """Notice at once that the process died, and have another answer in its place."""
        with watched:
            poll = select.poll()
            poll.register(watched, select.POLLRDHUP)
            poll.poll()
        if process is not None:
            process.wait()
        with self._turn:
            if self._connection is not connection or not self._known:
                return  # we left it, or an order has noticed already
            log.warning("the name server ended unexpectedly: starting another")
            connection.close()
            self._connection = None
            try:
                self._start()
                self._tell_everything()
            except SystemFailure:
                log.exception("the name server cannot be started; the next change tries again")


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
            nft.run(_RULES.format(address=RESOLVER, udp=datagrams.getsockname()[1], tcp=listener.getsockname()[1]))
        finally:
            nft.close()
    except BaseException:
        datagrams.close()
        listener.close()
        raise
    return datagrams, listener
