"""`carrack info`."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.failure import CommandFailure
from carrack.cli.render.units import binary_size, human_duration
from carrack.cli.system.version import client_version, render_format
from carrack.client.failure import ConnectionFailed
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.console import Output
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session


def _info(session: Session, parsed: Parsed) -> None:
    template = parsed.text("format")
    from carrack.cli.plugins import list_plugins

    client = {
        "Debug": session.debug,
        **client_version(session, negotiated=False),
        "Plugins": list_plugins(session),
        "Warnings": None,
    }
    server: dict[str, Any] | None = None
    failure: CarrackError | None = None
    try:
        server = session.engine.json("GET", "/info")
    except CarrackError as error:
        failure = error
    if template:
        if failure:
            session.err.line(str(failure))
        session.out.line(render_format(template, {**(server or {}), "ClientInfo": client}))
        if isinstance(failure, ConnectionFailed):
            raise CommandFailure("")
        return
    _print_client(session.out, client)
    session.out.line("\nServer:")
    if server is not None:
        _print_server(session, server)
    if failure:
        if isinstance(failure, ConnectionFailed):
            raise failure
        session.err.line(f"ERROR: {failure}")
        raise CommandFailure("errors pretty printing info")


def _print_client(out: Output, client: dict[str, Any]) -> None:
    out.line("Client:")
    out.line(f" Version:    {client['Version']}")
    out.line(f" Context:    {client['Context']}")
    out.line(f" Debug Mode: {_bool(client['Debug'])}")
    if client["Plugins"]:
        out.line(" Plugins:")
        for plugin in client["Plugins"]:
            out.line(f"  {plugin['Name']}: {plugin['ShortDescription']} ({plugin['Vendor']})")
            out.line(f"    Version:  {plugin['Version']}")
            out.line(f"    Path:     {plugin['Path']}")


def _bool(value: Any) -> str:
    return "true" if value else "false"


class _Lines:
    """`label: value` lines as Docker prints them; `some` leaves a line without a value out."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def put(self, label: str, value: Any) -> None:
        shown = _bool(value) if isinstance(value, bool) else value
        self._out.line(f"{label} {'' if shown is None else shown}")

    def some(self, label: str, value: Any) -> None:
        if value:
            self.put(label, value)

    def text(self, line: str) -> None:
        self._out.line(line)


def _print_server(session: Session, info: dict[str, Any]) -> None:
    lines = _Lines(session.out)
    lines.put(" Containers:", info.get("Containers", 0))
    for label, field in (("Running", "ContainersRunning"), ("Paused", "ContainersPaused"), ("Stopped", "ContainersStopped")):
        lines.put(f"  {label}:", info.get(field, 0))
    lines.put(" Images:", info.get("Images", 0))
    lines.some(" Server Version:", info.get("ServerVersion"))
    lines.some(" Storage Driver:", info.get("Driver"))
    for name, value in info.get("DriverStatus") or ():
        lines.text(f"  {name}: {value}")
    for name, value in info.get("SystemStatus") or ():
        lines.text(f" {name}: {value}")
    lines.some(" Logging Driver:", info.get("LoggingDriver"))
    lines.some(" Cgroup Driver:", info.get("CgroupDriver"))
    lines.some(" Cgroup Version:", info.get("CgroupVersion"))
    plugins = info.get("Plugins") or {}
    lines.text(" Plugins:")
    for kind in ("Volume", "Network", "Authorization", "Log"):
        if kind != "Authorization" or plugins.get(kind):
            lines.put(f"  {kind}:", " ".join(plugins.get(kind) or ()))
    if info.get("CDISpecDirs"):
        lines.text(" CDI spec directories:")
        for folder in info["CDISpecDirs"]:
            lines.text(f"  {folder}")
    if info.get("DiscoveredDevices"):
        lines.text(" Discovered Devices:")
        for device in info["DiscoveredDevices"]:
            lines.text(f"  {device.get('Source')}: {device.get('ID')}")
    swarm = info.get("Swarm") or {}
    lines.put(" Swarm:", swarm.get("LocalNodeState") or "")
    _print_swarm(lines, swarm)
    _print_runtime(lines, info)
    _print_host(lines, info)
    _print_settings(session, lines, info)


def _print_runtime(lines: _Lines, info: dict[str, Any]) -> None:
    if info.get("Runtimes"):
        lines.put(" Runtimes:", " ".join(info["Runtimes"]))
        lines.put(" Default Runtime:", info.get("DefaultRuntime"))
    if info.get("OSType") == "linux":
        lines.put(" Init Binary:", info.get("InitBinary"))
        for label, field in (("containerd", "ContainerdCommit"), ("runc", "RuncCommit"), ("init", "InitCommit")):
            lines.put(f" {label} version:", (info.get(field) or {}).get("ID") or "")
        if info.get("SecurityOptions"):
            lines.text(" Security Options:")
            for option in info["SecurityOptions"]:
                pairs = dict([pair.partition("=")[::2] for pair in option.split(",")])
                lines.text(f"  {pairs.get('name', option)}")
                if "profile" in pairs:
                    lines.put("   Profile:", pairs["profile"])
    if info.get("OSType") == "windows":
        lines.put(" Default Isolation:", info.get("Isolation"))


def _print_host(lines: _Lines, info: dict[str, Any]) -> None:
    for label, field in (
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
    ):
        lines.some(f" {label}:", info.get(field))
    lines.put(" CPUs:", info.get("NCPU", 0))
    lines.put(" Total Memory:", binary_size(info.get("MemTotal") or 0))
    lines.some(" Name:", info.get("Name"))
    lines.some(" ID:", info.get("ID"))
    lines.put(" Docker Root Dir:", info.get("DockerRootDir"))
    lines.put(" Debug Mode:", bool(info.get("Debug")))
    if info.get("Debug"):
        for label, field in (
            ("File Descriptors", "NFd"),
            ("Goroutines", "NGoroutines"),
            ("System Time", "SystemTime"),
            ("EventsListeners", "NEventsListener"),
        ):
            lines.put(f"  {label}:", info.get(field))


def _print_settings(session: Session, lines: _Lines, info: dict[str, Any]) -> None:
    for label, field in (("HTTP Proxy", "HttpProxy"), ("HTTPS Proxy", "HttpsProxy"), ("No Proxy", "NoProxy")):
        lines.some(f" {label}:", info.get(field))
    from carrack.cli.images.names import HUB_SERVER
    from carrack.cli.logins import find_login

    lines.some(" Username:", find_login(session.config, HUB_SERVER).get("username") if session.config.table("auths") else "")
    if info.get("Labels"):
        lines.text(" Labels:")
        for label in info["Labels"]:
            lines.text(f"  {label}")
    lines.put(" Experimental:", bool(info.get("ExperimentalBuild")))
    registries = info.get("RegistryConfig") or {}
    if registries.get("InsecureRegistryCIDRs") or registries.get("IndexConfigs"):
        lines.text(" Insecure Registries:")
        for name, config in (registries.get("IndexConfigs") or {}).items():
            if not config.get("Secure"):
                lines.text(f"  {config.get('Name') or name}")
        for block in registries.get("InsecureRegistryCIDRs") or ():
            lines.text(f"  {block}")
    if registries.get("Mirrors"):
        lines.text(" Registry Mirrors:")
        for mirror in registries["Mirrors"]:
            lines.text(f"  {mirror}")
    lines.put(" Live Restore Enabled:", bool(info.get("LiveRestoreEnabled")))
    lines.some(" Product License:", info.get("ProductLicense"))
    if info.get("DefaultAddressPools"):
        lines.text(" Default Address Pools:")
        for pool in info["DefaultAddressPools"]:
            lines.text(f"   Base: {pool['Base']}, Size: {pool['Size']}")
    lines.text("")
    for warning in info.get("Warnings") or ():
        session.err.line(warning)


def _print_swarm(lines: _Lines, swarm: dict[str, Any]) -> None:
    state = swarm.get("LocalNodeState") or ""
    if state in ("", "inactive", "locked"):
        return
    lines.put("  NodeID:", swarm.get("NodeID"))
    lines.some("  Error:", swarm.get("Error"))
    lines.put("  Is Manager:", bool(swarm.get("ControlAvailable")))
    cluster = swarm.get("Cluster")
    if cluster and swarm.get("ControlAvailable") and not swarm.get("Error") and state != "error":
        _print_cluster(lines, swarm, cluster)
    lines.put("  Node Address:", swarm.get("NodeAddr"))
    if swarm.get("RemoteManagers"):
        lines.text("  Manager Addresses:")
        for address in sorted([manager["Addr"] for manager in swarm["RemoteManagers"]]):
            lines.text(f"   {address}")


def _print_cluster(lines: _Lines, swarm: dict[str, Any], cluster: dict[str, Any]) -> None:
    spec = cluster.get("Spec") or {}
    raft, authority = spec.get("Raft") or {}, spec.get("CAConfig") or {}
    lines.put("  ClusterID:", cluster.get("ID"))
    lines.put("  Managers:", swarm.get("Managers", 0))
    lines.put("  Nodes:", swarm.get("Nodes", 0))
    if cluster.get("DefaultAddrPool") is not None:
        lines.put("  Default Address Pool:", "".join([f"{pool}  " for pool in cluster["DefaultAddrPool"]]))
        lines.put("  SubnetSize:", cluster.get("SubnetSize", 0))
    if cluster.get("DataPathPort"):
        lines.put("  Data Path Port:", cluster["DataPathPort"])
    lines.text("  Orchestration:")
    lines.put("   Task History Retention Limit:", (spec.get("Orchestration") or {}).get("TaskHistoryRetentionLimit") or 0)
    lines.text("  Raft:")
    lines.put("   Snapshot Interval:", raft.get("SnapshotInterval") or 0)
    if raft.get("KeepOldSnapshots") is not None:
        lines.put("   Number of Old Snapshots to Retain:", raft["KeepOldSnapshots"])
    lines.put("   Heartbeat Tick:", raft.get("HeartbeatTick") or 0)
    lines.put("   Election Tick:", raft.get("ElectionTick") or 0)
    lines.text("  Dispatcher:")
    lines.put("   Heartbeat Period:", human_duration(((spec.get("Dispatcher") or {}).get("HeartbeatPeriod") or 0) / 10**9))
    lines.text("  CA Configuration:")
    lines.put("   Expiry Duration:", human_duration((authority.get("NodeCertExpiry") or 0) / 10**9))
    lines.put("   Force Rotate:", authority.get("ForceRotate") or 0)
    lines.put("  Autolock Managers:", bool((spec.get("EncryptionConfig") or {}).get("AutoLockManagers")))
    lines.put("  Root Rotation In Progress:", bool(cluster.get("RootRotationInProgress")))


COMMANDS = (
    Command(
        "system info",
        "[OPTIONS]",
        "Print what the daemon says of itself and its host",
        _info,
        at_most=0,
        aliases="system info, info",
        flags="-f, --format string Print with a template: 'json' or 'TEMPLATE'",
    ),
)
