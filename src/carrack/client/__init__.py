"""The Engine API as a caller sees it. `Client` is the Python client (docs/client.md); the command line uses the modules below it
one by one. Importing this package alone costs nothing: a name is loaded when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.client.containers import Container as Container
    from carrack.client.containers import ContainerFailed as ContainerFailed
    from carrack.client.endpoint import TlsFiles as TlsFiles
    from carrack.client.facade import Client as Client
    from carrack.client.failure import ApiError as ApiError
    from carrack.client.failure import ConnectionFailed as ConnectionFailed
    from carrack.client.streams import Stream as Stream
    from carrack.errors import Conflict as Conflict
    from carrack.errors import NotFound as NotFound

_HOMES = {
    "ApiError": "carrack.client.failure",
    "Client": "carrack.client.facade",
    "Conflict": "carrack.errors",
    "ConnectionFailed": "carrack.client.failure",
    "Container": "carrack.client.containers",
    "ContainerFailed": "carrack.client.containers",
    "NotFound": "carrack.errors",
    "Stream": "carrack.client.streams",
    "TlsFiles": "carrack.client.endpoint",
}
__all__ = [  # noqa: RUF022 - the order in which a reader needs them
    "Client",
    "Container",
    "ContainerFailed",
    "Stream",
    "TlsFiles",
    "ApiError",
    "ConnectionFailed",
    "NotFound",
    "Conflict",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(home), name)
