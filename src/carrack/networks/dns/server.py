"""The name server itself: sockets that stand in containers' network namespaces, a table, and what is asked of others.

One loop serves all containers. A container is told apart by the socket that it asked, which is in its own namespace, so that no
packet can claim to be another's. Most questions come again and again in the same words: their answers are remembered, and a whole
batch of them is read, answered and sent with two system calls.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from carrack.kernel.datagrams import DatagramBatch
from carrack.kernel.loop import READ, WRITE, Loop
from carrack.kernel.socket_namespace import socket_beside
from carrack.networks.dns import message
from carrack.networks.dns.control import RESOLVER
from carrack.networks.dns.forwarding import Forwarder, HostServers, MakeSocket, host_socket
from carrack.networks.dns.message import Malformed, Query
from carrack.networks.dns.table import ContainerNames, NameTable

Send = Callable[[bytes | None], None]
"""Takes the answer to a question; None: there is none."""
_BATCH = 32
_DATAGRAM_BYTES = 4096
_IDENTIFIER_BYTES = 2
_REMEMBERED = 4096
"""Questions of a container whose answers are remembered."""
_REMEMBERED_BYTES = 320
"""How long such a question may be: a name of any length fits, with the options that resolvers send. What is longer was written to
fill our memory."""
_STREAM_IDLE_SECONDS = 10.0
_STREAM_LIMIT = 32
"""TCP conversations of one container at once."""


class _Place:
    """The sockets of one container, and what was answered by them."""

    def __init__(self, container_id: str, datagrams: socket.socket, listener: socket.socket) -> None:
        self.container_id = container_id
        self.datagrams = datagrams
        self.listener = listener
        self.streams: set[_Stream] = set()
        self.answers: dict[bytes, bytes] = {}
        """question → answer, both without identifier: of this generation of the table."""
        self.generation = -1
        self.gone = False

    def socket_here(self, family: int, kind: int) -> socket.socket:
        """A socket in the container's namespace, which that of its server's socket is."""
        return socket_beside(self.datagrams, family, kind)


class NameServer:
    """Answers containers. Every method runs on the loop."""

    def __init__(self, loop: Loop, table: NameTable) -> None:
        self.table = table
        self._loop = loop
        self._places: dict[str, _Place] = {}
        self._forwarder = Forwarder(loop)
        self._host_servers = HostServers()
        self._batch: DatagramBatch | None = None

    def __len__(self) -> int:
        return len(self._places)

    def serve(self, container_id: str, datagrams: socket.socket, listener: socket.socket) -> None:
        """Answer on these sockets for a container, until `leave`; they are ours from now on."""
        self.leave(container_id)
        place = _Place(container_id, datagrams, listener)
        self._places[container_id] = place
        for each, ready in ((datagrams, self._read_datagrams), (listener, self._accept)):
            each.setblocking(False)
            self._loop.watch(each.fileno(), READ, lambda _, ready=ready: ready(place))  # type: ignore[misc]

    def leave(self, container_id: str) -> None:
        """Close a container's sockets, which lets its namespace end. Idempotent."""
        place = self._places.pop(container_id, None)
        if place is None:
            return
        place.gone = True
        for each in (place.datagrams, place.listener):
            self._loop.forget(each.fileno())
            each.close()
        for stream in tuple(place.streams):
            stream.close()

    def all(self) -> list[tuple[str, list[int]]]:
        """Every container that is answered, with the descriptors of its two sockets."""
        return [(place.container_id, [place.datagrams.fileno(), place.listener.fileno()]) for place in self._places.values()]

    def serves(self, container_id: str) -> bool:
        return container_id in self._places

    def retain(self, container_ids: set[str]) -> None:
        """Leave every container but these."""
        for container_id in set(self._places) - container_ids:
            self.leave(container_id)

    # ── questions ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read_datagrams(self, place: _Place) -> None:
        """One batch; then the others have their turn."""
        if self._batch is None:
            self._batch = DatagramBatch(_BATCH, _DATAGRAM_BYTES, _IDENTIFIER_BYTES)
        fd = place.datagrams.fileno()
        try:
            asked = self._batch.receive(fd)
        except OSError:
            return  # an ICMP error of an earlier answer: the asker has gone
        if place.generation != self.table.generation or len(place.answers) > _REMEMBERED:
            place.answers.clear()
            place.generation = self.table.generation
        known = place.answers
        try:
            answers = [known[question] for question in asked]
        except KeyError:
            for number in range(len(asked)):
                self._answer_one(place, self._batch.whole(number), self._batch.peer(number))
        else:
            self._batch.answer(fd, answers)

    def _answer_one(self, place: _Place, data: bytes, peer: tuple[str, int]) -> None:
        def send(answer: bytes | None) -> None:
            if answer is not None and not place.gone:
                try:
                    place.datagrams.sendto(answer, peer)
                except OSError:
                    pass  # the asker will ask again

        remembered = place.answers.get(data[2:])
        if remembered is not None:
            send(data[:2] + remembered)
        else:
            self._answer(place, data, None, send)

    def _answer(self, place: _Place, data: bytes, limit: int | None, send: Send) -> None:
        """Answer a question: from the table, or when another server has answered. By a stream there is a `limit`."""
        try:
            query = message.parse(data)
        except Malformed:
            send(message.refuse_malformed(data))
            return
        asker = self.table.get(place.container_id)
        if not query.is_ordinary:
            send(message.respond(query, message.NOT_IMPLEMENTED))
        elif asker is None:
            send(message.respond(query, message.SERVER_FAILURE))
        elif (found := self._found(asker, query)) is not None:
            answer = message.respond(query, message.NO_ERROR, found, limit=limit)
            if len(found) <= 1 and limit is None and len(data) <= _REMEMBERED_BYTES:  # several take turns
                place.answers[data[2:]] = answer[2:]
            send(answer)
        else:
            self._hand_on(place, asker, query, data, limit is not None, send)

    def _hand_on(self, place: _Place, asker: ContainerNames, query: Query, data: bytes, by_stream: bool, send: Send) -> None:
        """Ask others: the servers chosen for this container from its own namespace, as Docker does, the host's from the host's."""
        servers: tuple[str, ...] = ()
        make_socket: MakeSocket = host_socket
        if asker.outward and asker.upstreams:
            servers = tuple(server for server in asker.upstreams if server != RESOLVER)  # it would be asking itself
            make_socket = place.socket_here
        elif asker.outward:
            servers = self._host_servers.get()
        failure = message.respond(query, message.SERVER_FAILURE)
        self._forwarder.ask(
            data,
            query.question,
            servers,
            lambda answer: send(answer or failure),
            asker=place.container_id,
            make_socket=make_socket,
            by_stream=by_stream,
        )

    def _found(self, asker: ContainerNames, query: Query) -> list[tuple[int, bytes]] | None:
        """What the table says to a question; None: others have to be asked."""
        if query.kind != message.PTR:
            return self._records(asker, query)
        address = message.pointer_address(query.name)
        name = self.table.name_of(asker, address) if address is not None else ""
        try:
            return [(message.PTR, message.encode_name(name))] if name else None
        except Malformed:  # a container may have a name that DNS cannot say
            return []

    def _records(self, asker: ContainerNames, query: Query) -> list[tuple[int, bytes]] | None:
        """The records of a name that the table knows, perhaps none of that type; None: it does not know the name."""
        kinds = {message.A: (4,), message.AAAA: (6,), message.ANY: (4, 6)}.get(query.kind, ())
        if not kinds:
            return [] if self.table.find(asker, query.name, 4) is not None else None
        records = []
        for version in kinds:
            addresses = self.table.find(asker, query.name, version)
            if addresses is None:
                return None
            records += [(message.A if version == 4 else message.AAAA, address.packed) for address in addresses]
        return records

    # ── by TCP ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _accept(self, place: _Place) -> None:
        try:
            connection, _ = place.listener.accept()
        except OSError:
            return
        if len(place.streams) >= _STREAM_LIMIT:
            connection.close()
            return

        def answer(data: bytes, send: Send) -> None:
            self._answer(place, data, 65535, send)

        place.streams.add(_Stream(self._loop, connection, answer, place.streams.discard))


class _Stream:
    """One TCP conversation: a question at a time, each answered before the next is read."""

    def __init__(
        self,
        loop: Loop,
        connection: socket.socket,
        answer: Callable[[bytes, Send], None],
        gone: Callable[[_Stream], None],
    ) -> None:
        connection.setblocking(False)
        self._loop = loop
        self._connection = connection
        self._answer = answer
        self._gone = gone
        self._heard = b""
        self._left = b""
        self._closed = False
        self._timer = loop.call_later(_STREAM_IDLE_SECONDS, self.close)
        loop.watch(connection.fileno(), READ, self._ready)

    def close(self) -> None:
        """End the conversation. Idempotent."""
        if not self._closed:
            self._closed = True
            self._timer.cancel()
            self._loop.forget(self._connection.fileno())
            self._connection.close()
            self._gone(self)

    def _ready(self, _: int) -> None:
        try:
            if self._left:
                self._left = self._left[self._connection.send(self._left) :]
            else:
                piece = self._connection.recv(1 << 16)
                self._heard += piece
                if not piece:
                    self.close()
                    return
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.close()
            return
        self._next()

    def _next(self) -> None:
        """Answer the next question that has come whole, or wait for what is to come."""
        length = struct.unpack_from(">H", self._heard)[0] if len(self._heard) >= 2 else 0
        if not self._left and len(self._heard) >= 2 + max(length, 1):
            data, self._heard = self._heard[2 : 2 + length], self._heard[2 + length :]
            self._loop.forget(self._connection.fileno())  # a hang-up is heard later, when there is something to do about it
            self._timer.cancel()
            self._answer(data, self._send)
            return
        self._loop.change(self._connection.fileno(), WRITE if self._left else READ)

    def _send(self, answer: bytes | None) -> None:
        if answer is None:
            self.close()
        if self._closed or answer is None:
            return
        self._left = struct.pack(">H", len(answer)) + answer
        self._timer = self._loop.call_later(_STREAM_IDLE_SECONDS, self.close)
        self._loop.watch(self._connection.fileno(), WRITE, self._ready)
