"""What `info` and `version` say, gathered from the rooms."""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from typing import TypedDict

from carrack import __version__
from carrack.engine import cdi
from carrack.engine.oci_runtimes import OURS, Runtimes
from carrack.engine.rooms import Rooms, Settings
from carrack.engine.state import Status
from carrack.engine.system_information import (
    AddressPool,
    Component,
    DiscoveredDevice,
    IndexConfig,
    RegistryConfig,
    RuntimeProgram,
    SystemInformation,
    VersionInformation,
)
from carrack.oci.platform import machine
from carrack.runtime import cgroups

log = logging.getLogger("carrack.system")


class ChangingFacts(TypedDict):
    """Those that a reload of the configuration may change."""

    labels: list[str]
    debug: bool
    mirrors: list[str]
    insecure_registries: list[str]


@dataclass(frozen=True, slots=True)
class Facts:
    """What `info` need not ask for. Replaced as a whole when the configuration is read again."""

    identity: str
    release: str
    """The Docker release reported, with our version behind it."""
    storage_driver: str
    docker_root: str
    default_log_driver: str
    experimental: Callable[[], bool] = lambda: False
    mirrors: list[str] = field(default_factory=list)
    insecure_registries: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    address_pools: list[tuple[str, int]] = field(default_factory=list)
    debug: bool = False
    warnings: list[str] = field(default_factory=list)


class System:
    """The daemon about itself."""

    def __init__(self, rooms: Rooms, facts: Facts) -> None:
        self._rooms = rooms
        self.facts = facts

    def info(self) -> SystemInformation:
        """GET /info. Counts come from memory and one index query; nothing is walked."""
        facts = self.facts
        statuses = [container.state.status for container in self._rooms.table]
        running = statuses.count(Status.RUNNING) + statuses.count(Status.RESTARTING)
        paused = statuses.count(Status.PAUSED)
        uname = os.uname()
        layout = cgroups.detect()
        return SystemInformation(
            id=facts.identity,
            containers=len(statuses),
            containers_running=running,
            containers_paused=paused,
            containers_stopped=len(statuses) - running - paused,
            images=len(self._rooms.images.list()),
            driver=facts.storage_driver,
            driver_status=[("Backing Filesystem", file_system_of(facts.docker_root))],
            memory_limit=bool(layout.version == 2 or layout.mountpoint("memory")),
            swap_limit=_has_swap_account(layout),
            pids_limit=bool(layout.version == 2 or layout.mountpoint("pids")),
            cpu_shares=bool(layout.version == 2 or layout.mountpoint("cpu")),
            cpu_set=bool(layout.version == 2 or layout.mountpoint("cpuset")),
            oom_kill_disable=layout.version == 1,
            ipv4_forwarding=_read("/proc/sys/net/ipv4/ip_forward") == "1",
            debug=facts.debug,
            n_fd=len(os.listdir("/proc/self/fd")),
            n_goroutines=threading.active_count(),
            system_time=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            logging_driver=facts.default_log_driver,
            cgroup_driver="systemd" if self._rooms.settings.slices is not None else "cgroupfs",
            cgroup_version=str(layout.version),
            n_events_listener=self._rooms.events.listener_count,
            kernel_version=uname.release,
            operating_system=_os_release().get("PRETTY_NAME", "Linux"),
            os_version=_os_release().get("VERSION_ID", ""),
            architecture=uname.machine,
            ncpu=os.cpu_count() or 1,
            mem_total=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            docker_root_dir=facts.docker_root,
            http_proxy=_without_password(os.environ.get("HTTP_PROXY", "")),
            https_proxy=_without_password(os.environ.get("HTTPS_PROXY", "")),
            no_proxy=os.environ.get("NO_PROXY", ""),
            registry_config=_registry_config(facts),
            experimental_build=facts.experimental(),
            name=uname.nodename,
            labels=facts.labels,
            server_version=facts.release,
            runtimes=_runtimes(self._rooms.settings.runtimes),
            default_runtime=self._rooms.settings.runtimes.default,
            cdi_spec_dirs=list(self._rooms.settings.cdi_directories),
            discovered_devices=[DiscoveredDevice("cdi", name) for name in cdi.Devices(self._rooms.settings.cdi_directories).names]
            or None,
            init_binary=self._rooms.settings.init_path,
            security_options=_security_options(layout.version, self._rooms.settings),
            default_address_pools=[AddressPool(base, size) for base, size in facts.address_pools],
            warnings=[*facts.warnings, *_present_warnings()] or None,
        )

    def version(self) -> VersionInformation:
        """GET /version."""
        return VersionInformation(
            version=self.facts.release,
            language_version=f"python{platform.python_version()}",
            arch=machine().architecture,
            kernel_version=os.uname().release,
            components=[
                Component("carrack", __version__, {"Python": platform.python_version()}),
                Component("sqlite", sqlite3.sqlite_version),
            ],
        )


def identity(data_root: Path) -> str:
    """This installation's own id, made at its first start. Raises OSError."""
    path = data_root / "engine-id"
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        import uuid

        made = str(uuid.uuid4())
        path.write_text(made + "\n", encoding="ascii")
        return made


def warnings(hosts: Sequence[str] = (), *, encrypted: bool = True) -> list[str]:
    """What this host cannot do, and what of the configuration is dangerous, in Docker's words."""
    layout = cgroups.detect()
    found: list[str] = []
    for host in hosts:
        if host.startswith("tcp://") and not encrypted:
            found.append(
                f"WARNING: API is accessible on http://{host.removeprefix('tcp://')} without encryption.\n"
                "         Access to the remote API is equivalent to root access on the host."
            )
    if layout.version == 1:
        found.append("WARNING: Support for cgroup v1 is deprecated by its kernel; limits work as before")
        for controller, told in (("memory", "memory limit"), ("cpu", "cpu shares"), ("cpuset", "cpuset"), ("pids", "pids limit")):
            if not layout.mountpoint(controller):
                found.append(f"WARNING: No {told} support")
        if not _has_swap_account(layout):
            found.append("WARNING: No swap limit support")
    return found


_FEATURES = "org.opencontainers.runtime-spec.features"


def _runtimes(runtimes: Runtimes) -> dict[str, RuntimeProgram]:
    """Our own is in this daemon's shims; its command is named for those who want to call it."""
    others = {name: RuntimeProgram(program.path, list(program.arguments) or None) for name, program in runtimes.others.items()}
    return {OURS: RuntimeProgram("carrack-oci", status={_FEATURES: _own_features()}), **others}


@cache
def _own_features() -> str:
    from carrack.runtime.command.describe import features_document

    return json.dumps(features_document(), separators=(",", ":"))


def _has_swap_account(layout: cgroups.Layout) -> bool:
    if layout.version == 2:
        return True
    mountpoint = layout.mountpoint("memory")
    return bool(mountpoint) and os.path.exists(f"{mountpoint}/memory.memsw.limit_in_bytes")


def _security_options(cgroup_version: int, settings: Settings) -> list[str]:
    profile = {"": "builtin", "unconfined": "unconfined"}.get(settings.defaults.seccomp_profile, "custom")
    found = [f"name=seccomp,profile={profile}"]
    if _read("/sys/module/apparmor/parameters/enabled") == "Y":
        found.insert(0, "name=apparmor")
    if cgroup_version == 2:
        found.append("name=cgroupns")
    if settings.remap is not None:
        found.append("name=userns")
    if settings.defaults.no_new_privileges:
        found.append("name=no-new-privileges")
    return found


def _registry_config(facts: Facts) -> RegistryConfig:
    """Hosts that may do without TLS are indexes; networks of such are CIDRs."""
    mirrors = [mirror if mirror.endswith("/") else f"{mirror}/" for mirror in facts.mirrors]
    indexes = {"docker.io": IndexConfig(mirrors=mirrors)}
    networks = ["::1/128", "127.0.0.0/8"]
    for insecure in facts.insecure_registries:
        try:
            networks.append(str(ip_network(insecure)))
        except ValueError:
            indexes[insecure] = IndexConfig(insecure, [], False, False)
    return RegistryConfig(insecure_registry_cidrs=networks, index_configs=indexes, mirrors=mirrors)


def _without_password(url: str) -> str:
    """A proxy's address as everyone may read it."""
    return re.sub(r"//[^/@]*@", "//xxxxx:xxxxx@", url)


def _present_warnings() -> list[str]:
    """What an administrator may have changed since the start."""
    found = []
    if _read("/proc/sys/net/ipv4/ip_forward") == "0":
        found.append("WARNING: IPv4 forwarding is disabled")
    return found


def file_system_of(path: str) -> str:
    """The type of the file system that holds a directory."""
    best, found = "", "unknown"
    for line in _read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        mountpoint = before.split(" ")[4]
        if (path + "/").startswith(mountpoint.rstrip("/") + "/") and len(mountpoint) >= len(best):
            best, found = mountpoint, after.split(" ")[0]
    return "extfs" if found.startswith("ext") else found


def _os_release() -> dict[str, str]:
    values = {}
    for line in _read("/etc/os-release").splitlines():
        name, equals, value = line.partition("=")
        if equals:
            values[name] = value.strip('"')
    return values


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
