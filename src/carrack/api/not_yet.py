"""The routes Docker has and Carrack does not have yet: each answers 501 and says so. SCOPE.md is made from this table.

A route that is implemented leaves the table; one that stands in both is answered by its implementation.
"""

from __future__ import annotations

from carrack.api.router import Route
from carrack.errors import NotImplementedHere
from carrack.http import Reply, Request

NOT_YET: tuple[tuple[str, str], ...] = (
    ("GET", "/plugins/privileges"),
    ("POST", "/plugins/pull"),
    ("POST", "/plugins/create"),
    ("POST", "/swarm/init"),
    ("POST", "/swarm/join"),
)


def routes() -> list[Route]:
    """One refusing route per line of the table: to be given to the router after all others."""
    return [Route(method, pattern, _refuse) for method, pattern in NOT_YET]


async def _refuse(request: Request) -> Reply:
    raise NotImplementedHere(f"{request.method} {request.path} is not implemented by Carrack yet")
