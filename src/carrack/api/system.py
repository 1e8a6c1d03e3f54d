"""The routes about the daemon itself: ping, version, info and df."""

from __future__ import annotations

from typing import Protocol

import msgspec

from carrack.api import container_json
from carrack.api.json import reply
from carrack.api.router import Product, Route
from carrack.api.versions import MAX_VERSION, MIN_VERSION, at_least
from carrack.engine.system_information import DiskUsage, SystemInformation, VersionInformation
from carrack.errors import InvalidParameter
from carrack.http import Request, Response

PLATFORM = "Carrack"
BUILDER_VERSION = "1"
"""The classic builder: 2 would be BuildKit."""
USAGE_KINDS = ("container", "image", "volume", "build-cache")

_SINCE = {
    "CDISpecDirs": "1.44",
    "FirewallBackend": "1.49",
    "DiscoveredDevices": "1.50",
}
_UNTIL = {"BridgeNfIptables": "1.49", "BridgeNfIp6tables": "1.49"}
_PING_HEADERS = {
    "Builder-Version": BUILDER_VERSION,
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Content-Type": "text/plain; charset=utf-8",
    "Pragma": "no-cache",
    "Swarm": "inactive",
}


class SystemBackend(Protocol):
    """What the engine offers."""

    def info(self) -> SystemInformation: ...
    def version(self) -> VersionInformation: ...
    async def disk_usage(self, kinds: frozenset[str]) -> DiskUsage: ...


def routes(
    backend: SystemBackend, product: Product, *, min_version: str = MIN_VERSION, max_version: str = MAX_VERSION
) -> list[Route]:
    """Every route about the daemon."""

    async def ping(request: Request) -> Response:
        return Response(200, b"OK", _PING_HEADERS | ({"Content-Length": "0"} if request.method == "HEAD" else {}))

    async def version(request: Request) -> Response:
        return reply(version_json(backend.version(), product, min_version, max_version))

    async def info(request: Request) -> Response:
        return reply(info_json(backend.info(), request.version))

    async def disk_usage(request: Request) -> Response:
        return reply(usage_json(await backend.disk_usage(_kinds(request)), _kinds(request), request.version))

    return [
        Route("GET", "/_ping", ping),
        Route("HEAD", "/_ping", ping),
        Route("GET", "/version", version),
        Route("GET", "/info", info),
        Route("GET", "/system/df", disk_usage, since="1.25"),
    ]


def version_json(about: VersionInformation, product: Product, min_version: str, max_version: str) -> dict[str, object]:
    """GET /version: the engine stands twice, as a component and, for old clients, at the top."""
    fields = msgspec.to_builtins(about)
    components = fields.pop("Components")
    fields.pop("Version")
    bounds = {"ApiVersion": max_version, "MinAPIVersion": min_version}
    experimental = {"Experimental": str(product.experimental).lower()}
    details = {**bounds, **experimental, **{name: value for name, value in fields.items() if value}}
    engine = {"Name": "Engine", "Version": about.version, "Details": details}
    document = {
        "Platform": {"Name": PLATFORM},
        "Components": [engine, *components],
        "Version": about.version,
        **bounds,
        **fields,
    }
    if product.experimental:
        document["Experimental"] = True
    return document


def info_json(information: SystemInformation, version: str) -> dict[str, object]:
    """GET /info as this version knows it."""
    document: dict[str, object] = msgspec.to_builtins(information)
    for name, since in _SINCE.items():
        if not at_least(version, since):
            del document[name]
    for name, until in _UNTIL.items():
        if not at_least(until, version):
            del document[name]
    if not information.default_address_pools:
        del document["DefaultAddressPools"]
    if not at_least(version, "1.49"):
        commits = (information.containerd_commit, information.runc_commit, information.init_commit)
        for name, commit in zip(("ContainerdCommit", "RuncCommit", "InitCommit"), commits, strict=True):
            document[name] = {"ID": commit.id, "Expected": commit.id}
    if not at_least(version, "1.25"):
        document["SecurityOptions"] = [option.partition(",")[0].partition("=")[2] for option in information.security_options]
        document["ExecutionDriver"] = "<not supported>"
    return document


def usage_json(usage: DiskUsage, kinds: frozenset[str], version: str) -> dict[str, object]:
    """GET /system/df: a kind that was not asked for is null."""
    containers = [container_json.summary(container, version, sizes) for container, sizes in usage.containers]
    document: dict[str, object] = {
        "LayersSize": usage.layers_size_bytes if "image" in kinds else 0,
        "Images": usage.images if "image" in kinds else None,
        "Containers": containers if "container" in kinds else None,
        "Volumes": usage.volumes if "volume" in kinds else None,
        "BuildCache": usage.build_cache if "build-cache" in kinds else None,
    }
    if not at_least(version, "1.42"):
        document["BuilderSize"] = 0
    return document


def _kinds(request: Request) -> frozenset[str]:
    asked = request.query.all("type") if at_least(request.version, "1.42") else []
    for kind in asked:
        if kind not in USAGE_KINDS:
            raise InvalidParameter(f"unknown object type: {kind}")
    return frozenset(asked or USAGE_KINDS)
