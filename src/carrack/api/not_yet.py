"""The routes Docker has and Carrack does not have yet: each answers 501 and says so. SCOPE.md is made from this table.

A route that is implemented leaves the table; one that stands in both is answered by its implementation.
"""

from __future__ import annotations

from carrack.api.router import Route
from carrack.errors import NotImplementedHere
from carrack.http import Reply, Request

NOT_YET: tuple[tuple[str, str], ...] = (
    ("GET", "/containers/{id}/checkpoints"),
    ("POST", "/containers/{id}/checkpoints"),
    ("DELETE", "/containers/{id}/checkpoints/{checkpoint}"),
    ("GET", "/plugins/privileges"),
    ("POST", "/plugins/pull"),
    ("POST", "/plugins/create"),
    ("POST", "/swarm/init"),
    ("POST", "/swarm/join"),
)


def _no_checkpoints() -> str:
    from shutil import which

    if which("criu") is None:
        return "checkpoints need CRIU, which is not installed on this host"
    return "CRIU is installed on this host, but Carrack does not drive it yet: no checkpoint can be made, listed or removed"


def routes() -> list[Route]:
    """One refusing route per line of the table: to be given to the router after all others."""
    return [Route(method, pattern, _refuse) for method, pattern in NOT_YET]


async def _refuse(request: Request) -> Reply:
    if "/checkpoints" in request.path:
        raise NotImplementedHere(_no_checkpoints())
    raise NotImplementedHere(f"{request.method} {request.path} is not implemented by Carrack yet")
