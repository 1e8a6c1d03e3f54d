"""The only file that knows everything: builds every room, hands each what it needs, and closes them in reverse."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from carrack import __version__
from carrack.api import (
    absent,
    checkpoints,
    commit,
    container_files,
    container_stats,
    containers,
    debug,
    disk_usage,
    events,
    exec,
    images,
    metrics,
    networks,
    not_yet,
    openapi,
    reading,
    registries,
    system,
    volumes,
)
from carrack.api.router import Api, Product, Route
from carrack.api.versions import DOCKER_RELEASES, MAX_VERSION
from carrack.archive.layer import UnpackReport
from carrack.content.filesystem import FilesystemContent
from carrack.daemon import scope, settings
from carrack.daemon.builder_on_demand import BuilderOnDemand
from carrack.daemon.config import DaemonConfig
from carrack.engine import image_mounts, oci_runtimes, roots
from carrack.engine.checkpoints import Checkpoints, Presence
from carrack.engine.commits import Commits
from carrack.engine.connections import Connections
from carrack.engine.containers import Containers
from carrack.engine.disk_usage import DiskUsages
from carrack.engine.events import Events
from carrack.engine.execs import Execs
from carrack.engine.filesystems import Filesystems
from carrack.engine.health import Health
from carrack.engine.lifecycle import Lifecycle
from carrack.engine.metrics import Metrics
from carrack.engine.restore import restore
from carrack.engine.rooms import Directories, Rooms
from carrack.engine.shims import Zygote
from carrack.engine.state import LIVE
from carrack.engine.statistics import Watching
from carrack.engine.system import Facts, System, identity, warnings
from carrack.engine.table import Table
from carrack.engine.threads import in_thread
from carrack.engine.volume_content import VolumeContents
from carrack.http.request import Observer
from carrack.images.image import ContainerUse
from carrack.images.images import Images
from carrack.images.registries import Puller
from carrack.networks.networks import Networks
from carrack.runtime import cgroups
from carrack.shim import zygote_process
from carrack.shim.messages import UnpackLayer, WorkerDone, WorkerJob
from carrack.shim.workers import Job, begin_job, run_job
from carrack.shim.zygote_process import StartingZygote
from carrack.snapshots.native import Native
from carrack.snapshots.overlay import Overlay
from carrack.snapshots.trash import Trash
from carrack.state.database import Database
from carrack.volumes.volumes import Volumes

if TYPE_CHECKING:
    from carrack.daemon.building import BuildHouse

_PARENT_LOOKS, _PARENT_LOOK_SECONDS = 40, 0.05
_TRASH_SECONDS = 5.0
"""How long the end of a daemon waits for what was removed to be off the disk."""


class House:
    """A daemon that is built: the API to serve, and how to leave."""

    def __init__(
        self,
        api: Api,
        rooms: Rooms,
        life: Lifecycle,
        building: BuilderOnDemand,
        database: Database,
        trash: Trash,
        zygote_path: str,
        *,
        puller: Puller,
        about: System,
        metrics_api: Api,
        reading_api: Api,
        observe: Observer,
    ) -> None:
        self._building = building
        self.api = api
        self.metrics_api = metrics_api
        """What `--metrics-addr` serves."""
        self.reading_api = reading_api
        """What `--read-only-socket` serves."""
        self.observe = observe
        """Counts an answer of the API."""
        self._puller = puller
        self._about = about
        self._rooms = rooms
        self._life = life
        self._database = database
        self._trash = trash
        self._zygote_path = zygote_path

    def apply(self, config: DaemonConfig) -> None:
        """Put into force what may change while the daemon runs (`directives.RELOADABLE`). Raises InvalidParameter."""
        runtimes = oci_runtimes.here(config.runtimes, config.default_runtime)
        self._rooms.settings = replace(self._rooms.settings, runtimes=runtimes)
        self._puller.configure(mirrors=config.registry_mirrors, insecure=config.insecure_registries, hosts=config.registries)
        self._rooms.images.store.effort = settings.effort(config)
        self._about.facts = replace(self._about.facts, **settings.changing_facts(config))

    def tell(self, action: str, attributes: dict[str, str]) -> None:
        """An event about the daemon itself."""
        facts = self._about.facts
        self._rooms.events.emit("daemon", action, facts.identity, {"name": os.uname().nodename, **attributes})

    async def stop_containers(self) -> None:
        """End every container as its own settings ask, and begin none; the next daemon begins what its policy wants to run."""
        await self._life.end_all()

    async def close(self) -> None:
        """Let go of everything. With containers running, their zygote, links and rules stay; without, nothing stays."""
        await self._building.close()
        keep = any(container.state.status in LIVE for container in self._rooms.table)
        await self._life.close()
        await in_thread(self._rooms.networks.close, keep)
        self._rooms.zygote.close()
        await in_thread(self._trash.settle, _TRASH_SECONDS)
        self._rooms.images.close()
        self._database.close()
        if not keep:
            await in_thread(zygote_process.dismiss_zygote, self._zygote_path)
            await self._remove_cgroup_parent()

    async def _remove_cgroup_parent(self) -> None:
        """The last shims may be removing their own cgroups below it at this moment: a few looks."""
        parent = cgroups.open(self._rooms.settings.cgroup_parent)
        for _ in range(_PARENT_LOOKS):
            await in_thread(parent.remove)
            if not os.path.exists(parent.directory("pids")):
                return
            await asyncio.sleep(_PARENT_LOOK_SECONDS)


async def build(config: DaemonConfig, zygote: StartingZygote) -> House:
    """Open every room, take over what an earlier daemon left, and put the API together. Raises the rooms' own kinds."""
    database = await in_thread(Database, config.data_root / "state.db")
    try:
        return await _build(config, database, zygote)
    except BaseException:
        database.close()
        raise


async def _build(config: DaemonConfig, database: Database, zygote: StartingZygote) -> House:
    await in_thread(settings.refuse, config)
    trash = Trash(config.data_root / "trash")
    content = FilesystemContent(config.data_root / "blobs", config.data_root / "ingest")
    rooms = await _open_rooms(config, database, content, trash, zygote.socket_path)
    puller = Puller(rooms.images, mirrors=config.registry_mirrors, insecure=config.insecure_registries, hosts=config.registries)
    await in_thread(scope.adopt, (await in_thread(zygote.result)).pid, config)
    life = Lifecycle(rooms)
    execs = Execs(life)
    await _take_over(life, execs)
    experimental = (lambda: True) if config.further.experimental else Presence()
    product = Product(f"{DOCKER_RELEASES[MAX_VERSION]}+carrack{__version__}", experimental=experimental)
    about = System(rooms, await _facts(config, rooms, product))
    watching = Watching(life)

    def make_builder() -> BuildHouse:
        from carrack.daemon.building import open_builder

        return open_builder(database, content, rooms, puller, trash, zygote.socket_path, config.further.builder)

    building = BuilderOnDemand(make_builder, rooms.events.emit)
    if (config.data_root / "build").exists():
        await building.open()  # it clears away what a killed one left
    min_version = config.further.min_api_version
    served = [
        *_container_routes(life, execs, watching),
        *events.routes(rooms.events),
        *system.routes(about, product, min_version=min_version),
        *disk_usage.routes(DiskUsages(Containers(life), rooms.images, rooms.volumes, building.records)),
        *registries.routes(puller),
        *images.routes(rooms.images, puller),
        *networks.routes(rooms.networks, Connections(life)),
        *building.routes(),
        *volumes.routes(rooms.volumes, VolumeContents(rooms.volumes, rooms.run_job)),
        *debug.routes(),
        *absent.routes(),
        *not_yet.routes(),
    ]
    served += openapi.routes(served, product.version)
    figures = Metrics(rooms, about, watching)
    return House(
        Api(served, product=product, min_version=min_version),
        rooms,
        life,
        building,
        database,
        trash,
        zygote.socket_path,
        puller=puller,
        about=about,
        metrics_api=Api(metrics.routes(figures), product=product),
        reading_api=Api(reading.reading(served), product=product, min_version=min_version),
        observe=figures.observe,
    )


async def _open_rooms(
    config: DaemonConfig, database: Database, content: FilesystemContent, trash: Trash, zygote_path: str
) -> Rooms:
    """The rooms below the engine, each with what it kept on disk."""
    hub = Events(asyncio.get_running_loop())
    of_containers = await in_thread(settings.of_containers, config)
    directories = Directories(config.data_root, config.exec_root)
    containers_root = config.data_root / "containers"
    containers_root.mkdir(mode=0o710, exist_ok=True)
    driver: type[Native | Overlay] = Native if config.storage_driver in ("native", "vfs") else Overlay
    snapshots = driver(config.data_root / "layers", containers_root, database, trash)
    table = Table(database)
    store = Images(database, content, snapshots, _Unpacker(zygote_path), hub.emit)
    store.store.effort = settings.effort(config)
    await in_thread(store.recover)
    begin_names = partial(zygote_process.order_names, zygote_path)
    nets = Networks(database, config.instance, settings.of_networks(config), hub.emit, begin_names)
    await in_thread(nets.open)
    rooms = Rooms(
        table=table,
        events=hub,
        images=store,
        snapshots=snapshots,
        networks=nets,
        volumes=await in_thread(Volumes, database, config.data_root / "volumes", hub.emit, trash.throw),
        zygote=Zygote(partial(zygote_process.order_start, zygote_path)),
        directories=directories,
        settings=of_containers,
        remove_tree=trash.throw,
        run_job=lambda job, fds: _run_job(zygote_path, job, fds),
        start_job=lambda job, fds: Job(zygote_path, job, fds),
        begin_job=lambda job, fds: begin_job(zygote_path, job, fds),
    )
    await in_thread(roots.make_places, directories)
    await in_thread(table.load)
    store.use_by(lambda: _uses(table))
    return rooms


async def _take_over(life: Lifecycle, execs: Execs) -> None:
    """Take back the containers that an earlier daemon left, and the addresses and ports of those that still run."""
    Health(life, execs)
    await restore(life, execs)
    running = {container.id for container in life.rooms.table if container.state.running}
    await in_thread(life.rooms.networks.reconcile, running)


async def _facts(config: DaemonConfig, rooms: Rooms, product: Product) -> Facts:
    """What `info` says of the daemon and does not change, and what a reload changes of it."""
    return Facts(
        identity=await in_thread(identity, config.data_root),
        release=product.version,
        storage_driver=rooms.snapshots.name,
        docker_root=str(config.data_root),
        default_log_driver=config.log_driver,
        address_pools=config.default_address_pools,
        experimental=product.experimental,
        warnings=warnings(config.hosts, encrypted=config.tls is not False),
        **settings.changing_facts(config),
    )


def _container_routes(life: Lifecycle, execs: Execs, watching: Watching) -> list[Route]:
    orders = Containers(life)
    return [
        *checkpoints.routes(Checkpoints(life)),  # before a container's removal, whose name may hold slashes
        *containers.routes(orders),
        *container_stats.routes(watching),
        *container_files.routes(Filesystems(life)),
        *commit.routes(Commits(life, orders)),
        *exec.routes(execs),
    ]


class _Unpacker:
    """Layers are unpacked by the zygote's confined workers."""

    def __init__(self, zygote_path: str) -> None:
        self._zygote_path = zygote_path

    def unpack(self, source_fd: int, target_fd: int, limit_bytes: int) -> UnpackReport:
        done = _run_job(self._zygote_path, UnpackLayer(limit_bytes), (source_fd, target_fd))
        return UnpackReport(done.diff_id, done.size_bytes, done.entries)


def _run_job(zygote_path: str, job: WorkerJob, fds: Sequence[int]) -> WorkerDone:
    return run_job(zygote_path, job, tuple(fds))


def _uses(table: Table) -> list[tuple[str, ContainerUse]]:
    return [(image, ContainerUse(c.id, c.name, c.state.running)) for c in table for image in image_mounts.images_of(c)]
