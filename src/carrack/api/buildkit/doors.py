"""`POST /session` and `POST /grpc`: connections that become HTTP/2. What speaks on them is imported with the first."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from carrack.build.builder import Builder
from carrack.build.collect import Collector
from carrack.build.contexts.reception import Reception
from carrack.distribution.cancellation import Cancellation
from carrack.errors import Conflict, InvalidParameter
from carrack.http import Request
from carrack.images.progress import Progress

if TYPE_CHECKING:
    from carrack.api.buildkit.services import Services

log = logging.getLogger("carrack.buildkit")

_UPGRADE = {"Connection": "Upgrade", "Upgrade": "h2c"}
_SESSION = "x-docker-expose-session-"
_ID_LIMIT = 256

Push = Callable[[str, str], Iterator[Progress]]
"""Sends an image by its name, with an X-Registry-Auth header."""


class BuildKit:
    """The doors of this daemon's BuildKit. Lives on the event loop."""

    def __init__(self, builder: Builder, reception: Reception, collector: Collector, push: Push, sockets: Path) -> None:
        """`sockets` is a directory for agents' sockets."""
        self._parts = (builder, reception, collector, push, sockets)
        self._services: Services | None = None
        self._conversations: set[asyncio.Task[None]] = set()

    async def grpc(self, request: Request) -> None:
        _check(request)
        services = self._open()
        given = await request.hand_over(101, "UPGRADED", _UPGRADE)
        self._go_on(asyncio.ensure_future(services.calls.serve(given)))

    async def session(self, request: Request) -> None:
        _check(request)
        name = request.headers.get(f"{_SESSION}uuid")
        if not name or len(name) > _ID_LIMIT:
            raise InvalidParameter("a session needs an id (X-Docker-Expose-Session-Uuid)")
        sessions = self._open().sessions
        if sessions.has(name):
            raise Conflict(f"session {name} already exists")
        given = await request.hand_over(101, "UPGRADED", _UPGRADE)
        self._go_on(asyncio.ensure_future(sessions.attend(name, request.headers.get(f"{_SESSION}sharedkey"), given)))

    async def build(self, request: Request, cancel: Cancellation) -> AsyncIterator[bytes]:
        """The stream of a build by the client that docker before 23 has built in. Raises InvalidParameter."""
        from carrack.api.buildkit import built_in

        # that client hangs when its build fails before its session has begun
        await self._open().sessions.get(request.query.get("session"))
        return built_in.lines(self._open(), request, built_in.solve_request(request), cancel)

    async def close(self) -> None:
        """End every conversation."""
        for task in self._conversations:
            task.cancel()
        await asyncio.gather(*self._conversations, return_exceptions=True)

    def _open(self) -> Services:
        if self._services is None:
            from carrack.api.buildkit.services import Services

            self._services = Services(*self._parts)
        return self._services

    def _go_on(self, task: asyncio.Task[None]) -> None:
        self._conversations.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._conversations.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a BuildKit connection failed", exc_info=error)


def _check(request: Request) -> None:
    if request.headers.get("upgrade") != "h2c":
        raise InvalidParameter("this is no page: it takes connections that are upgraded to h2c")
