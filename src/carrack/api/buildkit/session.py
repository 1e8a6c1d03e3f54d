"""A client's session: what it serves to us for the length of a build (credentials, secrets, ssh agents; its files: `file_sync.py`).

The builder asks for these from its threads, one by one as a step needs them: so they are mappings whose look-up is a call. None of
their answers is kept longer than the build, and none is written down.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from carrack.api.build_agents import AgentDoor
from carrack.api.buildkit.grpc import ClientStream, GRPCError, Peer, Status
from carrack.api.buildkit.wire.buildkit_pb2 import (
    BytesMessage,
    CheckAgentRequest,
    CredentialsRequest,
    CredentialsResponse,
    Empty,
    GetSecretRequest,
    GetSecretResponse,
)
from carrack.errors import CarrackError, Conflict, NotFound, Unavailable
from carrack.http.request import HandedOver

log = logging.getLogger("carrack.buildkit")

_ARRIVAL_SECONDS = 20.0
"""How long a build waits for its client's session, which comes on a connection of its own."""
_ANSWER_SECONDS = 60.0
_PIECE_BYTES = 32 << 10
_DOCKER_HUB = "registry-1.docker.io"
"""The host by which clients know Docker Hub's credentials."""
_TOKEN_USER = "<token>"
T = TypeVar("T")
V = TypeVar("V")


class Session:
    """One client's."""

    def __init__(self, name: str, shared_key: str) -> None:
        self.name = name
        self.shared_key = shared_key
        """Names the client's folder, as far as the client knows: the same again has mostly the same files."""
        self.peer = Peer()

    async def secret(self, name: str) -> bytes | None:
        """A secret's content, None when the client has none of that name."""
        try:
            return (await self.peer.call(_SECRET, GetSecretRequest(ID=name), GetSecretResponse)).data
        except GRPCError as error:
            if error.status in (Status.NOT_FOUND, Status.UNIMPLEMENTED):
                return None
            raise refused(error, f"secret {name}") from error

    async def credentials(self, host: str) -> str | None:
        """What the client knows of a registry, as an X-Registry-Auth header; None: nothing."""
        try:
            request = CredentialsRequest(Host=_DOCKER_HUB if host == "docker.io" else host)
            answer = await self.peer.call(_CREDENTIALS, request, CredentialsResponse)
        except GRPCError as error:
            if error.status in (Status.NOT_FOUND, Status.UNIMPLEMENTED):
                return None
            raise refused(error, f"credentials for {host}") from error
        if not answer.Secret:
            return None
        if answer.Username in ("", _TOKEN_USER):
            document = {"identitytoken": answer.Secret, "serveraddress": host}
        else:
            document = {"username": answer.Username, "password": answer.Secret, "serveraddress": host}
        return base64.urlsafe_b64encode(msgspec.json.encode(document)).decode()

    async def has_agent(self, name: str) -> bool:
        """Whether the client lends an ssh agent of that name."""
        try:
            await self.peer.call(_CHECK_AGENT, CheckAgentRequest(ID=name), Empty)
        except GRPCError:
            return False
        return True

    async def reach_agent(self, name: str, relays: set[asyncio.Task[None]]) -> int:
        """A connection to the client's agent, as a descriptor; its relay goes on in `relays`."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        relay = asyncio.ensure_future(self._relay(name, ours))
        relays.add(relay)
        relay.add_done_callback(relays.discard)
        return theirs.detach()

    async def _relay(self, name: str, ours: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            async with self.peer.open(_FORWARD_AGENT, BytesMessage, BytesMessage, {"buildkit.ssh.id": [name]}) as stream:
                sending = asyncio.ensure_future(_send_all(reader, stream))
                try:
                    while (message := await stream.recv_message()) is not None:
                        writer.write(message.data)
                        await writer.drain()
                finally:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
        except (OSError, GRPCError, CarrackError) as error:
            log.info("a connection to a client's ssh agent ended: %s", error)
        finally:
            writer.close()


_SECRET = "/moby.buildkit.secrets.v1.Secrets/GetSecret"
_CREDENTIALS = "/moby.filesync.v1.Auth/Credentials"
_CHECK_AGENT = "/moby.sshforward.v1.SSH/CheckAgent"
_FORWARD_AGENT = "/moby.sshforward.v1.SSH/ForwardAgent"


async def _send_all(reader: asyncio.StreamReader, stream: ClientStream[BytesMessage, BytesMessage]) -> None:
    while piece := await reader.read(_PIECE_BYTES):
        await stream.send_message(BytesMessage(data=piece))
    await stream.end()


class Sessions:
    """Every session that is open. Lives on the event loop."""

    def __init__(self) -> None:
        self._open: dict[str, Session] = {}
        self._arrival = asyncio.Condition()

    def has(self, name: str) -> bool:
        return name in self._open

    async def attend(self, name: str, shared_key: str, given: HandedOver) -> None:
        """Have a session for as long as its connection lasts. Raises Conflict for a second one of that name."""
        if name in self._open:
            os.close(given.fd)
            raise Conflict(f"session {name} already exists")
        session = self._open[name] = Session(name, shared_key)
        announcing: list[asyncio.Task[None]] = []
        try:
            await session.peer.attend(given, lambda: announcing.append(asyncio.ensure_future(self._announce())))
        finally:
            del self._open[name]
            await asyncio.gather(*announcing, return_exceptions=True)

    async def get(self, name: str) -> Session:
        """A session, which may be about to come. Raises NotFound."""
        async with self._arrival:
            try:
                await asyncio.wait_for(self._arrival.wait_for(lambda: self._is_ready(name)), _ARRIVAL_SECONDS)
            except TimeoutError:
                raise NotFound(f"no active session for {name}") from None
            return self._open[name]

    def _is_ready(self, name: str) -> bool:
        session = self._open.get(name)
        return session is not None and session.peer.is_ready

    async def _announce(self) -> None:
        async with self._arrival:
            self._arrival.notify_all()


class Asked(Mapping[str, V]):
    """What a client is asked for from a thread, when it is looked up, once for each name. Nobody knows all its names."""

    def __init__(self, ask: Callable[[str], Coroutine[Any, Any, V | None]]) -> None:
        """Made on the event loop; looked up anywhere else."""
        self._ask = ask
        self._loop = asyncio.get_running_loop()
        self._known: dict[str, V | None] = {}

    def __getitem__(self, name: str) -> V:
        if name not in self._known:
            self._known[name] = self._wait(self._ask(name))
        found = self._known[name]
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter([name for name, value in self._known.items() if value is not None])

    def __len__(self) -> int:
        return sum(value is not None for value in self._known.values())

    def _wait(self, answer: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run_coroutine_threadsafe(answer, self._loop).result(_ANSWER_SECONDS)
        except TimeoutError:
            raise Unavailable("the client does not answer what its build asks for") from None


class Agents:
    """The sockets behind which a client's ssh agents are, opened as steps ask for them."""

    def __init__(self, session: Session, sockets: Path) -> None:
        self._session = session
        self._sockets = sockets
        self._doors: list[AgentDoor] = []
        self._relays: set[asyncio.Task[None]] = set()

    async def path(self, name: str) -> str | None:
        """The socket of an agent, None when the client lends none of that name."""
        if not await self._session.has_agent(name):
            return None
        reach: Callable[[], Awaitable[int]] = lambda: self._session.reach_agent(name, self._relays)  # noqa: E731
        door = AgentDoor(self._sockets / os.urandom(8).hex(), reach)
        self._doors.append(door)
        await door.open()
        return str(door.path)

    async def close(self) -> None:
        """End every connection, and take the sockets away."""
        for door in self._doors:
            await door.close()
        for relay in list(self._relays):
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)


def refused(error: GRPCError, what: str) -> CarrackError:
    """What a client's refusal of something is to its build."""
    return Unavailable(f"{what}: {error.message or error.status.name}")
