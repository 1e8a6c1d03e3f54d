"""The name server itself: sockets that stand in containers' network namespaces, a table, and what is asked of others.

One asyncio loop serves all containers. A container is told apart by the socket that it asked, which is in its own namespace, so
that no packet can claim to be another's.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Coroutine
from dataclasses import dataclass, field

from carrack.networks.dns import message
from carrack.networks.dns.forwarding import Forwarder, HostServers
from carrack.networks.dns.message import Malformed, Query
from carrack.networks.dns.table import ContainerNames, NameTable

Peer = tuple[str, int]

_BATCH = 64
_REMEMBERED = 4096
"""Questions whose answers are remembered."""
_STREAM_IDLE_SECONDS = 10.0
_STREAM_LIMIT = 32
"""TCP conversations of one container at once."""


@dataclass(slots=True)
class _Place:
    """The sockets of one container."""

    container_id: str
    datagrams: socket.socket
    listener: socket.socket
    streams: set[asyncio.Task[None]] = field(default_factory=set)


class NameServer:
    """Answers containers. Every method runs on the loop."""

    def __init__(
        self,
        table: NameTable,
        *,
        upstream_port: int = 53,
        servers: HostServers | None = None,
    ) -> None:
        self.table = table
        self._places: dict[str, _Place] = {}
        self._forwarder = Forwarder(upstream_port)
        self._host_servers = servers or HostServers()
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: dict[tuple[str, bytes], bytes] = {}
        """(container, question) → answer, both without identifier: of this generation of the table."""
        self._generation = -1

    def __len__(self) -> int:
        return len(self._places)

    def serve(self, container_id: str, datagrams: socket.socket, listener: socket.socket) -> None:
        """Answer on these sockets for a container, until `leave`; they are ours from now on."""
        self.leave(container_id)
        place = _Place(container_id, datagrams, listener)
        self._places[container_id] = place
        loop = asyncio.get_running_loop()
        for each in (datagrams, listener):
            each.setblocking(False)
        loop.add_reader(datagrams, self._read_datagrams, place)
        loop.add_reader(listener, self._accept, place)

    def leave(self, container_id: str) -> None:
        """Close a container's sockets, which lets its namespace end. Idempotent."""
        place = self._places.pop(container_id, None)
        if place is None:
            return
        loop = asyncio.get_running_loop()
        for each in (place.datagrams, place.listener):
            loop.remove_reader(each)
            each.close()
        for task in place.streams:
            task.cancel()

    def all(self) -> list[tuple[str, list[int]]]:
        """Every container that is answered, with the descriptors of its two sockets."""
        return [(place.container_id, [place.datagrams.fileno(), place.listener.fileno()]) for place in self._places.values()]

    def retain(self, container_ids: set[str]) -> None:
        """Leave every container but these."""
        for container_id in set(self._places) - container_ids:
            self.leave(container_id)

    # ── questions ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _read_datagrams(self, place: _Place) -> None:
        for _ in range(_BATCH):  # then the others have their turn
            try:
                data, peer = place.datagrams.recvfrom(4096)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                continue  # an ICMP error of an earlier answer: the asker has gone
            remembered = self._remembered(place.container_id, data)
            answer = remembered or self._answer(place.container_id, data, None)
            if isinstance(answer, bytes):
                _send(place.datagrams, answer, peer)
            elif answer is not None:
                self._spawn(self._hand_on(place, data, answer, peer))

    def _remembered(self, container_id: str, data: bytes) -> bytes | None:
        """The answer to a question that was asked before in the same words, and has but one answer."""
        if self._generation != self.table.generation or len(self._answers) > _REMEMBERED:
            self._answers.clear()
            self._generation = self.table.generation
        found = self._answers.get((container_id, data[2:]))
        return data[:2] + found if found is not None else None

    def _answer(self, container_id: str, data: bytes, limit: int | None) -> bytes | tuple[Query, ContainerNames] | None:
        """What the table says; or who asks, when others must be asked; None: nothing is answered."""
        try:
            query = message.parse(data)
        except Malformed:
            return message.refuse_malformed(data)
        if not query.is_ordinary:
            return message.respond(query, message.NOT_IMPLEMENTED)
        asker = self.table.get(container_id)
        if asker is None:
            return message.respond(query, message.SERVER_FAILURE)
        if query.kind == message.PTR:
            address = message.pointer_address(query.name)
            name = self.table.name_of(asker, address) if address is not None else ""
            if name:
                return message.respond(query, message.NO_ERROR, [(message.PTR, message.encode_name(name))], limit=limit)
        elif (found := self._records(asker, query)) is not None:
            answer = message.respond(query, message.NO_ERROR, found, limit=limit)
            if len(found) <= 1 and limit is None:  # several take turns
                self._answers[(container_id, data[2:])] = answer[2:]
            return answer
        return query, asker

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

    def _servers(self, asker: ContainerNames) -> tuple[str, ...]:
        if not asker.outward:
            return ()
        return asker.upstreams or self._host_servers.get()

    async def _hand_on(self, place: _Place, data: bytes, asked: tuple[Query, ContainerNames], peer: Peer) -> None:
        query, asker = asked
        answer = await self._forwarder.ask(data, query.question, self._servers(asker))
        if self._places.get(place.container_id) is place:
            _send(place.datagrams, answer or message.respond(query, message.SERVER_FAILURE), peer)

    # ── by TCP ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _accept(self, place: _Place) -> None:
        try:
            connection, _ = place.listener.accept()
        except OSError:
            return
        if len(place.streams) >= _STREAM_LIMIT:
            connection.close()
            return
        connection.setblocking(False)
        task = self._spawn(self._converse(place, connection))
        place.streams.add(task)
        task.add_done_callback(place.streams.discard)

    async def _converse(self, place: _Place, connection: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            while True:
                async with asyncio.timeout(_STREAM_IDLE_SECONDS):
                    length = struct.unpack(">H", await reader.readexactly(2))[0]
                    data = await reader.readexactly(length)
                answer = self._answer(place.container_id, data, 65535)
                if isinstance(answer, tuple):
                    query, asker = answer
                    handed_on = await self._forwarder.ask_by_stream(data, self._servers(asker))
                    answer = handed_on or message.respond(query, message.SERVER_FAILURE)
                if answer is None:
                    return
                writer.write(struct.pack(">H", len(answer)) + answer)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _send(datagrams: socket.socket, answer: bytes, peer: Peer) -> None:
    try:
        datagrams.sendto(answer, peer)
    except OSError:
        pass  # the asker will ask again
