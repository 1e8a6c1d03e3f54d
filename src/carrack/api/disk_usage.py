"""GET /system/df: what the daemon keeps on disk, in the form up to 1.51, in the one since 1.52, or, as Docker does, in both.

Who asks for `verbose` knows the newer form and gets it alone; without it the newer form has totals only, and the older one, which
clients that name no version still read, the objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from carrack.api import container_json, image_json
from carrack.api.json import reply
from carrack.api.moments import rfc3339
from carrack.api.router import Route
from carrack.api.shapes import Document, Field, Shape, fields
from carrack.api.versions import at_least
from carrack.api.volumes import used
from carrack.engine.disk_usage import KINDS, CacheRecord, DiskUsage, Totals
from carrack.errors import InvalidParameter
from carrack.http import Request, Response

USAGE = Shape(
    Field("BuildCache.*.Parent", gone="1.42"),
    Field("BuildCache.*.Parents", since="1.42", omitted_empty="1.42"),
    Field("BuilderSize", gone="1.42"),
    *fields("ImageUsage ContainerUsage VolumeUsage BuildCacheUsage", since="1.52", omitted_empty="1.52"),
)


class UsageBackend(Protocol):
    """What the engine offers: `engine.disk_usage.DiskUsages`."""

    async def disk_usage(self, kinds: frozenset[str]) -> DiskUsage: ...


def routes(backend: UsageBackend) -> list[Route]:
    """The one route."""

    async def disk_usage(request: Request) -> Response:
        verbose = at_least(request.version, "1.52") and request.query.flag("verbose")
        return reply(usage_json(await backend.disk_usage(_kinds(request)), request.version, verbose=verbose))

    return [Route("GET", "/system/df", disk_usage, since="1.25")]


def usage_json(usage: DiskUsage, version: str, *, verbose: bool = False) -> Document:
    """What was counted. Before 1.52 a kind that was not asked for is null, since then it is left out."""
    items: dict[str, Sequence[object] | None] = {
        "Images": None
        if usage.images is None
        else [
            image_json.summary(share.image, version, shared_bytes=share.shared_bytes, containers=share.containers)
            | {"Containers": share.containers}
            for share in usage.images[1]
        ],
        "Containers": None
        if usage.containers is None
        else [_without_manifest(container_json.summary(container, version, sizes)) for container, sizes in usage.containers[1]],
        "Volumes": None if usage.volumes is None else [used(share) for share in usage.volumes[1]],
        "BuildCache": None if usage.build_cache is None else [_record(record) for record in usage.build_cache[1]],
    }
    totals = {
        "ImageUsage": (usage.images, "Images"),
        "ContainerUsage": (usage.containers, "Containers"),
        "VolumeUsage": (usage.volumes, "Volumes"),
        "BuildCacheUsage": (usage.build_cache, "BuildCache"),
    }
    newer: Document = {
        name: None if counted is None else _block(counted[0], items[kind] if verbose else None)
        for name, (counted, kind) in totals.items()
    }
    if verbose:
        return USAGE.fit(newer, version)
    older: Document = {"LayersSize": usage.images[0].size_bytes if usage.images is not None else 0}
    older |= {name: shown for name, shown in items.items() if shown is not None or not at_least(version, "1.52")}
    return USAGE.fit({**older, "BuilderSize": 0, **newer}, version)


def _block(totals: Totals, items: Sequence[object] | None) -> Document:
    document: Document = {
        "ActiveCount": totals.active,
        "Reclaimable": totals.reclaimable_bytes,
        "TotalCount": totals.count,
        "TotalSize": totals.size_bytes,
    }
    return document if items is None else document | {"Items": items}


def _without_manifest(summary: Document) -> Document:
    summary.pop("ImageManifestDescriptor", None)
    return summary


def _record(record: CacheRecord) -> Document:
    return {
        "ID": record.id,
        "Parent": record.parents[0] if record.parents else "",
        "Parents": list(record.parents),
        "Type": record.type,
        "Description": record.description,
        "InUse": record.in_use,
        "Shared": record.shared,
        "Size": record.size_bytes,
        "CreatedAt": rfc3339(record.created_nanoseconds),
        "LastUsedAt": rfc3339(record.last_used_nanoseconds) if record.last_used_nanoseconds else None,
        "UsageCount": record.usage_count,
    }


def _kinds(request: Request) -> frozenset[str]:
    asked = request.query.all("type") if at_least(request.version, "1.42") else []
    for kind in asked:
        if kind not in KINDS:
            raise InvalidParameter(f"unknown object type: {kind}")
    return frozenset(asked or KINDS)
