"""The extension behind `carrack build`: what the classic build API cannot carry.

    POST   /build/sessions                         options, secrets, and for each folder its manifest; answers what is missing
    PUT    /build/sessions/{id}/contexts/{name}    a tar of what was missing ("." is the main context), or a whole context
    POST   /build/sessions/{id}/agents/{name}      upgraded: a connection to the client's ssh agent, which waits for a step
    POST   /build?remote=carrack-session:{id}      the build; with `progress=events` its stream is one event per line
    GET    /build/sessions/{id}/outputs/{number}   an output that goes to the client, as a tar
    DELETE /build/sessions/{id}

The body of the first is a line of JSON (`SessionOrder`), then the manifests one after the other. Secrets stay in memory. A session
that nobody uses for a minute is closed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from carrack.api.blocking import BlockingReader, in_own_thread, in_thread
from carrack.api.build_agents import AgentDoor
from carrack.api.json import reply
from carrack.api.router import Route
from carrack.build.contexts.incremental import Mirror
from carrack.build.contexts.reception import Reception
from carrack.build.plan import ImageContext, LayoutContext, LocalNamed, NamedContext, RemoteNamed
from carrack.build.ports import LocalContext
from carrack.build.request import BuildRequest, CacheReference, Export
from carrack.distribution.cancellation import Cancellation
from carrack.errors import Conflict, InvalidParameter, NotFound
from carrack.http import FileResponse, Request, Response

PREFIX = "carrack-session:"
_MAIN = "."
_BODY_LIMIT_BYTES = 512 << 20
_IDLE_SECONDS = 60.0
_TO_CLIENT = frozenset(("local", "tar", "docker", "oci", "cache"))

log = logging.getLogger("carrack.build")


class _Folder(msgspec.Struct, rename="pascal"):
    name: str
    key: str
    bytes: int


class _Described(msgspec.Struct, rename="pascal"):
    type: str
    attributes: dict[str, str] = {}
    to_client: bool = False


class SessionOrder(msgspec.Struct, rename="pascal"):
    """What a client wants to build, as far as the query of `POST /build` cannot say it."""

    contexts: list[_Folder] = []
    archive: bool = False
    """The main context comes whole, as a tar."""
    remote: str = ""
    """The main context is a Git repository or a page, which the daemon fetches."""
    named: dict[str, str] = {}
    """Named contexts that are no folders: ``docker-image://``, Git and web addresses."""
    dockerfile: bytes | None = None
    """The file's content, when it is not to be read from the context."""
    secrets: dict[str, bytes] = {}
    agents: list[str] = []
    outputs: list[_Described] = []
    cache_from: list[_Described] = []
    cache_to: list[_Described] = []
    attestations: dict[str, dict[str, str]] = {}
    annotations: dict[str, str] = {}
    no_cache_stages: list[str] = []
    allowed: list[str] = []
    call: str = ""


class BuildSession:
    """One client's order, from its announcement to the fetching of its outputs."""

    def __init__(self, order: SessionOrder, mirrors: Mapping[str, Mirror], doors: Mapping[str, AgentDoor]) -> None:
        self.id = os.urandom(12).hex()
        self.order = order
        self.mirrors = mirrors
        self.doors = doors
        self.main: LocalContext | None = None
        """A main context that came whole."""
        self.outputs: dict[int, int] = {}
        """Number → descriptor of the file that holds the archive."""
        self.begun = False
        self.busy = 0
        """How many requests are at work on it: then it does not time out."""


class BuildSessions:
    """The sessions of this daemon's clients. Lives on the event loop."""

    def __init__(self, reception: Reception, sockets: Path) -> None:
        """`sockets` is a directory for the agents' sockets; those that a killed daemon left are removed."""
        self._reception = reception
        self._sockets = sockets
        for left in sockets.iterdir() if sockets.is_dir() else ():
            left.unlink(missing_ok=True)
        self._by_id: dict[str, BuildSession] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def routes(self) -> list[Route]:
        """The routes of sessions."""
        return [
            Route("POST", "/build/sessions", self.create),
            Route("PUT", "/build/sessions/{id}/contexts/{name}", self.receive),
            Route("POST", "/build/sessions/{id}/agents/{name}", self.lend),
            Route("GET", "/build/sessions/{id}/outputs/{number}", self.give),
            Route("DELETE", "/build/sessions/{id}", self.remove),
        ]

    async def create(self, request: Request) -> Response:
        body = await request.body(_BODY_LIMIT_BYTES)
        line, _, manifests = body.partition(b"\n")
        try:
            order = msgspec.json.decode(line, type=SessionOrder)
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidParameter(f"invalid build session: {error}") from error
        if sum(folder.bytes for folder in order.contexts) != len(manifests):
            raise InvalidParameter("invalid build session: the manifests are not as long as announced")
        mirrors = await in_own_thread(self._mirrors, order, manifests)
        session = BuildSession(order, mirrors, {})
        doors = {name: AgentDoor(self._sockets / f"{session.id[:12]}-{number}") for number, name in enumerate(order.agents)}
        for door in doors.values():
            await door.open()
        session.doors = doors
        self._by_id[session.id] = session
        self._rest(session)
        return reply({"Id": session.id, "Missing": {name: mirror.missing for name, mirror in mirrors.items()}}, 201)

    async def receive(self, request: Request) -> Response:
        session = self._find(request.params["id"])
        name = "" if request.params["name"] == _MAIN else request.params["name"]
        mirror = session.mirrors.get(name)
        if mirror is None and (name or not session.order.archive or session.main is not None):
            raise NotFound(f"no context {request.params['name']!r} was announced")
        cancel = Cancellation()
        body = pieces(BlockingReader(request.stream()))
        async with _Used(self, session):
            try:
                if mirror is not None:
                    await in_own_thread(mirror.receive, body, cancel)
                else:
                    session.main = await in_own_thread(self._reception.receive_tar, body, cancel)
            except asyncio.CancelledError:
                cancel.cancel()
                raise
        return Response(204)

    async def lend(self, request: Request) -> None:
        session = self._find(request.params["id"])
        door = session.doors.get(request.params["name"])
        if door is None:
            raise NotFound(f"no agent {request.params['name']!r} was announced")
        given = await request.hand_over(101, "UPGRADED", {"Connection": "Upgrade", "Upgrade": "tcp"})
        door.offer(given.fd)

    async def give(self, request: Request) -> FileResponse:
        session = self._find(request.params["id"])
        number = request.params["number"]
        fd = session.outputs.get(int(number)) if number.isascii() and number.isdecimal() and len(number) < 10 else None
        if fd is None:
            raise NotFound(f"the build has no output {number}")
        self._rest(session)
        fd = os.dup(fd)
        return FileResponse(200, fd, 0, os.fstat(fd).st_size, {"Content-Type": "application/x-tar"})

    async def remove(self, request: Request) -> Response:
        await self._close(self._find(request.params["id"]))
        return Response(204)

    async def begin(self, remote: str, wanted: BuildRequest, tell: Callable[[str], None], cancel: Cancellation) -> BuildRequest:
        """A build's request with what its session adds. `ended` is called when the build has. Raises NotFound."""
        session = self._find(remote.removeprefix(PREFIX))
        if session.begun:
            raise Conflict(f"build session {session.id} has had its build")
        session.begun = True
        order = session.order
        contexts: dict[str, LocalContext] = {}
        for name, mirror in session.mirrors.items():
            contexts[name] = await in_own_thread(mirror.context, cancel)
        if session.main is not None:
            contexts[""], session.main = session.main, None
        elif order.remote:
            contexts[""], lone = await in_own_thread(self._reception.receive_remote, order.remote, tell, cancel)
            wanted = replace(wanted, dockerfile=lone or wanted.dockerfile)
        session.busy += 1
        exports = [self._export(session, number, each) for number, each in enumerate(order.outputs)]
        return replace(
            wanted,
            contexts=contexts,
            named={**{name: LocalNamed() for name in contexts if name}, **{n: _named(n, text) for n, text in order.named.items()}},
            dockerfile_content=order.dockerfile,
            secrets=order.secrets,
            agents={name: str(door.path) for name, door in session.doors.items()},
            exports=tuple(exports) or wanted.exports,
            cache_from=(*wanted.cache_from, *(CacheReference(each.type, each.attributes) for each in order.cache_from)),
            cache_to=tuple(CacheReference(each.type, each.attributes) for each in order.cache_to),
            attestations=order.attestations,
            annotations=order.annotations,
            no_cache=wanted.no_cache | frozenset(order.no_cache_stages),
            surroundings=replace(wanted.surroundings, allowed=wanted.surroundings.allowed | frozenset(order.allowed)),
            call=order.call,
        )

    def ended(self, remote: str) -> None:
        """The build of a session (or of none) has ended; its outputs are there to be fetched."""
        session = self._by_id.get(remote.removeprefix(PREFIX))
        if session is not None:
            session.busy -= 1
            self._rest(session)

    async def close(self) -> None:
        """End every session."""
        for session in list(self._by_id.values()):
            await self._close(session)

    def _mirrors(self, order: SessionOrder, manifests: bytes) -> dict[str, Mirror]:
        mirrors: dict[str, Mirror] = {}
        position = 0
        reception = self._reception
        try:
            for folder in order.contexts:
                if folder.name in mirrors:
                    raise InvalidParameter(f"invalid build session: two contexts {folder.name!r}")
                manifest = manifests[position : position + folder.bytes]
                position += folder.bytes
                mirrors[folder.name] = Mirror(reception.slots, reception.trees, folder.key, manifest, reception.free_bytes)
        except BaseException:
            for mirror in mirrors.values():
                mirror.close()
            raise
        return mirrors

    def _export(self, session: BuildSession, number: int, described: _Described) -> Export:
        if not described.to_client:
            return Export(described.type, described.attributes)
        if described.type not in _TO_CLIENT:
            raise InvalidParameter(f"an output of type {described.type!r} cannot go to a client")
        fd = self._reception.slots.scratch_file()
        session.outputs[number] = fd
        return Export(described.type, described.attributes, target_fd=fd)

    def _find(self, name: str) -> BuildSession:
        session = self._by_id.get(name)
        if session is None:
            raise NotFound(f"no such build session: {name}")
        return session

    def _rest(self, session: BuildSession) -> None:
        """From now on the session waits for its client, not for ever."""
        if (timer := self._timers.pop(session.id, None)) is not None:
            timer.cancel()
        if session.id in self._by_id:
            self._timers[session.id] = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._expire, session)

    def _expire(self, session: BuildSession) -> None:
        if session.busy:
            self._rest(session)
            return
        log.info("build session %s was left alone", session.id)
        task = asyncio.ensure_future(self._close(session))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _close(self, session: BuildSession) -> None:
        if self._by_id.pop(session.id, None) is None:
            return
        if (timer := self._timers.pop(session.id, None)) is not None:
            timer.cancel()
        for door in session.doors.values():
            await door.close()
        for fd in session.outputs.values():
            os.close(fd)
        if session.main is not None:
            await in_thread(session.main.close)
        for mirror in session.mirrors.values():
            await in_thread(mirror.close)


class _Used:
    """While somebody works on a session it does not time out."""

    def __init__(self, sessions: BuildSessions, session: BuildSession) -> None:
        self._sessions = sessions
        self._session = session

    async def __aenter__(self) -> None:
        self._session.busy += 1

    async def __aexit__(self, *_: object) -> None:
        self._session.busy -= 1
        self._sessions._rest(self._session)


def pieces(reader: BlockingReader) -> Callable[[int], bytes]:
    """The body by sizes, as a tar reader asks for it; at most what is asked for is given."""
    held = b""

    def read(size: int) -> bytes:
        nonlocal held
        if not held:
            held = next(reader, b"")
        given, held = held[:size], held[size:]
        return given

    return read


def _named(name: str, text: str) -> NamedContext:
    if text.startswith("oci-layout://"):
        return LayoutContext(f"layout:{name}", text.removeprefix("oci-layout://"))
    if text.startswith("docker-image://"):
        return ImageContext(text.removeprefix("docker-image://"))
    return RemoteNamed(text)
