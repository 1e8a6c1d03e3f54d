"""POST /build and its neighbours: Docker's classic build API over the builder.

The query is Docker's; what it cannot say (secrets, named contexts, exports, the display of parallel steps) comes by Carrack's own
extension (`build_sessions.py`). A client that leaves takes its build back. The answer is a stream of JSON documents, in the form
that `build_stream.py` gives them.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import msgspec

from carrack.api import pruning
from carrack.api.blocking import BlockingReader, in_own_thread, in_thread
from carrack.api.build_events import EventStream
from carrack.api.build_sessions import PREFIX, BuildSessions, pieces
from carrack.api.build_stream import ClassicStream
from carrack.api.buildkit.doors import BuildKit
from carrack.api.router import Route
from carrack.api.versions import at_least
from carrack.build.builder import Builder
from carrack.build.collect import Collector, Pruning
from carrack.build.plan import Surroundings
from carrack.build.ports import Contexts
from carrack.build.progress import Event
from carrack.build.request import ALL_STAGES, BuildRequest, CacheReference
from carrack.distribution.cancellation import Cancellation
from carrack.engine.filters import Filters
from carrack.errors import CarrackError, DataCorrupt, InvalidParameter
from carrack.http import Reply, Request, Response, StreamResponse
from carrack.images.images import new_name
from carrack.oci.platform import Platform

_JSON = {"Content-Type": "application/json"}
T = TypeVar("T")
_UPLOAD = "upload-request:"
_LIMITS = ("memory", "memswap", "cpushares", "cpuperiod", "cpuquota")


class _Ulimit(msgspec.Struct, rename="pascal"):
    name: str
    soft: int = 0
    hard: int = 0


class _Account(msgspec.Struct):
    username: str = ""
    password: str = ""
    auth: str = ""
    email: str = ""
    identitytoken: str = ""
    registrytoken: str = ""


@dataclass(slots=True)
class _Running:
    """The builds that go on, by the id their clients gave them."""

    by_id: dict[str, Cancellation] = field(default_factory=dict)


def routes(
    builder: Builder,
    contexts: Contexts,
    sessions: BuildSessions,
    collector: Collector,
    emit: Callable[[str, str, str, dict[str, str]], None],
    buildkit: BuildKit,
) -> list[Route]:
    """Every route of the builder."""
    build = Build(builder, contexts, sessions, buildkit)

    async def prune(request: Request) -> Reply:
        query = request.query
        filters = Filters.parse(query.get("filters"))
        keep = query.get("reserved-space") or query.get("keep-storage")
        wanted = Pruning(
            all=query.flag("all"),
            keep_bytes=_number(keep, "keep-storage"),
            ceiling_bytes=_number(query.get("max-used-space"), "max-used-space"),
            free_bytes=_number(query.get("min-free-space"), "min-free-space"),
            filters={name: filters.get(name) for name in filters},
        )

        async def work(tell: pruning.Tell) -> object:
            removed, freed = await in_thread(collector.prune, wanted)
            emit("builder", "prune", "", {"reclaimed": str(freed)})
            for record in removed:
                tell(record.id)
            return {"CachesDeleted": [record.id for record in removed] or None, "SpaceReclaimed": freed}

        return await pruning.prune(request, work)

    async def session(request: Request) -> None:
        await buildkit.session(request)

    async def grpc(request: Request) -> None:
        await buildkit.grpc(request)

    return [
        Route("POST", "/build", build.build),
        Route("POST", "/build/prune", prune, since="1.31"),
        Route("POST", "/build/cancel", build.cancel, since="1.39"),
        *sessions.routes(),
        Route("POST", "/session", session, since="1.31"),
        Route("POST", "/grpc", grpc, since="1.39"),
    ]


class Stream(Protocol):
    """A build's events as the lines of one client's answer."""

    def say(self, text: str) -> None:
        """A line of text for the client, as its kind of answer wraps it."""

    def lines(self, event: Event) -> Iterator[bytes]:
        """The lines that tell of an event; perhaps none."""

    def failure(self, error: CarrackError) -> Iterator[bytes]:
        """The last lines of a build that failed."""


class Build:
    """The builds of this daemon's clients."""

    def __init__(self, builder: Builder, contexts: Contexts, sessions: BuildSessions, buildkit: BuildKit) -> None:
        self._builder = builder
        self._contexts = contexts
        self._sessions = sessions
        self._buildkit = buildkit
        self._running = _Running()

    async def cancel(self, request: Request) -> Response:
        name = request.query.get("id")
        if not name:
            raise InvalidParameter("build ID not provided")
        cancel = self._running.by_id.get(name)
        if cancel is not None:
            cancel.cancel()
        return Response(200)

    async def build(self, request: Request) -> StreamResponse | Response:
        query = request.query
        if query.get("version") == "2" or query.get("session"):
            return await self._by_session(request)
        wanted = read_query(request)
        cancel = Cancellation()
        name = query.get("buildid")
        if name:
            self._running.by_id[name] = cancel
        stream: Stream = ClassicStream(quiet=query.flag("q"), version=request.version)
        if query.get("progress") == "events":
            stream = EventStream()
        try:
            received = await self._receive(request, wanted, cancel, stream)
        except BaseException:
            self._running.by_id.pop(name, None)
            raise
        lines = self._lines(request, received, cancel, stream, name)
        first = await anext(lines, None)  # what fails before a line is told has a status of its own
        return StreamResponse(200, _continued(first, lines), _JSON)

    async def _by_session(self, request: Request) -> StreamResponse | Response:
        cancel = Cancellation()
        name = request.query.get("buildid")
        if name.startswith(_UPLOAD):  # the archive of a build that is refused by itself
            return Response(200)
        lines = await self._buildkit.build(request, cancel)

        async def until_the_end() -> AsyncIterator[bytes]:
            self._running.by_id[name] = cancel
            try:
                async for line in lines:
                    yield line
            finally:
                self._running.by_id.pop(name, None)

        return StreamResponse(200, until_the_end(), _JSON)

    async def _receive(self, request: Request, wanted: BuildRequest, cancel: Cancellation, stream: Stream) -> BuildRequest:
        """Take the context in, from the body or from where `remote` says."""
        remote = request.query.get("remote")
        if remote.startswith(PREFIX):
            return await self._sessions.begin(remote, wanted, stream.say, cancel)
        if remote:
            context, lone = await in_own_thread(self._contexts.receive_remote, remote, stream.say, cancel)
            return replace(wanted, contexts={"": context}, dockerfile=lone or wanted.dockerfile)
        reader = BlockingReader(request.stream())
        try:
            return replace(wanted, contexts={"": await in_own_thread(self._contexts.receive_tar, pieces(reader), cancel)})
        except DataCorrupt as error:  # the client's archive, not our disk
            raise InvalidParameter(error.message) from error

    async def _lines(
        self, request: Request, wanted: BuildRequest, cancel: Cancellation, stream: Stream, name: str
    ) -> AsyncGenerator[bytes, None]:
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(event: Event) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        async def work() -> None:
            try:
                await self._builder.build(wanted, tell, cancel)
            finally:
                loop.call_soon(events.put_nowait, None)

        task = asyncio.ensure_future(work())
        leaving = asyncio.ensure_future(_watch(request.disconnected, task, cancel))
        begun = False
        try:
            while (event := await events.get()) is not None:
                for line in stream.lines(event):
                    begun = True
                    yield line
            try:
                await task
            except CarrackError as error:
                if not begun and not isinstance(stream, EventStream):
                    raise
                for line in stream.failure(error):
                    yield line
        finally:
            leaving.cancel()
            if not task.done():
                cancel.cancel()
                await asyncio.gather(task, return_exceptions=True)
            self._running.by_id.pop(name, None)
            self._sessions.ended(request.query.get("remote"))


async def _watch(gone: asyncio.Event, task: asyncio.Future[None], cancel: Cancellation) -> None:
    """The client's leaving takes its build back."""
    await gone.wait()
    cancel.cancel()
    task.cancel()


async def _continued(first: bytes | None, rest: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    try:
        if first is not None:
            yield first
        async for line in rest:
            yield line
    finally:
        await rest.aclose()


# ── the query ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_query(request: Request) -> BuildRequest:
    """What `POST /build` asks for, without its context. Raises InvalidParameter."""
    query = request.query
    if query.flag("squash"):
        raise InvalidParameter("squash is only supported with experimental mode")
    if query.get("isolation") not in ("", "default"):
        raise InvalidParameter(f"unsupported isolation: {query.get('isolation')}")
    if query.get("securityopt") not in ("", "[]", "null"):
        raise InvalidParameter("The daemon on this platform does not support setting security options on build")
    names = tuple(query.all("t"))
    for name in names:
        new_name(name)
    limits: dict[str, object] = {name: _number(query.get(name), name) for name in _LIMITS if query.get(name)}
    limits |= {name: query.get(name) for name in ("cpusetcpus", "cpusetmems") if query.get(name)}
    if query.get("ulimits"):
        limits["ulimits"] = [msgspec.to_builtins(each) for each in _document(query.get("ulimits"), list[_Ulimit], "ulimits")]
    arguments = _document(query.get("buildargs"), dict[str, str | None], "buildargs") if query.get("buildargs") else {}
    network = query.get("networkmode")
    surroundings = Surroundings(
        network="default" if network in ("", "default", "bridge") else network,
        extra_hosts=tuple(each for text in query.all("extrahosts") for each in text.split(",") if each),
        shm_bytes=_number(query.get("shmsize"), "shmsize"),
        limits=limits,
        cgroup_parent=query.get("cgroupparent"),
        allowed=frozenset({"network.host"} if network == "host" else ()),
    )
    sources = _document(query.get("cachefrom"), list[str], "cachefrom") if query.get("cachefrom") else []
    return BuildRequest(
        dockerfile=query.get("dockerfile") or "Dockerfile",
        target=query.get("target"),
        build_arguments={name: value for name, value in arguments.items() if value is not None},
        labels=_document(query.get("labels"), dict[str, str], "labels") if query.get("labels") else {},
        names=names,
        platforms=_platforms(query.get("platform")) if at_least(request.version, "1.32") else (),
        no_cache=frozenset({ALL_STAGES} if query.flag("nocache") else ()),
        pull=query.flag("pull"),
        surroundings=surroundings,
        credentials=_credentials(request.headers.get("x-registry-config")),
        cache_from=tuple(CacheReference("registry", {"ref": source}) for source in sources),
        only_cache_from=bool(sources),
        remember_lines=query.get("progress") != "events",
    )


def _platforms(text: str) -> tuple[Platform, ...]:
    """One platform, or, beyond Docker's route, several with commas between."""
    return tuple(dict.fromkeys(Platform.parse(each) for each in text.split(","))) if text else ()


def _document(text: str, type: type[T], name: str) -> T:
    try:
        return msgspec.json.decode(text, type=type)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidParameter(f"error reading build {name}: {error}") from error


def _number(text: str, name: str) -> int:
    if not text:
        return 0
    try:
        return int(text)
    except ValueError:
        raise InvalidParameter(f"{name} is no number: {text!r}") from None


def _credentials(header: str) -> dict[str, str]:
    """X-Registry-Config: every registry's credentials, to the header that a pull of that registry takes."""
    if not header:
        return {}
    try:
        accounts = msgspec.json.decode(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)), type=dict[str, _Account])
    except (ValueError, msgspec.DecodeError, RecursionError):
        return {}  # as Docker does: whoever needs them will say so
    found = {}
    for server, account in accounts.items():
        host = server.partition("://")[2] if "://" in server else server
        host = host.partition("/")[0]
        host = "docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host
        document = msgspec.json.encode({**msgspec.to_builtins(account), "serveraddress": server})
        found[host] = base64.urlsafe_b64encode(document).decode()
    return found
