"""What the daemon keeps on disk, by kind: images, containers, volumes, build cache. What `df` shows.

Counting walks trees, so each kind is counted once at a time: who asks meanwhile gets the same answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from carrack.engine.container import Container, Sizes
from carrack.engine.containers import Containers
from carrack.engine.filters import Filters
from carrack.engine.threads import in_thread
from carrack.errors import NotFound
from carrack.images.image import Image
from carrack.images.images import Images
from carrack.volumes.volume import Volume
from carrack.volumes.volumes import Volumes

KINDS = ("container", "image", "volume", "build-cache")


@dataclass(slots=True)
class Totals:
    """One kind: how many there are, how many are in use, what they take and what could be freed."""

    count: int = 0
    active: int = 0
    size_bytes: int = 0
    reclaimable_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ImageShare:
    """An image, what its layers hold that others have, too, and how many containers were made from it."""

    image: Image
    shared_bytes: int
    containers: int


@dataclass(frozen=True, slots=True)
class VolumeShare:
    """A volume and what is in it; -1: it cannot be known (another host's file system)."""

    volume: Volume
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CacheRecord:
    """One record of the build cache. Times are nanoseconds since 1970; 0: never."""

    id: str
    type: str = "regular"
    description: str = ""
    parents: tuple[str, ...] = ()
    in_use: bool = False
    shared: bool = False
    size_bytes: int = 0
    created_nanoseconds: int = 0
    last_used_nanoseconds: int = 0
    usage_count: int = 0


@dataclass(slots=True)
class DiskUsage:
    """The kinds that were asked for; the others are None."""

    containers: tuple[Totals, Sequence[tuple[Container, Sizes]]] | None = None
    images: tuple[Totals, Sequence[ImageShare]] | None = None
    volumes: tuple[Totals, Sequence[VolumeShare]] | None = None
    build_cache: tuple[Totals, Sequence[CacheRecord]] | None = None


@dataclass(slots=True)
class DiskUsages:
    """Counts. `cache_records` gives the build cache's records; blocking."""

    containers: Containers
    images: Images
    volumes: Volumes
    cache_records: Callable[[], Sequence[CacheRecord]] = tuple
    _counting: dict[str, asyncio.Task[object]] = field(default_factory=dict)

    async def disk_usage(self, kinds: frozenset[str]) -> DiskUsage:
        """The kinds asked for, counted side by side. Raises what counting raises."""
        counters: dict[str, Callable[[], Awaitable[object]]] = {
            "container": self._count_containers,
            "image": lambda: in_thread(self._count_images),
            "volume": lambda: in_thread(self._count_volumes),
            "build-cache": lambda: in_thread(self._count_cache),
        }
        found = await asyncio.gather(*(self._once(kind, counters[kind]) for kind in KINDS if kind in kinds))
        usage = DiskUsage()
        for kind, counted in zip((kind for kind in KINDS if kind in kinds), found, strict=True):
            setattr(usage, {"container": "containers", "image": "images", "volume": "volumes"}.get(kind, "build_cache"), counted)
        return usage

    async def _once(self, kind: str, count: Callable[[], Awaitable[object]]) -> object:
        task = self._counting.get(kind)
        if task is None:
            task = self._counting[kind] = asyncio.ensure_future(_call(count))
            task.add_done_callback(lambda _: self._counting.pop(kind, None))
        return await asyncio.shield(task)

    async def _count_containers(self) -> tuple[Totals, Sequence[tuple[Container, Sizes]]]:
        totals, found = Totals(), []
        for container in self.containers.list(Filters(), all=True, limit=0):
            try:
                sizes = await self.containers.sizes(container.id)
            except NotFound:  # removed while the others were measured
                continue
            found.append((container, sizes))
            totals.count += 1
            totals.size_bytes += sizes.rw_bytes
            if container.state.running:
                totals.active += 1
            else:
                totals.reclaimable_bytes += sizes.rw_bytes
        return totals, found

    def _count_images(self) -> tuple[Totals, Sequence[ImageShare]]:
        shared, uses = self.images.shared_bytes(), self.images.container_counts()
        found = [ImageShare(image, shared.get(image.id, 0), uses[str(image.id)]) for image in self.images.list()]
        kept = self.images.disk_usage()
        active = sum(1 for share in found if share.containers)
        return Totals(len(found), active, kept.total_bytes, kept.reclaimable_bytes), found

    def _count_volumes(self) -> tuple[Totals, Sequence[VolumeShare]]:
        totals, found = Totals(), []
        for volume in self.volumes.list():
            size_bytes = self.volumes.usage_bytes(volume)
            found.append(VolumeShare(volume, size_bytes))
            totals.count += 1
            totals.size_bytes += max(0, size_bytes)
            if volume.references:
                totals.active += 1
            else:
                totals.reclaimable_bytes += max(0, size_bytes)
        return totals, found

    def _count_cache(self) -> tuple[Totals, Sequence[CacheRecord]]:
        records = self.cache_records()
        own = [record for record in records if not record.shared]
        size_bytes = sum(record.size_bytes for record in own)
        in_use_bytes = sum(record.size_bytes for record in own if record.in_use)
        active = sum(1 for record in records if record.in_use)
        return Totals(len(records), active, size_bytes, size_bytes - in_use_bytes), records


async def _call(count: Callable[[], Awaitable[object]]) -> object:
    return await count()
