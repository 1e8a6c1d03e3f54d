"""The routes of a socket that only tells (`--read-only-socket`): who may connect to it sees what there is, and changes nothing.

An allow-list: a route that is new is refused there until it is named here. Files are not told (`archive`, `export`, `get`), nor
what goes out to registries, nor the daemon's insides; the environment and labels of containers are, and their logs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from carrack.api.router import Route
from carrack.errors import Forbidden
from carrack.http import Reply, Request

TOLD = frozenset(
    (
        "/_ping", "/version", "/info", "/events", "/system/df", "/openapi.json", "/plugins",
        "/containers/json", "/containers/{id:path}/json", "/containers/{id}/stats", "/containers/{id}/top", "/containers/{id}/logs",
        "/containers/{id}/changes", "/containers/{id}/checkpoints", "/exec/{id}/json",
        "/images/json", "/images/{name:path}/json", "/images/{name:path}/history", "/images/{name:path}/attestations",
        "/networks", "/networks/", "/networks/{id}", "/carrack/exposure", "/volumes", "/volumes/{name}",
    )
)  # fmt: skip


def reading(routes: Iterable[Route]) -> list[Route]:
    """The same routes; all that are not for reading are refused with 403."""
    return [
        route if route.method in ("GET", "HEAD") and route.pattern in TOLD else replace(route, handler=_refuse) for route in routes
    ]


async def _refuse(request: Request) -> Reply:
    raise Forbidden(f"this socket only tells: {request.method} {request.path} is refused on it")
