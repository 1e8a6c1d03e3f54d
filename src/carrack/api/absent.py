"""What this daemon is not: a swarm node, a host of plugins. Answers what Docker answers in that case."""

from __future__ import annotations

from carrack.api.json import reply
from carrack.api.router import Route
from carrack.errors import NotFound, Unavailable
from carrack.http import Reply, Request

MANAGER_ROUTES = (
    ("GET", "/swarm"), ("POST", "/swarm/update"), ("GET", "/swarm/unlockkey"), ("POST", "/swarm/unlock"),
    ("GET", "/services"), ("POST", "/services/create"), ("GET", "/services/{id}"), ("DELETE", "/services/{id}"),
    ("POST", "/services/{id}/update"), ("GET", "/services/{id}/logs"),
    ("GET", "/nodes"), ("GET", "/nodes/{id}"), ("DELETE", "/nodes/{id}"), ("POST", "/nodes/{id}/update"),
    ("GET", "/tasks"), ("GET", "/tasks/{id}"), ("GET", "/tasks/{id}/logs"),
    ("GET", "/secrets"), ("POST", "/secrets/create"), ("GET", "/secrets/{id}"), ("DELETE", "/secrets/{id}"),
    ("POST", "/secrets/{id}/update"),
    ("GET", "/configs"), ("POST", "/configs/create"), ("GET", "/configs/{id}"), ("DELETE", "/configs/{id}"),
    ("POST", "/configs/{id}/update"),
)  # fmt: skip


_PLUGIN_ROUTES = (
    ("GET", "/plugins/{name:path}/json"), ("POST", "/plugins/{name:path}/enable"), ("POST", "/plugins/{name:path}/disable"),
    ("POST", "/plugins/{name:path}/upgrade"), ("POST", "/plugins/{name:path}/push"), ("POST", "/plugins/{name:path}/set"),
    ("DELETE", "/plugins/{name:path}"),
)  # fmt: skip


def routes() -> list[Route]:
    """The routes of swarm managers and of plugins."""
    return [
        *(Route(method, pattern, _not_a_manager) for method, pattern in MANAGER_ROUTES),
        Route("POST", "/swarm/leave", _not_in_a_swarm),
        Route("GET", "/plugins", _no_plugins),
        *(Route(method, pattern, _no_such_plugin) for method, pattern in _PLUGIN_ROUTES),
    ]


async def _not_a_manager(request: Request) -> Reply:
    raise Unavailable(
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm '
        "and try again."
    )


async def _not_in_a_swarm(request: Request) -> Reply:
    raise Unavailable("This node is not part of a swarm")


async def _no_plugins(request: Request) -> Reply:
    return reply([])


async def _no_such_plugin(request: Request) -> Reply:
    raise NotFound(f'plugin "{request.params["name"]}" not found')
