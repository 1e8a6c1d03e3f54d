"""carrackd's configuration: dockerd's flags and dockerd's daemon.json, one table for both.

A directive may be given as a flag or in the file, not as both (lists of hosts excepted, as with dockerd: also refused); an unknown
one is refused by name. What Docker has and Carrack cannot do yet is refused too, never ignored.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from pathlib import Path

from carrack.daemon import directives
from carrack.daemon.directives import Further, Option
from carrack.engine import log_options
from carrack.engine.config import LogConfig
from carrack.engine.oci_runtimes import Program
from carrack.errors import InvalidParameter

DEFAULT_FILE = "/etc/carrack/daemon.json"
TLS_FOLDER = "/etc/carrack/tls"
"""Where `carrack system certs` writes and carrackd looks."""
_INSTANCE = re.compile(r"[a-z0-9][a-z0-9-]{0,23}")
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")


_OPTIONS = (
    Option("add-runtime", "runtimes", "Another OCI runtime (name=path)", key="runtimes"),
    Option("allow-direct-routing", "flag", "Let outsiders reach published ports by the container's own address"),
    Option("beside-docker", "flag", "Let a running dockerd's firewall rules pass our networks' packets (default true)"),
    Option("bip", "text", "IPv4 address and prefix of the default bridge"),
    Option("bip6", "text", "IPv6 address and prefix of the default bridge"),
    Option("bridge", "text", "Attach containers to this bridge, which is there already", "b"),
    Option("bridge-accept-fwmark", "text", "Packets with this firewall mark (MARK or MARK/MASK) pass the rules of bridge networks"),
    Option("cgroup-parent", "text", "Parent cgroup of all containers"),
    Option("cdi-spec-dir", "list", "Directories that describe devices (default /etc/cdi, /var/run/cdi)", key="cdi-spec-dirs"),
    Option("config-file", "text", f"Daemon configuration file (default {DEFAULT_FILE})"),
    Option("cpu-rt-period", "number", "Period, in microseconds, of the real-time share of all containers (cgroup v1)"),
    Option("cpu-rt-runtime", "number", "Real-time, in microseconds a period, that all containers may have together (cgroup v1)"),
    Option("data-root", "text", "Root directory of persistent state (default /var/lib/carrack)"),
    Option("debug", "flag", "Enable debug mode", "D"),
    Option(
        "default-network-opt",
        "options",
        "Default options of a driver's new networks (DRIVER=KEY=VALUE)",
        key="default-network-opts",
    ),
    Option("default-gateway", "text", "IPv4 address that the default route of the default bridge's containers leads to"),
    Option("default-gateway-v6", "text", "The same, IPv6"),
    Option("default-address-pool", "pools", "Pools that networks are cut from (base=CIDR,size=N)", key="default-address-pools"),
    Option("default-runtime", "text", "OCI runtime of containers that name none (default carrack)"),
    Option("dns", "list", "DNS servers of containers"),
    Option("docker-socket", "text", "Listen on /run/docker.sock too: auto (when no other engine owns it), yes or no (default no)"),
    Option("dns-opt", "list", "DNS options of containers", key="dns-opts"),
    Option("dns-search", "list", "DNS search domains of containers"),
    Option("exec-root", "text", "Root directory of execution state (default /run/carrack)"),
    Option("fixed-cidr", "text", "IPv4 subnet for the addresses of the default bridge's containers"),
    Option("fixed-cidr-v6", "text", "IPv6 subnet of the default bridge"),
    Option("group", "text", "Group that owns the unix socket (default carrack)", "G"),
    Option("host", "list", "Sockets to listen on", "H", key="hosts"),
    Option("icc", "flag", "Let containers of the default bridge talk to each other (default true)"),
    Option("insecure-tcp", "flag", "Allow TCP without TLS beyond loopback (anyone who reaches it is root here)"),
    Option("insecure-registry", "list", "Registries (hosts or networks) that may do without TLS", key="insecure-registries"),
    Option("instance", "text", "Name that every kernel object of this daemon carries (default carrack)"),
    Option("ip", "text", "Host address of published ports that name none (default 0.0.0.0)"),
    Option("ip-forward", "flag", "Turn IP forwarding on when it is off (default true)"),
    Option("ip-masq", "flag", "Masquerade what leaves the default bridge (default true)"),
    Option("ipv6", "flag", "Give the default bridge IPv6"),
    Option("label", "list", "key=value labels of this daemon", key="labels"),
    Option("live-restore", "flag", "Containers outlive the daemon: always true"),
    Option("log-driver", "text", "Default driver of container logs (default local)"),
    Option("log-level", "text", "debug, info, warn, error or fatal (default info)", "l"),
    Option("log-opt", "map", "Default options of container logs", key="log-opts"),
    Option("mtu", "number", "MTU of the default bridge's containers"),
    Option("pidfile", "text", "Where the daemon's pid is written (default EXEC-ROOT/carrackd.pid)", "p"),
    Option("registries", "document", "Mirrors, certificates and names of single registries (in the configuration file only)"),
    Option("registry-mirror", "list", "URLs to ask before Docker Hub when pulling", key="registry-mirrors"),
    Option("restart-on-unhealthy", "number", "Restarts in a row of a container whose health check fails (default 0: none)"),
    Option("shutdown-timeout", "number", "Seconds that open answers get at the end (default 15)"),
    Option("storage-driver", "text", "overlay2, or native (plain copies; alias vfs)", "s"),
    Option("tls", "flag", "Encrypt TCP (implied by --tlsverify); --tls=false allows plain TCP on loopback"),
    Option("tlscacert", "text", f"CA of the clients that may come in (default {TLS_FOLDER}/ca.pem)"),
    Option("tlscert", "text", f"Certificate of the daemon (default {TLS_FOLDER}/server-cert.pem)"),
    Option("tlskey", "text", f"Key of that certificate (default {TLS_FOLDER}/server-key.pem)"),
    Option("tlsverify", "flag", "Encrypt TCP and let in only clients whose certificate the CA has signed"),
    Option("userns-remap", "text", "User (user[:group], or default) whose subordinate numbers containers' users have"),
    Option(
        "userland-proxy", "flag", "Relay [::1], and IPv6 addresses of the host, to containers that have IPv4 only (default true)"
    ),
    Option("validate", "flag", "Check the configuration and leave"),
)
OPTIONS = tuple(sorted((*_OPTIONS, *directives.OPTIONS), key=lambda option: option.flag))
"""Every directive that has an effect."""
_BY_FLAG = {option.flag: option for option in (*directives.FIXED_OPTIONS, *OPTIONS)}
_BY_SHORT = {option.short: option for option in OPTIONS if option.short}
_BY_NAME = {option.name: option for option in _BY_FLAG.values() if option.flag not in ("config-file", "validate")}
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


@dataclass(slots=True)
class DaemonConfig:
    """Everything a daemon is told, defaults filled in. Paths are absolute."""

    instance: str = "carrack"
    hosts: list[str] = field(default_factory=list)
    data_root: Path = Path("/var/lib/carrack")
    exec_root: Path = Path("/run/carrack")
    pidfile: Path = Path()
    group: str = ""
    debug: bool = False
    log_level: str = "info"
    bridge: str = ""
    bip: IPv4Interface | None = None
    bip6: IPv6Interface | None = None
    default_gateway: IPv4Address | None = None
    default_gateway_v6: IPv6Address | None = None
    fixed_cidr: IPv4Network | None = None
    fixed_cidr_v6: IPv6Network | None = None
    ipv6: bool = False
    allow_direct_routing: bool = False
    accept_mark: tuple[int, int] | None = None
    """Of `bridge-accept-fwmark`: mark and mask."""
    beside_docker: bool = True
    default_network_opts: dict[str, dict[str, str]] = field(default_factory=dict)
    """By driver."""
    default_address_pools: list[tuple[str, int]] = field(default_factory=list)
    mtu: int = 0
    icc: bool = True
    ip: str = "0.0.0.0"
    ip_forward: bool = True
    ip_masq: bool = True
    dns: list[str] = field(default_factory=list)
    dns_opts: list[str] = field(default_factory=list)
    dns_search: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    registry_mirrors: list[str] = field(default_factory=list)
    insecure_registries: list[str] = field(default_factory=list)
    registries: dict[str, object] = field(default_factory=dict)
    """As distribution/hosts.py reads it."""
    log_driver: str = "local"
    log_opts: dict[str, str] = field(default_factory=dict)
    cgroup_parent: str = ""
    runtimes: dict[str, Program] = field(default_factory=dict)
    default_runtime: str = ""
    userns_remap: str = ""
    restart_on_unhealthy: int = 0
    cdi_spec_dirs: list[str] = field(default_factory=list)
    cpu_rt_period: int = 0
    cpu_rt_runtime: int = 0
    shutdown_timeout: int = 15
    storage_driver: str = "overlay2"
    tls: bool | None = None
    tls_verify: bool = False
    tls_ca: str = f"{TLS_FOLDER}/ca.pem"
    tls_certificate: str = f"{TLS_FOLDER}/server-cert.pem"
    tls_key: str = f"{TLS_FOLDER}/server-key.pem"
    docker_socket: str = "no"
    insecure_tcp: bool = False
    userland_proxy: bool = True
    validate: bool = False
    further: Further = field(default_factory=Further)
    given: dict[str, object] = field(default_factory=dict)
    """The directives as they were given, by name: what a reload compares."""


def parse_flags(arguments: list[str]) -> dict[str, object]:
    """Flags as pflag reads them, by directive name. Raises InvalidParameter in its words."""
    values: dict[str, object] = {}
    pending = list(arguments)
    while pending:
        word = pending.pop(0)
        if word == "--" or not word.startswith("-") or word == "-":
            raise InvalidParameter('"carrackd" accepts no arguments')
        text: str | None = None
        if word.startswith("--"):
            name, equals, rest = word[2:].partition("=")
            option = _BY_FLAG.get(name)
            text = rest if equals else None
            if option is None or option.kind == "document":
                raise InvalidParameter(f"unknown flag: --{name}")
        else:
            option = _BY_SHORT.get(word[1])
            if option is None:
                raise InvalidParameter(f"unknown shorthand flag: '{word[1]}' in {word}")
            if option.kind == "flag" and len(word) > 2 and word[2] != "=":
                pending.insert(0, f"-{word[2:]}")
            elif len(word) > 2:
                text = word[2:].removeprefix("=")
        if option.kind == "flag":
            text = "true" if text is None else text
        elif text is None:
            if not pending:
                raise InvalidParameter(f"flag needs an argument: --{option.flag}")
            text = pending.pop(0)
        _collect(values, option, text)
    return values


def load(arguments: list[str], *, default_file: str = DEFAULT_FILE) -> DaemonConfig:
    """The configuration of flags and file together. Raises InvalidParameter."""
    flags = parse_flags(arguments)
    path = str(flags.get("config-file", default_file))
    values = _read_file(path, required="config-file" in flags)
    doubled = sorted(name for name in values if name in flags)
    if doubled:
        told = ", ".join(f"{name}: (from flag: {_show(flags[name])}, from file: {_show(values[name])})" for name in doubled)
        raise InvalidParameter(f"the following directives are specified both as a flag and in the configuration file: {told}")
    if "proxies" in values and {"http-proxy", "https-proxy", "no-proxy"} & set(flags):
        raise InvalidParameter("the proxies are specified both as flags and in the configuration file")
    config = _build(values | flags)
    config.given = values | flags
    return config


def _collect(values: dict[str, object], option: Option, text: str) -> None:
    name = option.name
    if option.kind == "flag":
        if text not in _TRUE and text not in _FALSE:
            raise InvalidParameter(f'invalid argument "{text}" for "--{option.flag}" flag: strconv.ParseBool: invalid syntax')
        values[name] = text in _TRUE
    elif option.kind == "number":
        if not text.isdecimal():
            raise InvalidParameter(f'invalid argument "{text}" for "--{option.flag}" flag: strconv.ParseInt: invalid syntax')
        values[name] = int(text)
    elif option.kind == "text":
        values[name] = text
    elif option.kind == "options":
        driver, equals, setting = text.partition("=")
        key, also, value = setting.partition("=")
        if not (equals and also and driver and key):
            raise InvalidParameter(f'invalid argument "{text}" for "--{option.flag}" flag: must be driver=key=value')
        held = values.setdefault(name, {})
        assert isinstance(held, dict)
        held.setdefault(driver, {})[key] = value
    elif option.kind == "ulimits":
        key, limit = directives.parse_ulimit(text)
        held = values.setdefault(name, {})
        assert isinstance(held, dict)
        held[key] = limit
    elif option.kind in ("map", "runtimes"):
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InvalidParameter(f'invalid argument "{text}" for "--{option.flag}" flag: must be key=value')
        held = values.setdefault(name, {})
        assert isinstance(held, dict)
        held[key] = {"path": value} if option.kind == "runtimes" else value
    else:
        held = values.setdefault(name, [])
        assert isinstance(held, list)
        held.append(_pool(text) if option.kind == "pools" else text)


def _pool(text: str) -> dict[str, object]:
    words = dict(part.partition("=")[::2] for part in text.split(","))
    if set(words) != {"base", "size"} or not words["size"].isdecimal():
        raise InvalidParameter(f"invalid default address pool {text!r}: want base=CIDR,size=N")
    return {"base": words["base"], "size": int(words["size"])}


def _read_file(path: str, *, required: bool) -> dict[str, object]:
    try:
        content = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        if required:
            raise InvalidParameter(f"unable to configure the daemon with file {path}: no such file or directory") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidParameter(f"unable to configure the daemon with file {path}: {error}") from error
    try:
        document = json.loads(content or "{}")
    except ValueError as error:
        raise InvalidParameter(f"unable to configure the daemon with file {path}: invalid JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidParameter(f"unable to configure the daemon with file {path}: want a JSON object")
    unknown = sorted(name for name in document if name not in _BY_NAME)
    if unknown:
        raise InvalidParameter(
            f"unable to configure the daemon with file {path}: the following directives don't match any configuration option: "
            + ", ".join(unknown)
        )
    kinds: dict[str, type] = {"text": str, "flag": bool, "number": int, "list": list, "map": dict, "pools": list}
    kinds |= {"document": dict, "runtimes": dict, "ulimits": dict, "options": dict}
    for name, value in document.items():
        want = kinds[_BY_NAME[name].kind]
        if not isinstance(value, want) or (want is int and isinstance(value, bool)):
            raise InvalidParameter(f"unable to configure the daemon with file {path}: {name}: wrong type of value")
    return document


def _build(values: dict[str, object]) -> DaemonConfig:
    config = DaemonConfig()
    fields = {name.replace("-", "_"): value for name, value in values.items()}
    for text in (
        "instance",
        "group",
        "log_level",
        "bridge",
        "ip",
        "log_driver",
        "cgroup_parent",
        "storage_driver",
        "default_runtime",
        "userns_remap",
        "docker_socket",
    ):
        if text in fields:
            setattr(config, text, str(fields[text]))
    for key, name in (("tlscacert", "tls_ca"), ("tlscert", "tls_certificate"), ("tlskey", "tls_key")):
        if key in fields:
            setattr(config, name, str(_path(fields[key], key)))
    for switch in (
        "debug", "icc", "ip_forward", "ip_masq", "ipv6", "tls", "insecure_tcp", "userland_proxy", "allow_direct_routing",
        "beside_docker", "validate",
    ):  # fmt: skip
        if switch in fields:
            setattr(config, switch, bool(fields[switch]))
    for several in ("hosts", "dns", "dns_opts", "dns_search", "labels", "registry_mirrors", "insecure_registries", "cdi_spec_dirs"):
        if several in fields:
            setattr(config, several, [str(value) for value in _list(fields[several])])
    for number in ("mtu", "shutdown_timeout", "cpu_rt_period", "cpu_rt_runtime", "restart_on_unhealthy"):
        if number in fields:
            setattr(config, number, int(str(fields[number])))
    if fields.get("tlsverify"):
        config.tls = config.tls_verify = True
    if _INSTANCE.fullmatch(config.instance) is None:
        raise InvalidParameter(f"invalid instance name {config.instance!r}: want up to 24 of a-z, 0-9 and -")
    suffix = "" if config.instance == "carrack" else f"-{config.instance}"
    config.data_root = _path(fields.get("data_root", f"/var/lib/carrack{suffix}"), "data-root")
    config.exec_root = _path(fields.get("exec_root", f"/run/carrack{suffix}"), "exec-root")
    config.pidfile = _path(fields.get("pidfile", config.exec_root / "carrackd.pid"), "pidfile")
    config.hosts = config.hosts or [f"unix://{config.exec_root}/carrack.sock"]
    config.cgroup_parent = config.cgroup_parent or f"/carrack{suffix}"
    log_opts = fields.get("log_opts", {})
    assert isinstance(log_opts, dict)
    config.log_opts = {str(key): str(value) for key, value in log_opts.items()}
    registries = fields.get("registries", {})
    assert isinstance(registries, dict)
    config.registries = registries
    config.default_address_pools = [_checked_pool(pool) for pool in _list(fields.get("default_address_pools", []))]
    config.runtimes = {str(name): _program(str(name), value) for name, value in _table(fields.get("runtimes", {})).items()}
    _check(config, fields)
    config.further = directives.read(values)
    return config


def _program(name: str, value: object) -> Program:
    """One of `runtimes`: ``{"path": …, "runtimeArgs": […]}``."""
    table = _table(value)
    words = table.get("runtimeArgs") or []
    if set(table) - {"path", "runtimeArgs"} or not isinstance(table.get("path"), str) or not isinstance(words, list):
        raise InvalidParameter(
            f"invalid runtime {name}: want path and runtimeArgs, no runtimeType: a shim of containerd's is not run"
        )
    return Program(str(table["path"]), tuple(str(word) for word in words))


def _table(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise InvalidParameter(f"invalid configuration: {value!r} is no table")
    return value


def _check(config: DaemonConfig, fields: dict[str, object]) -> None:
    if config.log_level not in LOG_LEVELS:
        raise InvalidParameter(f"invalid logging level: {config.log_level}")
    if config.storage_driver not in ("overlay2", "overlay", "native", "vfs"):
        raise InvalidParameter(f"driver not supported: {config.storage_driver}")
    if config.registry_mirrors or config.registries:
        from carrack.distribution import hosts

        hosts.parse(config.registries)
        for mirror in config.registry_mirrors:
            hosts.check_mirror(mirror)
    if fields.get("live_restore") is False:
        raise InvalidParameter("live-restore cannot be turned off: Carrack's containers always outlive the daemon")
    if config.docker_socket not in ("auto", "yes", "no"):
        raise InvalidParameter(f"invalid docker-socket {config.docker_socket!r}: want auto, yes or no")
    if ".." in config.cgroup_parent.split("/"):
        raise InvalidParameter(f"invalid cgroup parent: {config.cgroup_parent!r}")
    log_options.check(LogConfig(config.log_driver, config.log_opts))
    for label in config.labels:
        if "=" not in label:
            raise InvalidParameter(f"bad attribute format: {label}")
    _set_addresses(config, fields)
    if config.bip is not None and config.bridge:
        raise InvalidParameter("You specified -b & --bip, mutually exclusive options. Please specify only one")
    if config.mtu and not 68 <= config.mtu <= 65535:
        raise InvalidParameter(f"invalid MTU: {config.mtu}")
    config.accept_mark = _mark(str(fields.get("bridge_accept_fwmark", "")))
    for driver, options in _table(fields.get("default_network_opts", {})).items():
        config.default_network_opts[driver] = {key: str(value) for key, value in _table(options).items()}


def _set_addresses(config: DaemonConfig, fields: dict[str, object]) -> None:
    """The addresses and subnets of the default bridge. Raises InvalidParameter."""
    try:
        if bip := fields.get("bip"):
            interface = ip_interface(str(bip))
            if not isinstance(interface, IPv4Interface) or interface.network.prefixlen == 32:
                raise ValueError(f"{bip} is no IPv4 address with a prefix")
            config.bip = interface
        if bip6 := fields.get("bip6"):
            interface = ip_interface(str(bip6))
            if not isinstance(interface, IPv6Interface) or interface.network.prefixlen == 128:
                raise ValueError(f"{bip6} is no IPv6 address with a prefix")
            config.bip6 = interface
        if cidr := fields.get("fixed_cidr"):
            network = ip_network(str(cidr), strict=False)
            if not isinstance(network, IPv4Network):
                raise ValueError(f"{cidr} is no IPv4 network")
            config.fixed_cidr = network
        if cidr := fields.get("fixed_cidr_v6"):
            network = ip_network(str(cidr), strict=False)
            if not isinstance(network, IPv6Network):
                raise ValueError(f"{cidr} is no IPv6 network")
            config.fixed_cidr_v6 = network
        if gateway := fields.get("default_gateway"):
            config.default_gateway = IPv4Address(str(gateway))
        if gateway := fields.get("default_gateway_v6"):
            config.default_gateway_v6 = IPv6Address(str(gateway))
        for server in (*config.dns, config.ip):
            ip_address(server)
    except ValueError as error:
        raise InvalidParameter(f"invalid address: {error}") from error


def _mark(text: str) -> tuple[int, int] | None:
    """``MARK`` or ``MARK/MASK``, decimal or 0x…, of 32 bits each. Raises InvalidParameter."""
    if not text:
        return None
    mark, slash, mask = text.partition("/")
    try:
        numbers = int(mark, 0), int(mask, 0) if slash else 0xFFFFFFFF
    except ValueError:
        numbers = -1, 0
    if not all(0 <= number <= 0xFFFFFFFF for number in numbers):
        raise InvalidParameter(f"invalid firewall mark {text!r}: want MARK or MARK/MASK")
    return numbers


def _checked_pool(pool: object) -> tuple[str, int]:
    if not isinstance(pool, dict) or set(pool) != {"base", "size"}:
        raise InvalidParameter(f"invalid default address pool {pool!r}: want base and size")
    try:
        network = ip_network(str(pool["base"]))
        size = int(pool["size"])
    except ValueError as error:
        raise InvalidParameter(f"invalid default address pool: {error}") from error
    if not network.prefixlen <= size <= network.max_prefixlen - 2:
        raise InvalidParameter(f"invalid default address pool: size {size} does not fit {network}")
    return str(network), size


def _path(value: object, name: str) -> Path:
    path = Path(str(value))
    if not path.is_absolute():
        path = Path.cwd() / path
    if "\0" in str(path):
        raise InvalidParameter(f"invalid {name}")
    return path


def _list(value: object) -> list[object]:
    assert isinstance(value, list)
    return value


def _show(value: object) -> str:
    return json.dumps(value) if not isinstance(value, str) else value
