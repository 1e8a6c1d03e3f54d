"""dockerd's directives beyond those of `config.py`: what is made of each, and those that can have one value only here.

Nothing of Docker's is ignored: a directive is honoured, or it asks for what Carrack does anyway, or it is refused with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from carrack.api.versions import MAX_VERSION, MIN_VERSION, at_least
from carrack.daemon import builder_settings
from carrack.daemon.builder_settings import BuilderSettings
from carrack.engine.config import Ulimit
from carrack.engine.defaults import ContainerDefaults
from carrack.errors import InvalidParameter


@dataclass(frozen=True, slots=True)
class Option:
    """One directive: its flag, its key in the file, and what kind of value it has."""

    flag: str
    kind: str
    """text, flag, number, list, map (``key=value``), pools, ulimits, runtimes, options (by driver), or document (in the
    file only)."""
    help: str
    short: str = ""
    key: str = ""
    """In daemon.json, where it differs from the flag."""

    @property
    def name(self) -> str:
        return self.key or self.flag


OPTIONS = (
    Option("builder", "document", "Ceiling of the build cache, and rights of builds (in the configuration file only)"),
    Option("default-cgroupns-mode", "text", "Cgroup namespace of containers that name none: host or private"),
    Option("default-ipc-mode", "text", "IPC namespace of containers that name none: private or shareable"),
    Option("default-shm-size", "text", "Size of /dev/shm in containers that name none (default 64m)"),
    Option("default-ulimit", "ulimits", "Limits of containers that name none (name=soft[:hard])", key="default-ulimits"),
    Option("experimental", "flag", "Say that experimental features are on"),
    Option("http-proxy", "text", "Proxy for registries by HTTP"),
    Option("https-proxy", "text", "Proxy for registries by HTTPS"),
    Option("init", "flag", "Give every container an init that reaps its processes"),
    Option("init-path", "text", "The program behind --init"),
    Option("exec-opt", "list", "native.cgroupdriver=systemd or cgroupfs: how --cgroup-parent is meant", key="exec-opts"),
    Option("log-format", "text", "How the daemon's own log is written: text or json (default text)"),
    Option("max-concurrent-downloads", "number", "Layers that one pull fetches at once (default 3)"),
    Option("max-concurrent-uploads", "number", "Blobs that one push sends at once (default 5)"),
    Option("max-download-attempts", "number", "Attempts at a layer before a pull gives up (default 5)"),
    Option("metrics-addr", "text", "Address to serve metrics on, such as 127.0.0.1:9323"),
    Option("min-api-version", "text", f"Oldest API version to serve (default {MIN_VERSION})"),
    Option("no-new-privileges", "flag", "Let no container gain privileges by exec"),
    Option("no-proxy", "text", "Hosts that are reached without proxy"),
    Option("proxies", "document", "http-proxy, https-proxy and no-proxy (in the configuration file only)"),
    Option("read-only-group", "text", "Group that owns the read-only socket (default that of --group)"),
    Option("read-only-socket", "text", "Path of a socket that tells what there is and refuses every change"),
    Option("seccomp-profile", "text", "File of the seccomp profile of containers that name none, or unconfined"),
)

_CONTAINERD, _SWARM = "there is no containerd", "there is no swarm yet"
_FIREWALL = "Carrack's firewall is one nftables table of its own, which is always on"
FIXED: Mapping[str, tuple[str, tuple[object, ...], str]] = {
    "authorization-plugins": ("list", ([],), "authorization plugins are not supported yet"),
    "containerd": ("text", ("",), _CONTAINERD),
    "containerd-namespace": ("text", ("",), _CONTAINERD),
    "containerd-plugins-namespace": ("text", ("",), _CONTAINERD),
    "features": ("document", ({},), "features are not switched one by one"),
    "firewall-backend": ("text", ("", "nftables"), _FIREWALL),
    "host-gateway-ip": ("text", ("",), "host-gateway is the default bridge's address"),
    "host-gateway-ips": ("list", ([],), "host-gateway is the default bridge's address"),
    "ip-forward-no-drop": ("flag", (False, True), ""),
    "ip6tables": ("flag", (True,), _FIREWALL),
    "iptables": ("flag", (True,), _FIREWALL),
    "network-control-plane-mtu": ("number", (0, 1500), _SWARM),
    "network-diagnostic-port": ("number", (0,), "there is no such server"),
    "node-generic-resources": ("list", ([],), _SWARM),
    "oom-score-adjust": ("number", (0,), "give it to the service that starts carrackd"),
    "raw-logs": ("flag", (False, True), ""),
    "rootless": ("flag", (False,), "carrackd needs root"),
    "selinux-enabled": ("flag", (False,), "labels of SELinux are not set"),
    "storage-opts": ("list", ([],), "the storage drivers have no options"),
    "swarm-default-advertise-addr": ("text", ("",), _SWARM),
    "userland-proxy-path": ("text", ("",), "published ports need no proxy program"),
}
"""Docker's directive → (its kind, the values that mean what Carrack does anyway, why no other)."""
_FLAGS_OF_LISTS = {"storage-opts": "storage-opt", "node-generic-resources": "node-generic-resource"}
FIXED_OPTIONS = tuple(Option(_FLAGS_OF_LISTS.get(name, name), kind, why, key=name) for name, (kind, _, why) in FIXED.items())

RELOADABLE = frozenset(
    (
        "debug", "default-runtime", "insecure-registries", "labels", "live-restore", "log-level", "max-concurrent-downloads",
        "max-concurrent-uploads", "max-download-attempts", "registries", "registry-mirrors", "runtimes", "shutdown-timeout",
    )
)  # fmt: skip
"""What SIGHUP changes. Everything else needs a restart, which costs no container anything."""


@dataclass(slots=True)
class Further:
    """What the directives above say, defaults filled in."""

    container_defaults: ContainerDefaults = field(default_factory=ContainerDefaults)
    init_path: str = ""
    experimental: bool = False
    proxies: dict[str, str] = field(default_factory=dict)
    """http-proxy, https-proxy, no-proxy: those that were given."""
    log_format: str = "text"
    max_concurrent_downloads: int = 3
    max_concurrent_uploads: int = 5
    max_download_attempts: int = 5
    metrics_addr: str = ""
    read_only_socket: str = ""
    read_only_group: str = ""
    min_api_version: str = MIN_VERSION
    cgroup_driver: str = ""
    """systemd, cgroupfs; empty: as the machine is."""
    builder: BuilderSettings = field(default_factory=BuilderSettings)


def read(fields: Mapping[str, object]) -> Further:
    """The values of OPTIONS and FIXED, by directive name. Raises InvalidParameter."""
    for name, (_, allowed, why) in FIXED.items():
        if name in fields and fields[name] not in allowed:
            raise InvalidParameter(f"{name} cannot be {_shown(fields[name])}: {why}")
    document = fields.get("builder", {})
    assert isinstance(document, dict)
    return Further(
        builder=builder_settings.read(document),
        container_defaults=_container_defaults(fields),
        init_path=_init_path(str(fields.get("init-path", ""))),
        experimental=bool(fields.get("experimental", False)),
        proxies=_proxies(fields),
        log_format=_one_of(fields, "log-format", ("text", "json"), "text"),
        max_concurrent_downloads=_at_least_one(fields, "max-concurrent-downloads", 3),
        max_concurrent_uploads=_at_least_one(fields, "max-concurrent-uploads", 5),
        max_download_attempts=_at_least_one(fields, "max-download-attempts", 5),
        metrics_addr=_address(str(fields.get("metrics-addr", ""))),
        read_only_socket=str(fields.get("read-only-socket", "")),
        read_only_group=str(fields.get("read-only-group", "")),
        cgroup_driver=_cgroup_driver(fields.get("exec-opts", [])),
        min_api_version=_min_version(str(fields.get("min-api-version", "") or os.environ.get("DOCKER_MIN_API_VERSION", ""))),
    )


def parse_ulimit(text: str) -> tuple[str, dict[str, object]]:
    """``nofile=1024:2048`` as daemon.json has it. Raises InvalidParameter."""
    name, equals, values = text.partition("=")
    soft, colon, hard = values.partition(":")
    if not equals or not name or not _is_number(soft) or (colon and not _is_number(hard)):
        raise InvalidParameter(f"invalid ulimit argument: {text}")
    return name, {"Name": name, "Soft": int(soft), "Hard": int(hard if colon else soft)}


def _container_defaults(fields: Mapping[str, object]) -> ContainerDefaults:
    return ContainerDefaults(
        cgroupns_mode=_one_of(fields, "default-cgroupns-mode", ("host", "private"), ""),
        ipc_mode=_one_of(fields, "default-ipc-mode", ("private", "shareable"), ""),
        shm_bytes=_size(fields.get("default-shm-size", "")),
        ulimits=tuple(_ulimits(fields.get("default-ulimits", {}))),
        init=bool(fields.get("init", False)),
        no_new_privileges=bool(fields.get("no-new-privileges", False)),
        seccomp_profile=_seccomp_profile(str(fields.get("seccomp-profile", ""))),
    )


def _ulimits(table: object) -> list[Ulimit]:
    found = []
    assert isinstance(table, dict)
    for name, value in table.items():
        if not isinstance(value, dict) or not all(isinstance(value.get(key, 0), int) for key in ("Soft", "Hard")):
            raise InvalidParameter(f"invalid ulimit {name}: want Name, Soft and Hard")
        soft, hard = int(value.get("Soft", 0)), int(value.get("Hard", 0))
        if 0 <= hard < soft:
            raise InvalidParameter(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
        found.append(Ulimit(str(name), hard, soft))
    return found


def _seccomp_profile(path: str) -> str:
    if path in ("", "builtin", "unconfined"):
        return "" if path == "builtin" else path
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"opening seccomp profile ({path}) failed: {error}") from error
    from carrack.engine import seccomp_profile

    seccomp_profile.parse(text, ())
    return text


def _init_path(path: str) -> str:
    if path and not os.access(path, os.X_OK):
        raise InvalidParameter(f"init-path {path}: not there, or not executable")
    return path


def _proxies(fields: Mapping[str, object]) -> dict[str, str]:
    document = fields.get("proxies", {})
    assert isinstance(document, dict)
    names = ("http-proxy", "https-proxy", "no-proxy")
    if unknown := sorted(set(document) - set(names)):
        raise InvalidParameter(f"proxies: unknown {', '.join(map(str, unknown))}")
    return {name: str(value) for name in names if (value := fields.get(name) or document.get(name))}


def _cgroup_driver(options: object) -> str:
    found = ""
    assert isinstance(options, list)
    for option in options:
        key, _, found = str(option).partition("=")
        if key.strip().lower() != "native.cgroupdriver":
            raise InvalidParameter(f"exec-opts: there is no option {option}: want native.cgroupdriver=systemd or cgroupfs")
        if found not in ("systemd", "cgroupfs"):
            raise InvalidParameter(f"native.cgroupdriver option {found} not supported")
    return found


def _min_version(text: str) -> str:
    if not text:
        return MIN_VERSION
    if not at_least(text, MIN_VERSION):
        raise InvalidParameter(f"minimum supported API version is {MIN_VERSION}: {text}")
    if not at_least(MAX_VERSION, text):
        raise InvalidParameter(f"minimum API version {text} is newer than the newest that is served, {MAX_VERSION}")
    return text


def _address(text: str) -> str:
    if not text:
        return ""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or not host:
        raise InvalidParameter(f"invalid metrics address {text!r}: want address:port")
    return text


def _size(value: object) -> int:
    from carrack.volumes.drivers.sizes import parse_size

    return value if isinstance(value, int) else parse_size(value) if isinstance(value, str) and value else 0


def _one_of(fields: Mapping[str, object], name: str, known: Sequence[str], default: str) -> str:
    value = str(fields.get(name, "")) or default
    if value and value not in known:
        raise InvalidParameter(f"invalid {name} {value!r}: want {' or '.join(known)}")
    return value


def _at_least_one(fields: Mapping[str, object], name: str, default: int) -> int:
    value = int(str(fields.get(name, default)))
    if value < 1:
        raise InvalidParameter(f"invalid {name.replace('-', ' ')}: {value}")
    return value


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def _shown(value: object) -> str:
    import json

    return json.dumps(value)
