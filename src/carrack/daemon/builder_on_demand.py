"""The builder, put together for the first request that needs it, or at the daemon's start where one has worked before.

Its fifty modules are a quarter of a daemon's start and 5 MiB of its memory, and most daemons never build.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from carrack.api.router import Route, RouteHandler
from carrack.engine.threads import in_thread

if TYPE_CHECKING:
    from carrack.daemon.building import BuildHouse
    from carrack.engine.disk_usage import CacheRecord
    from carrack.http import Reply, Request

_DOORS = (
    ("POST", "/build", "1.24"),
    ("POST", "/build/prune", "1.31"),
    ("POST", "/build/cancel", "1.39"),
    ("POST", "/build/sessions", "1.24"),
    ("PUT", "/build/sessions/{id}/contexts/{name}", "1.24"),
    ("POST", "/build/sessions/{id}/agents/{name}", "1.24"),
    ("GET", "/build/sessions/{id}/outputs/{number}", "1.24"),
    ("DELETE", "/build/sessions/{id}", "1.24"),
    ("POST", "/session", "1.31"),
    ("POST", "/grpc", "1.39"),
)
"""Method, path and first API version of each route of the builder; a test holds them against what `api.build` serves."""


class BuilderOnDemand:
    """The doors to a builder that is made when one of them is first opened."""

    def __init__(self, make: Callable[[], BuildHouse], emit: Callable[[str, str, str, dict[str, str]], None]) -> None:
        """`make` blocks, and is called once."""
        self._make = make
        self._emit = emit
        self._turn = asyncio.Lock()
        self._house: BuildHouse | None = None
        self._handlers: dict[tuple[str, str], RouteHandler] = {}

    def routes(self) -> list[Route]:
        """Every route of the builder."""
        return [Route(method, pattern, self._door(method, pattern), since=since) for method, pattern, since in _DOORS]

    async def open(self) -> None:
        """Put the builder together, unless it is. Raises what that raises; the next request tries again."""
        async with self._turn:
            if self._house is None:
                house, routes = await in_thread(self._load)
                self._handlers = {(route.method, route.pattern): route.handler for route in routes}
                self._house = house

    def records(self) -> Sequence[CacheRecord]:
        """The cache's rows of `system df`. Blocking."""
        return self._house.records() if self._house is not None else ()

    async def close(self) -> None:
        """End what is being built."""
        if self._house is not None:
            await self._house.buildkit.close()
            await self._house.builder.close()
            await self._house.sessions.close()

    def _load(self) -> tuple[BuildHouse, list[Route]]:
        from carrack.api.build import routes

        house = self._make()
        return house, routes(house.builder, house.contexts, house.sessions, house.collector, self._emit, house.buildkit)

    def _door(self, method: str, pattern: str) -> RouteHandler:
        async def enter(request: Request) -> Reply:
            await self.open()
            return await self._handlers[method, pattern](request)

        return enter
