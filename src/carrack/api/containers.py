"""The routes of containers: what a request asks, in the engine's words; what the engine answers, in Docker's.

`ContainerBackend` is all this module needs of the engine. Which container, and whether it may, the engine judges.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import msgspec

from carrack.api import container_json, pruning
from carrack.api.create_request import adapt, check_legacy, decode_create
from carrack.api.json import BODY_LIMIT_BYTES, read, reply, require_json
from carrack.api.moments import parse_timestamp
from carrack.api.pruning import Tell
from carrack.api.router import Route
from carrack.api.sessions import give_chunked, give_raw
from carrack.api.status import status_of
from carrack.api.versions import at_least
from carrack.engine.config import CreateRequest, LogConfig, UpdateRequest
from carrack.engine.container import Container, Created, Explanation, Processes, Pruned, Sizes
from carrack.engine.filters import Filters
from carrack.engine.streams import MULTIPLEXED, RAW, AttachOptions, LogOptions, Session, WaitCondition
from carrack.errors import CarrackError, InvalidParameter, NotFound
from carrack.http import Reply, Request, Response, StreamResponse

NO_CONTENT = Response(204)
_LARGEST_EMPTY_BODY_BYTES = 7
"""A JSON object that says something has more."""


_ASKS_THE_DRIVER = "docker-sdk-python"
"""The User-Agent of docker-py."""


Names = list[str]


class ContainerBackend(Protocol):
    """What the engine offers: `engine.containers.Containers`.

    `ref` is an id, a name, or a unique prefix of an id; NotFound when there is none.
    """

    async def create(self, name: str, request: CreateRequest, platform: str) -> Created: ...
    async def start(
        self, ref: str, *, detach_keys: str = "", explain: bool = False, checkpoint: str = "", checkpoint_directory: str = ""
    ) -> Explanation: ...
    async def stop(self, ref: str, *, signal: str = "", timeout_seconds: int | None = None) -> None: ...
    async def restart(self, ref: str, *, signal: str = "", timeout_seconds: int | None = None) -> None: ...
    async def kill(self, ref: str, signal: str) -> None: ...
    async def pause(self, ref: str) -> None: ...
    async def unpause(self, ref: str) -> None: ...
    async def rename(self, ref: str, name: str) -> None: ...
    async def remove(self, ref: str, *, force: bool, volumes: bool, link: bool) -> None: ...
    async def resize(self, ref: str, height: int, width: int) -> None: ...
    async def top(self, ref: str, ps_args: str) -> Processes: ...
    async def update(self, ref: str, wanted: UpdateRequest) -> list[str]: ...
    def get(self, ref: str) -> Container: ...
    async def sizes(self, container_id: str) -> Sizes: ...
    async def attach(self, ref: str, options: AttachOptions) -> Session: ...
    async def wait(self, ref: str, condition: WaitCondition) -> Session: ...
    async def logs(self, ref: str, options: LogOptions) -> Session | AsyncIterator[bytes]: ...
    async def prune(self, filters: Filters, tell: Tell) -> Pruned: ...
    def links(self, container: Container) -> Names | None: ...
    def lower_directories(self, container: Container) -> Sequence[str]: ...
    def link_names(self) -> dict[str, Names]: ...
    def list(self, filters: Filters, *, all: bool, limit: int) -> list[Container]: ...


def routes(backend: ContainerBackend) -> list[Route]:
    """Every route under /containers that this module answers."""
    orders = Orders(backend)
    streams = Streams(backend)
    return [
        Route("GET", "/containers/json", orders.list),
        Route("POST", "/containers/create", orders.create),
        Route("POST", "/containers/prune", orders.prune, since="1.25"),
        Route("GET", "/containers/{id:path}/json", orders.inspect),
        Route("GET", "/containers/{id}/top", orders.top),
        Route("GET", "/containers/{id}/logs", streams.logs),
        Route("POST", "/containers/{id}/start", orders.start),
        Route("POST", "/containers/{id}/stop", orders.stop),
        Route("POST", "/containers/{id}/restart", orders.restart),
        Route("POST", "/containers/{id}/kill", orders.kill),
        Route("POST", "/containers/{id}/pause", orders.pause),
        Route("POST", "/containers/{id}/unpause", orders.unpause),
        Route("POST", "/containers/{id}/rename", orders.rename),
        Route("POST", "/containers/{id}/resize", orders.resize),
        Route("POST", "/containers/{id}/update", orders.update),
        Route("POST", "/containers/{id}/attach", streams.attach),
        Route("GET", "/containers/{id}/attach/ws", streams.attach_websocket),
        Route("POST", "/containers/{id}/wait", streams.wait),
        Route("DELETE", "/containers/{id:path}", orders.remove),
    ]


class Orders:
    """Requests that are answered with a document or with nothing."""

    def __init__(self, backend: ContainerBackend) -> None:
        self._backend = backend

    async def list(self, request: Request) -> Response:
        query = request.query
        filters = Filters.parse(query.get("filters"))
        for name in ("before", "since"):
            if query.get(name) and name not in filters:
                filters = filters.including(name, query.get(name))
        size = query.flag("size")
        found = self._backend.list(filters, all=query.flag("all"), limit=query.integer("limit") or 0)
        further = self._backend.link_names()
        documents = []
        for container in found:
            try:
                sizes = await self._backend.sizes(container.id) if size else None
            except NotFound:  # removed while the others were measured
                continue
            documents.append(container_json.summary(container, request.version, sizes, further.get(container.id, ())))
        return reply(documents)

    async def inspect(self, request: Request) -> Response:
        container = self._backend.get(request.params["id"])
        sizes = await self._backend.sizes(container.id) if request.query.flag("size") else None
        document = container_json.inspect(container, request.version, sizes, self._backend.lower_directories(container))
        shown = container.host_config
        if container.log_driver == "local" and request.headers.get("User-Agent").startswith(_ASKS_THE_DRIVER):
            # docker-py hands a container's output back only from drivers it knows to be readable, and does not know `local`.
            shown = msgspec.structs.replace(shown, log_config=LogConfig("json-file", shown.log_config.config))
        if (links := self._backend.links(container)) is not None or shown is not container.host_config:
            document["HostConfig"] = container_json.host_config(msgspec.structs.replace(shown, links=links))
        return reply(document)

    async def create(self, request: Request) -> Response:
        require_json(request)
        name = request.query.get("name")
        body = await request.body(BODY_LIMIT_BYTES)
        wanted = decode_create(body)
        check_legacy(body, request.version)
        warnings = adapt(wanted, request.version, unified_cgroups=os.path.exists("/sys/fs/cgroup/cgroup.controllers"))
        platform = request.query.get("platform") if at_least(request.version, "1.41") else ""
        created = await self._backend.create(name, wanted, platform)
        return reply(Created(created.id, [*created.warnings, *warnings]), 201)

    async def start(self, request: Request) -> Response:
        length = request.headers.get("content-length")
        if "transfer-encoding" in request.headers or (length and int(length) > _LARGEST_EMPTY_BODY_BYTES):
            raise InvalidParameter(
                "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
            )
        query = request.query
        explain = query.flag("explain")  # beyond Docker: `carrack run --explain`
        explanation = await self._backend.start(
            request.params["id"],
            detach_keys=query.get("detachKeys"),
            explain=explain,
            checkpoint=query.get("checkpoint"),
            checkpoint_directory=query.get("checkpoint-dir"),
        )
        return reply(explanation) if explain else NO_CONTENT

    async def stop(self, request: Request) -> Response:
        await self._backend.stop(request.params["id"], signal=_signal(request), timeout_seconds=request.query.integer("t"))
        return NO_CONTENT

    async def restart(self, request: Request) -> Response:
        await self._backend.restart(request.params["id"], signal=_signal(request), timeout_seconds=request.query.integer("t"))
        return NO_CONTENT

    async def kill(self, request: Request) -> Response:
        ref = request.params["id"]
        prefix = f"cannot kill container: {ref}: "
        try:
            await self._backend.kill(ref, request.query.get("signal"))
        except CarrackError as error:
            if error.message.startswith(prefix):
                raise
            raise type(error)(prefix + error.message) from error
        return NO_CONTENT

    async def pause(self, request: Request) -> Response:
        await self._backend.pause(request.params["id"])
        return NO_CONTENT

    async def unpause(self, request: Request) -> Response:
        await self._backend.unpause(request.params["id"])
        return NO_CONTENT

    async def rename(self, request: Request) -> Response:
        await self._backend.rename(request.params["id"], request.query.get("name"))
        return NO_CONTENT

    async def resize(self, request: Request) -> Response:
        height, width = terminal_size(request)
        await self._backend.resize(request.params["id"], height, width)
        return Response(200)

    async def update(self, request: Request) -> Response:
        wanted = await read(request, UpdateRequest)
        if not at_least(request.version, "1.40"):
            wanted.pids_limit = None
        if wanted.pids_limit is not None and wanted.pids_limit <= 0:
            wanted.pids_limit = 0
        if at_least(request.version, "1.42"):
            wanted.kernel_memory = 0
        if not at_least(request.version, "1.55"):
            wanted.blkio_weight_device = None
            wanted.blkio_device_read_bps = wanted.blkio_device_write_bps = None
            wanted.blkio_device_read_iops = wanted.blkio_device_write_iops = None
        warnings = await self._backend.update(request.params["id"], wanted)
        return reply({"Warnings": warnings or None})

    async def top(self, request: Request) -> Response:
        return reply(await self._backend.top(request.params["id"], request.query.get("ps_args")))

    async def remove(self, request: Request) -> Response:
        query = request.query
        await self._backend.remove(
            request.params["id"], force=query.flag("force"), volumes=query.flag("v"), link=query.flag("link")
        )
        return NO_CONTENT

    async def prune(self, request: Request) -> Reply:
        filters = Filters.parse(request.query.get("filters")).accept("label", "label!", "until")

        async def work(tell: Tell) -> object:
            pruned = await self._backend.prune(filters, tell)
            return {"ContainersDeleted": pruned.deleted or None, "SpaceReclaimed": pruned.reclaimed_bytes}

        return await pruning.prune(request, work)


class Streams:
    """Requests whose answer is a stream, or whose connection becomes one."""

    def __init__(self, backend: ContainerBackend) -> None:
        self._backend = backend

    async def attach(self, request: Request) -> Reply:
        query = request.query
        options = AttachOptions(
            stdin=query.flag("stdin"),
            stdout=query.flag("stdout"),
            stderr=query.flag("stderr"),
            logs=query.flag("logs"),
            stream=query.flag("stream"),
            detach_keys=query.get("detachKeys"),
        )
        try:
            session = await self._backend.attach(request.params["id"], options)
        except CarrackError as error:
            # Docker answers failures of attach as it would have answered the stream
            text = f"{error.message}\r\n".encode()
            return Response(status_of(error), text, {"Content-Type": RAW})
        await give_raw(request, session, stream_type(session.content_type, request.version))
        return None

    async def attach_websocket(self, request: Request) -> Reply:
        from carrack.api import attach_websocket  # brings wsproto, which few daemons ever need

        session = await self._backend.attach(request.params["id"], attach_websocket.options(request))
        await attach_websocket.serve(request, session)
        return None

    async def wait(self, request: Request) -> Reply:
        # Before 1.30 there were no conditions, and the header came with the answer: a header that comes early harms nobody.
        asked = request.query.get("condition") if at_least(request.version, "1.30") else ""
        try:
            condition = WaitCondition(asked or WaitCondition.NOT_RUNNING)
        except ValueError:
            raise InvalidParameter(f'invalid condition: "{asked}"') from None
        session = await self._backend.wait(request.params["id"], condition)
        return await give_chunked(request, session, session.content_type)

    async def logs(self, request: Request) -> Reply:
        query = request.query
        stdout, stderr = query.flag("stdout"), query.flag("stderr")
        if not stdout and not stderr:
            raise InvalidParameter("Bad parameters: you must choose at least one stream")
        ref = request.params["id"]
        container = self._backend.get(ref)
        options = LogOptions(
            stdout=stdout,
            stderr=stderr,
            follow=query.flag("follow"),
            since_nanoseconds=parse_timestamp(query.get("since"), "since"),
            until_nanoseconds=parse_timestamp(query.get("until"), "until"),
            timestamps=query.flag("timestamps"),
            details=query.flag("details"),
            tail=_tail(query.get("tail")),
        )
        said = await self._backend.logs(ref, options)
        content_type = stream_type(RAW if container.config.tty else MULTIPLEXED, request.version)
        if isinstance(said, AsyncIterator):
            return StreamResponse(200, said, {"Content-Type": content_type}, endless=options.follow)
        return await give_chunked(request, said, content_type)


def stream_type(content_type: str, version: str) -> str:
    """The Content-Type of a container's stream: that it is multiplexed is said since 1.42."""
    return content_type if at_least(version, "1.42") else RAW


def terminal_size(request: Request) -> tuple[int, int]:
    """The query's `h` and `w`. Raises InvalidParameter in Docker's words."""
    size = []
    for name, what in (("h", "height"), ("w", "width")):
        text = request.query.get(name)
        if not text.isdecimal() or not text.isascii():
            raise InvalidParameter(f'invalid resize {what} "{text}": invalid syntax')
        if len(text) > 10 or int(text) >= 1 << 32:
            raise InvalidParameter(f'invalid resize {what} "{text}": value out of range')
        size.append(int(text))
    return size[0], size[1]


def _signal(request: Request) -> str:
    return request.query.get("signal") if at_least(request.version, "1.42") else ""


def _tail(text: str) -> int:
    """Docker takes whatever is not a number, such as `all`, for everything."""
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 19 else -1
