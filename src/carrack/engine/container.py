"""The record of a container: what was asked, what it was resolved to, and how it stands. What the lists and inspect read.

A record is replaced or changed only by the engine's tasks, on the event loop; readers on that loop see a consistent one and
take no lock. The same struct, as JSON, is the row in state.db.
"""

from __future__ import annotations

import msgspec

from carrack.engine.config import ContainerConfig, EndpointSettings, ExecConfig, HostConfig
from carrack.engine.state import LIVE, Status
from carrack.oci.descriptor import Descriptor


class HealthResult(msgspec.Struct, rename="pascal"):
    """One run of a health check. Times are RFC 3339."""

    start: str
    end: str
    exit_code: int
    output: str


class HealthState(msgspec.Struct):
    """What the health check says: starting, healthy or unhealthy, with its last five results."""

    status: str = "starting"
    failing_streak: int = 0
    log: list[HealthResult] = []


class ContainerState(msgspec.Struct):
    """How a container stands. Times are nanoseconds since 1970; 0: never."""

    status: Status = Status.CREATED
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    out_of_memory: bool = False
    started_at_nanoseconds: int = 0
    finished_at_nanoseconds: int = 0
    health: HealthState | None = None
    """None: the container has no health check."""
    pipes: tuple[int, ...] = ()
    """The inodes of its standard streams (`Started.pipes`), which a checkpoint must know again."""

    @property
    def running(self) -> bool:
        """Docker's `Running`: also while paused or between two tries of a restart policy."""
        return self.status in LIVE or self.status is Status.RESTARTING

    @property
    def paused(self) -> bool:
        return self.status is Status.PAUSED


class MountPoint(msgspec.Struct):
    """One mount of a container beyond its root file system, resolved."""

    type: str
    """bind, volume, tmpfs or image."""
    source: str
    """A host path; for a volume the path of its data."""
    destination: str
    name: str = ""
    """A volume's name."""
    driver: str = ""
    mode: str = ""
    writable: bool = True
    propagation: str = ""
    anonymous: bool = False
    copy_up: bool = False
    options: tuple[str, ...] = ()


class PublishedPort(msgspec.Struct):
    """A port of the container and where it answers on the host; `host_port` 0: exposed only."""

    container_port: int
    protocol: str
    host_ip: str = ""
    host_port: int = 0


class Container(msgspec.Struct):
    """Everything known of one container."""

    id: str
    name: str
    """Without Docker's leading slash."""
    created_at_nanoseconds: int
    config: ContainerConfig
    """The request merged with the image's configuration."""
    host_config: HostConfig
    image_id: str
    image_reference: str
    """What the user typed."""
    path: str = ""
    arguments: list[str] = []
    platform: str = "linux"
    architecture: str = ""
    """Of the image, in Go's words: amd64, arm64, …"""
    state: ContainerState = msgspec.field(default_factory=ContainerState)
    mounts: list[MountPoint] = []
    networks: dict[str, EndpointSettings] = {}
    """By network name, as inspect shows them."""
    ports: list[PublishedPort] = []
    """Filled while the container runs."""
    links: dict[str, str] = {}
    """Links on the default bridge: alias → id of the other container."""
    link_environment: list[str] = []
    """What the links told at the last start."""
    restart_count: int = 0
    restart_delay_seconds: float = 0.0
    """The wait before the last restart by policy; it grows while the container does not stay up, also over ends of the daemon."""
    restart_at_nanoseconds: int = 0
    """When the next restart by policy is due; 0: none is."""
    unhealthy_restarts: int = 0
    """Restarts in a row because the health check failed."""
    reviving: bool = False
    """It is being ended because it is unhealthy, to be started again."""
    stopped_by_user: bool = False
    paused_by_commit: bool = False
    """It stands still for the time of a commit: whoever finds it so after the daemon's end lets it go on."""
    unfinished_checkpoint: str = ""
    """The directory that a checkpoint is being written to: who finds it after the daemon's end completes or removes it."""
    log_driver: str = "local"
    log_path: str = ""
    directory: str = ""
    cgroup: str = ""
    """The path of its cgroup since its last start: what the daemon is told of parents may change meanwhile."""
    exec_ids: list[str] = []
    image_manifest: Descriptor | None = None
    """The manifest of the image for the container's platform."""
    storage_driver: str = "overlay2"
    apparmor_profile: str = ""


class ExecSession(msgspec.Struct):
    """One exec: asked, running, or over."""

    id: str
    container_id: str
    config: ExecConfig
    running: bool = False
    started: bool = False
    exit_code: int | None = None
    pid: int = 0
    removed: bool = False


class Created(msgspec.Struct, rename="pascal"):
    """What POST /containers/create answers."""

    id: str
    warnings: list[str] = []


class Step(msgspec.Struct, rename="pascal"):
    """One step of a start: who took it (daemon or container; they work side by side), and how long it took."""

    by: str
    step: str
    microseconds: int


class Explanation(msgspec.Struct, rename="pascal"):
    """How a start went, step by step, as it was planned."""

    container: str
    steps: list[Step]
    total_microseconds: int


class Processes(msgspec.Struct, rename="pascal"):
    """What GET /containers/{id}/top answers."""

    titles: list[str]
    processes: list[list[str]]


class Sizes(msgspec.Struct):
    """Bytes of the writable layer, and of it with the image below."""

    rw_bytes: int = 0
    rootfs_bytes: int = 0


class Pruned(msgspec.Struct):
    """What a prune removed."""

    deleted: list[str] = []
    reclaimed_bytes: int = 0
