"""GET /metrics, on a listener of its own (`--metrics-addr`): plain HTTP, nothing but this page."""

from __future__ import annotations

from typing import Protocol

from carrack.api.router import Route
from carrack.engine.metrics import CONTENT_TYPE
from carrack.http import Request, Response


class MetricsBackend(Protocol):
    """What the engine offers: `engine.metrics.Metrics`."""

    async def page(self) -> str: ...


def routes(backend: MetricsBackend) -> list[Route]:
    """The one route."""

    async def metrics(request: Request) -> Response:
        return Response(200, (await backend.page()).encode(), {"Content-Type": CONTENT_TYPE})

    return [Route("GET", "/metrics", metrics)]
