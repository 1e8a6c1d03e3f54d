"""The rooms below that the engine works with, as one value, and where things are on disk."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from carrack.engine.cgroup_places import Slices
from carrack.engine.defaults import ContainerDefaults
from carrack.engine.events import Events
from carrack.engine.oci_runtimes import Runtimes
from carrack.engine.remapping import Remap
from carrack.engine.resources import Machine
from carrack.engine.shims import Zygote
from carrack.engine.table import Table
from carrack.images.images import Images
from carrack.networks.networks import Networks
from carrack.runtime.cgroups.features import Features
from carrack.shim.messages import WorkerDone, WorkerJob
from carrack.shim.workers import Job
from carrack.snapshots.snapshotter import Snapshotter
from carrack.volumes.volumes import Volumes


@dataclass(frozen=True, slots=True)
class Directories:
    """An instance's places (architecture.md, State)."""

    data_root: Path
    exec_root: Path

    @property
    def places(self) -> Path:
        """The lowest layer of every container's root (roots.py)."""
        return self.data_root / "places"

    def container(self, container_id: str) -> Path:
        return self.data_root / "containers" / container_id

    def bundle(self, container_id: str) -> Path:
        """Where another OCI runtime finds the container, and keeps its state."""
        return self.exec_root / "bundles" / container_id

    def shim_socket(self, container_id: str) -> Path:
        return self.exec_root / "shims" / f"{container_id}.sock"


@dataclass(frozen=True, slots=True)
class Realtime:
    """The share of real-time that cgroups of containers have together, in microseconds; 0: what they have is left alone."""

    period: int = 0
    runtime: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the daemon's configuration decides about every container."""

    instance: str = "carrack"
    cgroup_parent: str = "/carrack"
    slices: Slices | None = None
    """systemd, where it is to make the cgroups of `--cgroup-parent xxx.slice`; None: those are paths like any other."""
    slices_only: bool = False
    """Containers name no other parents, as dockerd has it with its systemd driver."""
    log_driver: str = "local"
    log_options: dict[str, str] = field(default_factory=dict)
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    default_host_ip: str = ""
    trace: bool = False
    defaults: ContainerDefaults = field(default_factory=ContainerDefaults)
    init_path: str = ""
    """The program behind `--init`; empty: none was found on this host."""
    machine: Machine = field(default_factory=lambda: Machine.here(Features()))
    realtime: Realtime = Realtime()
    remap: Remap | None = None
    """The user namespace of containers; None: the host's."""
    cdi_directories: tuple[str, ...] = ()
    """Where devices are described; see `cdi.py`."""
    apparmor_profile: str = ""
    """The profile of containers that ask for none; see `apparmor.py`."""
    restart_on_unhealthy: int = 0
    """How many restarts in a row a container gets whose health check fails; see `health.py`."""
    runtimes: Runtimes = field(default_factory=Runtimes)


@dataclass(slots=True)
class Rooms:
    """Everything the engine orders about. `settings` is replaced when the configuration is read again, nothing else ever is."""

    table: Table
    events: Events
    images: Images
    snapshots: Snapshotter
    networks: Networks
    volumes: Volumes
    zygote: Zygote
    directories: Directories
    settings: Settings
    remove_tree: Callable[[Path], None]
    """Throw a directory away: at once out of sight, later off the disk."""
    run_job: Callable[[WorkerJob, Sequence[int]], WorkerDone]
    """Have a confined worker do a job. Blocking."""
    start_job: Callable[[WorkerJob, Sequence[int]], Job]
    """Give a confined worker a job, to be waited for in this thread."""
    begin_job: Callable[[WorkerJob, Sequence[int]], socket.socket]
    """Give a confined worker a job; it answers by the socket, and ends when that is closed. Blocking, briefly."""
