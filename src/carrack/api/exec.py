"""The routes of exec: one more process in a running container, asked for first and started then."""

from __future__ import annotations

import base64
from typing import Protocol

import msgspec

from carrack.api.containers import stream_type, terminal_size
from carrack.api.json import read, reply
from carrack.api.router import Route
from carrack.api.sessions import give_raw
from carrack.api.versions import at_least
from carrack.engine.config import ExecConfig
from carrack.engine.container import ExecSession
from carrack.engine.streams import ExecStartOptions, Session, parse_detach_keys
from carrack.errors import InvalidParameter
from carrack.http import Reply, Request, Response


class ExecBackend(Protocol):
    """What the engine offers: `engine.execs.Execs`.

    Raises NotFound for an unknown container or session, Conflict when its state forbids.
    """

    async def create_exec(self, ref: str, config: ExecConfig) -> str: ...
    async def start_exec(self, exec_id: str, options: ExecStartOptions) -> Session | None: ...
    async def resize_exec(self, exec_id: str, height: int, width: int) -> None: ...
    def get_exec(self, exec_id: str) -> ExecSession: ...


class StartRequest(msgspec.Struct, rename="pascal"):
    """The body of POST /exec/{id}/start."""

    detach: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None


def routes(backend: ExecBackend) -> list[Route]:
    """Every route of exec."""
    execs = Execs(backend)
    return [
        Route("POST", "/containers/{id}/exec", execs.create),
        Route("POST", "/exec/{id}/start", execs.start),
        Route("POST", "/exec/{id}/resize", execs.resize),
        Route("GET", "/exec/{id}/json", execs.inspect),
    ]


class Execs:
    """The handlers."""

    def __init__(self, backend: ExecBackend) -> None:
        self._backend = backend

    async def create(self, request: Request) -> Response:
        config = await read(request, ExecConfig)
        if not config.cmd:
            raise InvalidParameter("No exec command specified")
        if not at_least(request.version, "1.42"):
            config.console_size = None
        return reply({"Id": await self._backend.create_exec(request.params["id"], config)}, 201)

    async def start(self, request: Request) -> Reply:
        asked = await read(request, StartRequest)
        sized = asked.tty and at_least(request.version, "1.42")
        options = ExecStartOptions(asked.detach, asked.tty, asked.console_size if sized else None)
        session = await self._backend.start_exec(request.params["id"], options)
        if session is None:
            return Response(200)
        await give_raw(request, session, stream_type(session.content_type, request.version))
        return None

    async def resize(self, request: Request) -> Response:
        height, width = terminal_size(request)
        await self._backend.resize_exec(request.params["id"], height, width)
        return Response(200)

    async def inspect(self, request: Request) -> Response:
        return reply(exec_json(self._backend.get_exec(request.params["id"])))


def exec_json(session: ExecSession) -> dict[str, object]:
    """GET /exec/{id}/json in Docker's order; the exit code is null until there is one."""
    config = session.config
    command = config.cmd or [""]
    process: dict[str, object] = {
        "tty": config.tty,
        "entrypoint": command[0],
        "arguments": command[1:],
        "privileged": config.privileged,
    }
    if config.user:
        process["user"] = config.user
    keys = parse_detach_keys(config.detach_keys) if config.detach_keys else b""
    return {
        "ID": session.id,
        "Running": session.running,
        "ExitCode": session.exit_code,
        "ProcessConfig": process,
        "OpenStdin": config.attach_stdin,
        "OpenStderr": config.attach_stderr,
        "OpenStdout": config.attach_stdout,
        "CanRemove": session.removed,
        "ContainerID": session.container_id,
        "DetachKeys": base64.b64encode(keys).decode(),
        "Pid": session.pid,
    }
