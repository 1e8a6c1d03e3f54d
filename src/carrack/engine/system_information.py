"""What the daemon says of itself and its host: the documents of `info` and `version`. Values only.

Docker's names where they are irregular stand in `_SPELLING`; fields keep the order of Docker's documents. `api/system.py` leaves
out what an older version of the API does not know.
"""

from __future__ import annotations

import msgspec

_SPELLING = {
    "id": "ID",
    "ipv4_forwarding": "IPv4Forwarding",
    "bridge_nf_ip6tables": "BridgeNfIp6tables",
    "bridge_nf_iptables": "BridgeNfIptables",
    "cpu_shares": "CPUShares",
    "cpu_set": "CPUSet",
    "n_fd": "NFd",
    "n_goroutines": "NGoroutines",
    "n_events_listener": "NEventsListener",
    "os_version": "OSVersion",
    "os_type": "OSType",
    "insecure_registry_cidrs": "InsecureRegistryCIDRs",
    "allow_nondistributable_artifacts_cidrs": "AllowNondistributableArtifactsCIDRs",
    "ncpu": "NCPU",
    "cdi_spec_dirs": "CDISpecDirs",
    "node_id": "NodeID",
    "min_api_version": "MinAPIVersion",
}


def _spell(name: str) -> str:
    return _SPELLING.get(name) or "".join(part.capitalize() for part in name.split("_"))


class _Document(msgspec.Struct, rename=_spell):
    pass


class Plugins(_Document):
    """The names of what is built in, by kind."""

    volume: list[str] = msgspec.field(default_factory=lambda: ["local"])
    network: list[str] = msgspec.field(default_factory=lambda: ["bridge", "host", "null"])
    authorization: list[str] | None = None
    log: list[str] = msgspec.field(default_factory=lambda: ["journald", "json-file", "local", "none", "syslog"])


class IndexConfig(_Document):
    name: str = "docker.io"
    mirrors: list[str] = []
    secure: bool = True
    official: bool = True


class RegistryConfig(_Document):
    allow_nondistributable_artifacts_cidrs: list[str] = []
    allow_nondistributable_artifacts_hostnames: list[str] = []
    insecure_registry_cidrs: list[str] = []
    index_configs: dict[str, IndexConfig] = msgspec.field(default_factory=lambda: {"docker.io": IndexConfig()})
    mirrors: list[str] = []


class RuntimeProgram(msgspec.Struct):
    """A runtime by its program; ours is in this daemon's own shim."""

    path: str
    runtime_args: list[str] | None = msgspec.field(default=None, name="runtimeArgs")
    status: dict[str, str] | None = None
    """What a runtime says of its features (runtime-spec `features.md`), as JSON text under the standard's key."""


class DiscoveredDevice(_Document):
    """A device that `--device` can name."""

    source: str
    id: str = msgspec.field(name="ID")


class SwarmState(_Document):
    """A node that is in no swarm."""

    node_id: str = ""
    node_addr: str = ""
    local_node_state: str = "inactive"
    control_available: bool = False
    error: str = ""
    remote_managers: list[str] | None = None


class Commit(_Document):
    id: str = ""


class AddressPool(_Document):
    base: str
    size: int


class FirewallBackend(_Document):
    driver: str = "nftables"


class SystemInformation(_Document):
    """GET /info."""

    id: str
    """Of this installation; stays the same over restarts."""
    containers: int = 0
    containers_running: int = 0
    containers_paused: int = 0
    containers_stopped: int = 0
    images: int = 0
    driver: str = "overlay2"
    driver_status: list[tuple[str, str]] = []
    plugins: Plugins = msgspec.field(default_factory=Plugins)
    memory_limit: bool = True
    swap_limit: bool = True
    cpu_cfs_period: bool = True
    cpu_cfs_quota: bool = True
    cpu_shares: bool = True
    cpu_set: bool = True
    pids_limit: bool = True
    ipv4_forwarding: bool = True
    bridge_nf_iptables: bool = False
    bridge_nf_ip6tables: bool = False
    debug: bool = False
    n_fd: int = 0
    oom_kill_disable: bool = True
    n_goroutines: int = 0
    """Threads of the daemon."""
    system_time: str = ""
    logging_driver: str = "local"
    cgroup_driver: str = "cgroupfs"
    cgroup_version: str = "1"
    n_events_listener: int = 0
    kernel_version: str = ""
    operating_system: str = ""
    os_version: str = ""
    os_type: str = "linux"
    architecture: str = ""
    index_server_address: str = "https://index.docker.io/v1/"
    registry_config: RegistryConfig = msgspec.field(default_factory=RegistryConfig)
    ncpu: int = 0
    mem_total: int = 0
    """Bytes."""
    generic_resources: list[str] | None = None
    docker_root_dir: str = ""
    http_proxy: str = ""
    https_proxy: str = ""
    no_proxy: str = ""
    name: str = ""
    labels: list[str] = []
    experimental_build: bool = False
    server_version: str = ""
    runtimes: dict[str, RuntimeProgram] = {}
    default_runtime: str = "carrack"
    swarm: SwarmState = msgspec.field(default_factory=SwarmState)
    live_restore_enabled: bool = True
    isolation: str = ""
    init_binary: str = ""
    containerd_commit: Commit = msgspec.field(default_factory=Commit)
    runc_commit: Commit = msgspec.field(default_factory=Commit)
    init_commit: Commit = msgspec.field(default_factory=Commit)
    security_options: list[str] = msgspec.field(default_factory=lambda: ["name=seccomp,profile=builtin"])
    default_address_pools: list[AddressPool] = []
    firewall_backend: FirewallBackend = msgspec.field(default_factory=FirewallBackend)
    cdi_spec_dirs: list[str] = []
    discovered_devices: list[DiscoveredDevice] | None = None
    warnings: list[str] | None = None


class Component(_Document):
    """One part of the product, with what it says of itself."""

    name: str
    version: str
    details: dict[str, str] = {}


class VersionInformation(_Document):
    """GET /version, but for the versions of the API, which the API adds."""

    version: str
    """The Docker release of the newest API version offered, with `+carrack<version>`."""
    git_commit: str = ""
    language_version: str = msgspec.field(default="", name="GoVersion")
    """What Docker calls GoVersion: here that of Python."""
    os: str = "linux"
    arch: str = ""
    kernel_version: str = ""
    build_time: str = ""
    components: list[Component] = []
    """Beyond the engine itself: containers' runtime, SQLite, …"""
