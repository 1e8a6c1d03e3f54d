"""What Docker can be asked and this Carrack cannot do yet: refused by name, never stored and ignored.

Each line of `_REFUSED` is an entry of SCOPE.md ("partial: POST /containers/create"); it goes when a test observes the effect.
"""

from __future__ import annotations

from collections.abc import Callable

from carrack.engine.config import CreateRequest, EndpointSettings, HostConfig
from carrack.errors import NotImplementedHere

_HOST: dict[str, tuple[str, Callable[[HostConfig], bool]]] = {
    "Links": ("--link", lambda host: bool(host.links)),
}

REFUSED = tuple((field, meaning) for field, (meaning, _) in _HOST.items())
"""(HostConfig field, what it is on the command line) of everything refused: SCOPE.md is generated from it."""


def check(request: CreateRequest) -> None:
    """Raises NotImplementedHere for what is not honoured yet."""
    host = request.host_config
    for field, (meaning, asked) in _HOST.items():
        if asked(host):
            raise NotImplementedHere(f"HostConfig.{field} ({meaning}) is not supported by this version of Carrack")
    for name, endpoint in (request.networking_config.endpoints_config or {}).items():
        if endpoint is not None:
            _check_endpoint(name, endpoint)


def _check_endpoint(name: str, endpoint: EndpointSettings) -> None:
    if endpoint.links:
        raise NotImplementedHere(f"EndpointsConfig[{name}].Links is not supported by this version of Carrack")
