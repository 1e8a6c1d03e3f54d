"""The only file that knows everything: builds every room, hands each what it needs, and closes them in reverse."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_network
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
    registries,
    system,
    volumes,
)
from carrack.api.router import Api, Product
from carrack.api.versions import DOCKER_RELEASES, MAX_VERSION
from carrack.archive.layer import UnpackReport
from carrack.content.filesystem import FilesystemContent
from carrack.daemon import scope, slices
from carrack.daemon.builder_on_demand import BuilderOnDemand
from carrack.daemon.config import DaemonConfig
from carrack.engine import apparmor, cdi, image_mounts, oci_runtimes, remapping, roots
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
from carrack.engine.resources import Machine
from carrack.engine.restore import restore
from carrack.engine.rooms import Directories, Realtime, Rooms, Settings
from carrack.engine.shims import Zygote
from carrack.engine.state import LIVE
from carrack.engine.statistics import Watching
from carrack.engine.system import ChangingFacts, Facts, System, file_system_of, identity, warnings
from carrack.engine.table import Table
from carrack.engine.threads import in_thread
from carrack.engine.volume_content import VolumeContents
from carrack.http.request import Observer
from carrack.images.image import ContainerUse
from carrack.images.images import Images
from carrack.images.registries import Puller
from carrack.images.store import Effort
from carrack.networks.networks import Networks
from carrack.networks.options import AddressPool, NetworkOptions
from carrack.runtime import cgroups
from carrack.runtime.cgroups.features import Features, probe
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

_INITS = ("/usr/libexec/docker/docker-init", "/usr/bin/docker-init", "/usr/bin/tini-static", "/sbin/tini-static")
"""Where a static init of a container may be, best first."""


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
        observe: Observer,
    ) -> None:
        self._building = building
        self.api = api
        self.metrics_api = metrics_api
        """What `--metrics-addr` serves."""
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
        self._rooms.images.store.effort = _effort(config)
        self._about.facts = replace(self._about.facts, **_changing_facts(config))

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
    await in_thread(_refuse, config)
    events_hub = Events(asyncio.get_running_loop())
    settings = await in_thread(_settings, config)
    directories = Directories(config.data_root, config.exec_root)
    containers_root = config.data_root / "containers"
    containers_root.mkdir(mode=0o710, exist_ok=True)
    trash = Trash(config.data_root / "trash")
    driver: type[Native | Overlay] = Native if config.storage_driver in ("native", "vfs") else Overlay
    snapshots = driver(config.data_root / "layers", containers_root, database, trash)
    content = FilesystemContent(config.data_root / "blobs", config.data_root / "ingest")
    table = Table(database)
    store = Images(database, content, snapshots, _Unpacker(zygote.socket_path), events_hub.emit)
    await in_thread(store.recover)
    puller = Puller(store, mirrors=config.registry_mirrors, insecure=config.insecure_registries, hosts=config.registries)
    begin_names = partial(zygote_process.order_names, zygote.socket_path)
    nets = Networks(database, config.instance, _network_options(config), events_hub.emit, begin_names)
    await in_thread(nets.open)
    vols = await in_thread(Volumes, database, config.data_root / "volumes", events_hub.emit, trash.throw)
    rooms = Rooms(
        table=table,
        events=events_hub,
        images=store,
        snapshots=snapshots,
        networks=nets,
        volumes=vols,
        zygote=Zygote(partial(zygote_process.order_start, zygote.socket_path)),
        directories=directories,
        settings=settings,
        remove_tree=trash.throw,
        run_job=lambda job, fds: _run_job(zygote.socket_path, job, fds),
        start_job=lambda job, fds: Job(zygote.socket_path, job, fds),
        begin_job=lambda job, fds: begin_job(zygote.socket_path, job, fds),
    )
    await in_thread(roots.make_places, directories)
    await in_thread(table.load)
    await in_thread(scope.adopt, (await in_thread(zygote.result)).pid, config)
    life = Lifecycle(rooms)
    execs = Execs(life)
    Health(life, execs)
    orders = Containers(life)
    store.use_by(lambda: _uses(table))
    await restore(life, execs)
    await in_thread(nets.reconcile, {container.id for container in table if container.state.running})
    experimental = (lambda: True) if config.further.experimental else Presence()
    product = Product(f"{DOCKER_RELEASES[MAX_VERSION]}+carrack{__version__}", experimental=experimental)
    store.store.effort = _effort(config)
    facts = Facts(
        identity=await in_thread(identity, config.data_root),
        release=product.version,
        storage_driver=snapshots.name,
        docker_root=str(config.data_root),
        default_log_driver=config.log_driver,
        address_pools=config.default_address_pools,
        experimental=experimental,
        warnings=warnings(config.hosts, encrypted=config.tls is not False),
        **_changing_facts(config),
    )
    about = System(rooms, facts)
    watching = Watching(life)

    def make_builder() -> BuildHouse:
        from carrack.daemon.building import open_builder

        return open_builder(database, content, rooms, puller, trash, zygote.socket_path, config.further.builder)

    building = BuilderOnDemand(make_builder, events_hub.emit)
    if (config.data_root / "build").exists():
        await building.open()  # it clears away what a killed one left
    served = [
        *checkpoints.routes(Checkpoints(life)),  # before a container's removal, whose name may hold slashes
        *containers.routes(orders),
        *container_stats.routes(watching),
        *container_files.routes(Filesystems(life)),
        *commit.routes(Commits(life, orders)),
        *exec.routes(execs),
        *events.routes(events_hub),
        *system.routes(about, product, min_version=config.further.min_api_version),
        *disk_usage.routes(DiskUsages(orders, store, vols, building.records)),
        *registries.routes(puller),
        *images.routes(store, puller),
        *networks.routes(nets, Connections(life)),
        *building.routes(),
        *volumes.routes(vols, VolumeContents(vols, rooms.run_job)),
        *debug.routes(),
        *absent.routes(),
        *not_yet.routes(),
    ]
    api = Api(
        [*served, *openapi.routes(served, product.version)],
        product=product,
        min_version=config.further.min_api_version,
    )
    figures = Metrics(rooms, about, watching)
    metrics_api = Api([*metrics.routes(figures)], product=product)
    return House(
        api,
        rooms,
        life,
        building,
        database,
        trash,
        zygote.socket_path,
        puller=puller,
        about=about,
        metrics_api=metrics_api,
        observe=figures.observe,
    )


def _effort(config: DaemonConfig) -> Effort:
    further = config.further
    return Effort(further.max_concurrent_downloads, further.max_concurrent_uploads, further.max_download_attempts)


def _changing_facts(config: DaemonConfig) -> ChangingFacts:
    """What `info` says of what a reload may change."""
    return {
        "labels": config.labels,
        "debug": config.debug,
        "mirrors": config.registry_mirrors,
        "insecure_registries": config.insecure_registries,
    }


def _refuse(config: DaemonConfig) -> None:
    """Raises what the settings would say of this host, before anything is started that would have to be ended again."""
    oci_runtimes.here(config.runtimes, config.default_runtime)
    slices.here(config.further.cgroup_driver)
    if config.userns_remap:
        remapping.find(config.userns_remap)
        remapping.check_place(str(config.data_root), file_system_of(str(config.data_root)), os.uname().release)


def _cgroup_features(config: DaemonConfig) -> Features:
    """What cgroups can limit here. Where none can be made no container can start either, and that start says why."""
    try:
        return probe(f"/{config.cgroup_parent.strip('/')}/probe", cgroups.detect())
    except OSError as error:
        logging.getLogger("carrack.daemon").warning("no cgroup can be made: %s: %s", error.filename, error.strerror)
        return Features()


def _settings(config: DaemonConfig) -> Settings:
    features = _cgroup_features(config)
    return Settings(
        instance=config.instance,
        cgroup_parent=config.cgroup_parent,
        slices=slices.here(config.further.cgroup_driver),
        slices_only=config.further.cgroup_driver == "systemd",
        log_driver=config.log_driver,
        log_options=config.log_opts,
        dns=tuple(config.dns),
        dns_search=tuple(config.dns_search),
        dns_options=tuple(config.dns_opts),
        trace=config.debug,
        machine=Machine.here(features),
        runtimes=oci_runtimes.here(config.runtimes, config.default_runtime),
        cdi_directories=tuple(config.cdi_spec_dirs or cdi.DIRECTORIES),
        apparmor_profile=apparmor.install(),
        restart_on_unhealthy=config.restart_on_unhealthy,
        remap=remapping.find(config.userns_remap) if config.userns_remap else None,
        realtime=Realtime(config.cpu_rt_period, config.cpu_rt_runtime),
        defaults=config.further.container_defaults,
        init_path=config.further.init_path or next((path for path in _INITS if os.access(path, os.X_OK)), ""),
    )


def _network_options(config: DaemonConfig) -> NetworkOptions:
    pools = tuple(AddressPool(ip_network(base), size) for base, size in config.default_address_pools)
    options = NetworkOptions(
        bridge=config.bridge,
        bip=config.bip,
        fixed_cidr=config.fixed_cidr,
        bip6=config.bip6,
        default_gateway=config.default_gateway,
        default_gateway_v6=config.default_gateway_v6,
        fixed_cidr_v6=config.fixed_cidr_v6,
        ipv6=config.ipv6 or config.bip6 is not None or config.fixed_cidr_v6 is not None,
        mtu=config.mtu,
        icc=config.icc,
        ip_forward=config.ip_forward,
        ip_masq=config.ip_masq,
        ip=config.ip,
        accept_mark=config.accept_mark,
        direct_routing=config.allow_direct_routing,
        beside_docker=config.beside_docker,
        default_options=config.default_network_opts,
        relays=config.userland_proxy,
        dns=tuple(config.dns),
        run_directory=config.exec_root,
    )
    if pools:
        options = replace(options, default_address_pools=pools)
    return options


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
