"""The builder's part of the wiring: its ports joined to the rooms that stand behind them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from carrack.api.build_sessions import BuildSessions
from carrack.api.buildkit.doors import BuildKit
from carrack.build.builder import Builder
from carrack.build.cache import BuildCache
from carrack.build.cache_export import CacheExporter
from carrack.build.cache_import import CacheImporter, Imported, fetched
from carrack.build.cache_mounts import CacheMounts
from carrack.build.collect import Collector
from carrack.build.contexts.reception import Reception
from carrack.build.contexts.slots import Slots
from carrack.build.delivery import Delivery
from carrack.build.exporters import FileExporter
from carrack.build.image_export import ImageExporter
from carrack.build.remote.sources import Remotes
from carrack.build.run import RunRoom
from carrack.build.solver import Solver
from carrack.build.stacks import Stacks, run_job
from carrack.build.trees import WorkerTrees
from carrack.build.workshop import Equipment
from carrack.content import ContentStore
from carrack.daemon.build_registry import RegistryCaches
from carrack.daemon.builder_settings import BuilderSettings
from carrack.distribution.cancellation import Cancellation
from carrack.engine.build_steps import BuildSteps
from carrack.engine.disk_usage import CacheRecord
from carrack.engine.rooms import Rooms
from carrack.errors import Cancelled, Unavailable
from carrack.images.progress import Progress
from carrack.images.registries import Puller
from carrack.images.transfer import Watching
from carrack.oci.descriptor import Descriptor
from carrack.oci.platform import Platform
from carrack.oci.reference import Reference
from carrack.shim import zygote_process
from carrack.shim.messages import UnpackLayer, WorkerJob
from carrack.shim.workers import Job
from carrack.snapshots.trash import Trash
from carrack.state.database import Database


class BuildHouse:
    """The builder and what belongs to it."""

    def __init__(
        self, builder: Builder, contexts: Reception, sessions: BuildSessions, collector: Collector, buildkit: BuildKit
    ) -> None:
        self.builder = builder
        self.contexts = contexts
        self.sessions = sessions
        self.collector = collector
        self.buildkit = buildkit

    def records(self) -> list[CacheRecord]:
        """The cache's rows of `system df`."""
        return [
            CacheRecord(
                id=kept.record.id,
                type=kept.record.kind,
                description=kept.record.description,
                parents=tuple(parent.removeprefix("sha256:")[:25] for parent in kept.record.parents),
                in_use=kept.in_use,
                shared=kept.shared,
                size_bytes=kept.size_bytes,
                created_nanoseconds=kept.record.created,
                last_used_nanoseconds=kept.record.used,
                usage_count=kept.record.uses,
            )
            for kept in self.collector.account()
        ]


def open_builder(
    database: Database,
    content: ContentStore,
    rooms: Rooms,
    puller: Puller,
    trash: Trash,
    zygote_socket: str,
    settings: BuilderSettings,
) -> BuildHouse:
    """Put the builder together and clear away what a killed one left. Blocking."""
    data_root = rooms.directories.data_root

    def start(job: WorkerJob, fds: Sequence[int]) -> Job:
        return Job(zygote_socket, job, fds)

    def unpack(blob: Descriptor, imported: Imported, path: Path, cancel: Cancellation) -> None:
        with rooms.images.store.assembling() as lease:
            fetched(rooms.images, imported, blob, lease, cancel)
            source_fd = content.open(blob.name)
            target_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                run_job(start, UnpackLayer(snapshots.free_bytes()), (source_fd, target_fd), cancel)
            finally:
                os.close(source_fd)
                os.close(target_fd)

    snapshots = rooms.snapshots
    cache = BuildCache(database, snapshots, data_root / "build", trash.throw)
    cache.recover()
    files = WorkerTrees(zygote_socket, snapshots.free_bytes)
    remotes = Remotes(data_root / "sources", files)
    slots = Slots(data_root / "contexts", trash.throw)
    equipment = Equipment(
        snapshots=snapshots,
        cache=cache,
        files=files,
        stacks=Stacks(snapshots, start, trash.throw, data_root / "containers"),
        remotes=remotes,
        rooms=RunRoom(BuildSteps(rooms, partial(zygote_process.order_start, zygote_socket)), snapshots, cache.root),
        mounts=CacheMounts(cache),
        unpack=unpack,
    )
    exporter = ImageExporter(rooms.images, content, cache, files)
    collector = Collector(cache, settings.ceiling_bytes, beside=(slots, remotes.downloads))
    registry = RegistryCaches(puller, content)
    delivery = Delivery(
        exporter,
        FileExporter(files, equipment.stacks, rooms.images, exporter),
        CacheExporter(rooms.images.store, cache, files, exporter, registry),
        rooms.images.store,
        equipment.stacks,
    )
    importer = CacheImporter(rooms.images, registry)
    builder = Builder(
        Solver(), equipment, rooms.images, delivery, importer, _Registries(puller), collector.collect, settings.entitlements
    )
    reception = Reception(slots, files, remotes, snapshots.free_bytes)
    sockets = rooms.directories.exec_root / "build"
    sessions = BuildSessions(reception, sockets)

    def push(name: str, credentials: str) -> Iterator[Progress]:
        return puller.push(name, "", None, credentials)

    buildkit = BuildKit(builder, reception, collector, push, sockets)
    return BuildHouse(builder, reception, sessions, collector, buildkit)


class _Registries:
    """`ports.BaseImages` over the daemon's registry client."""

    def __init__(self, puller: Puller) -> None:
        self._puller = puller

    def pull(
        self,
        reference: str,
        platform: Platform | None,
        credentials: Mapping[str, str],
        tell: Callable[[object], None],
        cancel: Cancellation,
    ) -> str:
        parsed = Reference.parse(reference).with_default_tag() if "@" not in reference else Reference.parse(reference)
        if platform is not None:
            found = self._puller.manifest_for(parsed, platform, credentials.get(parsed.domain, ""))
            parsed = Reference(parsed.domain, parsed.path, "", found.name)
        named = f"{parsed.repository}@{parsed.digest}" if parsed.digest is not None else f"{parsed.repository}:{parsed.tag}"
        lines = self._puller.pull(named, "", platform, credentials.get(parsed.domain, ""))

        def end() -> None:
            if isinstance(lines, Watching):
                lines.close()

        with cancel.calling(end):
            try:
                for line in lines:
                    tell(line)
            except Unavailable:
                cancel.check()
                raise
        if cancel.cancelled:
            raise Cancelled("the build was cancelled")
        return named
