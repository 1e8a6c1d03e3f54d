"""The routes of checkpoints. Docker serves them in its experimental mode only; here they need no mode, just CRIU on the host."""

from __future__ import annotations

from typing import Protocol

import msgspec

from carrack.api.json import read, reply
from carrack.api.router import Route
from carrack.engine.checkpoints import CheckpointWish
from carrack.http import Request, Response


class CheckpointRequest(msgspec.Struct):
    """The body of POST /containers/{id}/checkpoints."""

    checkpoint_id: str = msgspec.field(default="", name="CheckpointID")
    checkpoint_dir: str = msgspec.field(default="", name="CheckpointDir")
    exit: bool = msgspec.field(default=False, name="Exit")


class CheckpointsBackend(Protocol):
    """What the engine offers: `engine.checkpoints.Checkpoints`.

    Raises NotFound, InvalidParameter, Conflict, Unavailable, SystemFailure.
    """

    async def create(self, ref: str, wish: CheckpointWish) -> None: ...

    async def list(self, ref: str, directory: str) -> list[str]: ...

    async def remove(self, ref: str, name: str, directory: str) -> None: ...


def routes(backend: CheckpointsBackend) -> list[Route]:
    """The three routes."""

    async def create(request: Request) -> Response:
        asked = await read(request, CheckpointRequest, required=True)
        await backend.create(request.params["id"], CheckpointWish(asked.checkpoint_id, asked.checkpoint_dir, asked.exit))
        return Response(201)

    async def list_all(request: Request) -> Response:
        names = await backend.list(request.params["id"], request.query.get("dir"))
        return reply([{"Name": name} for name in names])

    async def remove(request: Request) -> Response:
        await backend.remove(request.params["id"], request.params["checkpoint"], request.query.get("dir"))
        return Response(204)

    return [
        Route("GET", "/containers/{id}/checkpoints", list_all),
        Route("POST", "/containers/{id}/checkpoints", create),
        Route("DELETE", "/containers/{id}/checkpoints/{checkpoint}", remove),
    ]
