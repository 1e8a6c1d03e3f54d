"""The Engine API as a caller sees it. `Client` is the Python client (`facade.py` shows it in ten lines); the command line uses the
modules below it one by one. Importing this package alone costs nothing: `Client` is loaded when it is first named.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.client.facade import Client as Client
    from carrack.client.facade import Container as Container
    from carrack.client.facade import ContainerFailed as ContainerFailed

__all__ = ["Client", "Container", "ContainerFailed"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from carrack.client import facade

        return getattr(facade, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
