"""The routes about the daemon itself: ping, version, info."""

from __future__ import annotations

from typing import Protocol, cast

import msgspec

from carrack.api.json import reply
from carrack.api.router import Product, Route
from carrack.api.shapes import Field, Shape, fields
from carrack.api.versions import MAX_VERSION, MIN_VERSION, at_least
from carrack.engine.system_information import SystemInformation, VersionInformation
from carrack.http import Request, Response

PLATFORM = "Carrack"
BUILDER_VERSION = "1"
"""The classic builder: 2 would be BuildKit."""

INFO = Shape(
    Field("Runtimes.*.status", since="1.44", omitted_empty="1.44"),
    *fields("AllowNondistributableArtifactsCIDRs AllowNondistributableArtifactsHostnames", inside="RegistryConfig", gone="1.49"),
    *fields("ContainerdCommit.Expected RuncCommit.Expected InitCommit.Expected", gone="1.49"),
    Field("DefaultAddressPools", omitted_empty="1.24"),
    Field("FirewallBackend", since="1.49"),
    Field("CDISpecDirs", since="1.44"),
    *fields("BridgeNfIptables BridgeNfIp6tables", gone="1.50"),
    Field("DiscoveredDevices", since="1.50", omitted_empty="1.50"),
    Field("ExecutionDriver", gone="1.25"),
)
_PING_HEADERS = {
    "Builder-Version": BUILDER_VERSION,
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Content-Type": "text/plain; charset=utf-8",
    "Pragma": "no-cache",
    "Swarm": "inactive",
}


class SystemBackend(Protocol):
    """What the engine offers: `engine.system.System`."""

    def info(self) -> SystemInformation: ...
    def version(self) -> VersionInformation: ...


def routes(
    backend: SystemBackend, product: Product, *, min_version: str = MIN_VERSION, max_version: str = MAX_VERSION
) -> list[Route]:
    """Every route about the daemon."""

    async def ping(request: Request) -> Response:
        return Response(200, b"OK", _PING_HEADERS | ({"Content-Length": "0"} if request.method == "HEAD" else {}))

    async def options(request: Request) -> Response:
        return Response(200)

    async def version(request: Request) -> Response:
        return reply(version_json(backend.version(), product, min_version, max_version))

    async def info(request: Request) -> Response:
        return reply(info_json(backend.info(), request.version))

    return [
        Route("GET", "/_ping", ping),
        Route("HEAD", "/_ping", ping),
        Route("GET", "/version", version),
        Route("GET", "/info", info),
        Route("OPTIONS", "/{anyroute:path}", options),
    ]


def version_json(about: VersionInformation, product: Product, min_version: str, max_version: str) -> dict[str, object]:
    """GET /version: the engine stands twice, as a component and, for old clients, at the top."""
    fields = msgspec.to_builtins(about)
    components = fields.pop("Components")
    fields.pop("Version")
    bounds = {"ApiVersion": max_version, "MinAPIVersion": min_version}
    experimental = {"Experimental": str(product.experimental()).lower()}
    details = {**bounds, **experimental, **{name: value for name, value in fields.items() if value}}
    engine = {"Name": "Engine", "Version": about.version, "Details": details}
    document = {
        "Platform": {"Name": PLATFORM},
        "Components": [engine, *components],
        "Version": about.version,
        **bounds,
        **fields,
    }
    if product.experimental():
        document["Experimental"] = True
    return document


def info_json(information: SystemInformation, version: str) -> dict[str, object]:
    """GET /info as this version knows it."""
    document: dict[str, object] = msgspec.to_builtins(information)
    for name in ("ContainerdCommit", "RuncCommit", "InitCommit"):
        commit = cast(dict[str, object], document[name])
        commit["Expected"] = commit["ID"]
    document["ExecutionDriver"] = "<not supported>"
    if not at_least(version, "1.25"):
        document["SecurityOptions"] = [option.partition(",")[0].partition("=")[2] for option in information.security_options]
    return INFO.fit(document, version)
