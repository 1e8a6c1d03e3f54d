"""From the flags of `run` and `create` to the body of POST /containers/create: the same document Docker's command sends.

Every default is written out, as Go's structs do, because the daemon tells an absent field from an empty one. Pure: the only
things read are the files that flags name and the environment.
"""

from __future__ import annotations

import os

from carrack.cli.containers.devices import read_devices, read_security_options
from carrack.cli.containers.endpoints import build_endpoints, check_mac
from carrack.cli.containers.ports import read_ports
from carrack.cli.files import read_key_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed


class Spec:
    """The three parts of the body."""

    __slots__ = ("config", "host_config", "networks")

    def __init__(self, config: dict[str, Any], host_config: dict[str, Any], networks: dict[str, dict[str, Any]]) -> None:
        self.config = config
        self.host_config = host_config
        self.networks = networks

    def document(self) -> dict[str, Any]:
        """The body of the request."""
        return {**self.config, "HostConfig": self.host_config, "NetworkingConfig": {"EndpointsConfig": self.networks}}


def build_spec(parsed: Parsed, *, server_os: str = "linux", proxies: dict[str, str] | None = None) -> Spec:
    """The body for a parsed command line. Raises ValueError with Docker's text."""
    host_config = _host_config(parsed, server_os)
    config = _config(parsed, proxies or {}, host_config)
    networks = build_endpoints(parsed)
    main = networks.get(host_config["NetworkMode"])
    if main is not None and main["MacAddress"]:
        config["MacAddress"] = main["MacAddress"]
    return Spec(config, host_config, networks)


def _config(parsed: Parsed, proxies: dict[str, str], host_config: dict[str, Any]) -> dict[str, Any]:
    attached = parsed.items("attach")
    opened = parsed.flag("interactive")
    attach_stdin = "stdin" in attached or opened
    volumes, binds = _volumes(parsed.items("volume"))
    host_config["Binds"] = binds or None
    ports, bindings = read_ports(parsed.items("publish"), parsed.items("expose"))
    host_config["PortBindings"] = bindings
    config: dict[str, Any] = {
        "Hostname": parsed.text("hostname"),
        "Domainname": parsed.text("domainname"),
        "User": parsed.text("user"),
        "AttachStdin": attach_stdin,
        "AttachStdout": not attached or "stdout" in attached,
        "AttachStderr": not attached or "stderr" in attached,
        "Tty": parsed.flag("tty"),
        "OpenStdin": opened,
        "StdinOnce": opened and attach_stdin,
        "Env": _environment(parsed, proxies) or None,
        "Cmd": parsed.arguments[1:] or None,
        "Image": parsed.arguments[0],
        "Volumes": volumes,
        "WorkingDir": parsed.text("workdir"),
        "Entrypoint": [parsed.text("entrypoint")] if parsed.changed("entrypoint") else None,
        "OnBuild": None,
        "Labels": _labels(parsed),
    }
    if ports:
        config["ExposedPorts"] = ports
    if parsed.text("mac-address"):
        config["MacAddress"] = check_mac(parsed.text("mac-address"))
    if parsed.text("stop-signal"):
        config["StopSignal"] = parsed.text("stop-signal")
    if parsed.changed("stop-timeout"):
        config["StopTimeout"] = parsed.number("stop-timeout")
    health = _healthcheck(parsed)
    if health is not None:
        config["Healthcheck"] = health
    return config


def _volumes(texts: list[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    volumes: dict[str, dict[str, Any]] = {}
    binds: list[str] = []
    for text in dict.fromkeys(texts):
        source = volume_source(text)
        if not source:
            volumes[text] = {}
        elif source.startswith("."):
            binds.append(os.path.abspath(source) + text[len(source) :])
        else:
            binds.append(text)
    return volumes, binds


def volume_source(text: str) -> str:
    """What a --volume mounts: a path, a volume's name, or nothing for an anonymous volume. Raises ValueError."""
    if not text:
        raise ValueError("invalid empty volume spec")
    if len(text) <= 2:
        return ""
    parts: list[str] = []
    for part in text.split(":"):
        if parts and len(parts[-1]) == 1 and parts[-1].isalpha():
            parts[-1] += f":{part}"  # a Windows drive letter
        else:
            parts.append(part)
    for index, part in enumerate(parts):
        if not part:
            raise ValueError(f"invalid spec: {text}: empty section between colons")
        if index > 2:
            raise ValueError(f"invalid spec: {text}: too many colons")
    return parts[0] if len(parts) > 1 else ""


def _environment(parsed: Parsed, proxies: dict[str, str]) -> list[str]:
    """The variables: those of files first, then those of flags and of the configured proxies, the last of a name winning."""
    variables: list[str] = []
    for path in parsed.items("env-file"):
        variables.extend(read_key_values(path, os.environ.get))
    given: dict[str, str] = {}
    for text in parsed.items("env"):
        given[text.partition("=")[0]] = text
    for name, value in proxies.items():
        given.setdefault(name, f"{name}={value}")
    return variables + list(given.values())


def _labels(parsed: Parsed) -> dict[str, str]:
    lines: list[str] = []
    for path in parsed.items("label-file"):
        lines.extend(read_key_values(path, None))
    return {key: value for key, _, value in [text.partition("=") for text in lines + parsed.items("label")]}


def _healthcheck(parsed: Parsed) -> dict[str, Any] | None:
    command = parsed.text("health-cmd")
    numbers = {
        "Interval": "health-interval",
        "Timeout": "health-timeout",
        "StartPeriod": "health-start-period",
        "StartInterval": "health-start-interval",
        "Retries": "health-retries",
    }
    values = {field: parsed.number(flag) for field, flag in numbers.items()}
    wanted = bool(command) or any(values.values())
    if parsed.flag("no-healthcheck"):
        if wanted:
            raise ValueError("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not wanted:
        return None
    for field in ("Interval", "Timeout", "Retries", "StartPeriod", "StartInterval"):
        if values[field] < 0:
            raise ValueError(f"--{numbers[field]} cannot be negative")
    health: dict[str, Any] = {"Test": ["CMD-SHELL", command]} if command else {}
    health.update({field: value for field, value in values.items() if value})
    return health


def _host_config(parsed: Parsed, server_os: str) -> dict[str, Any]:
    restart = read_restart_policy(parsed.text("restart"))
    if parsed.flag("rm") and restart["Name"] not in ("", "no"):
        raise ValueError("conflicting options: cannot specify both --restart and --rm")
    security, unconfined_paths = read_security_options(parsed.items("security-opt"))
    networks = parsed.value("network")
    host_config: dict[str, Any] = {
        "Binds": None,
        "ContainerIDFile": parsed.text("cidfile"),
        "LogConfig": {"Type": parsed.text("log-driver"), "Config": _log_options(parsed)},
        "NetworkMode": networks[0].target if networks else "default",
        "PortBindings": {},
        "RestartPolicy": restart,
        "AutoRemove": parsed.flag("rm"),
        "VolumeDriver": parsed.text("volume-driver"),
        "VolumesFrom": parsed.items("volumes-from") or None,
        "ConsoleSize": [0, 0],
        "CapAdd": normal_capabilities(parsed.items("cap-add")),
        "CapDrop": normal_capabilities(parsed.items("cap-drop")),
        "CgroupnsMode": _mode(parsed, "cgroupns", "CGROUP", ("", "private", "host")),
        "Dns": parsed.items("dns"),
        "DnsOptions": parsed.items("dns-option"),
        "DnsSearch": parsed.items("dns-search"),
        "ExtraHosts": parsed.items("add-host") or None,
        "GroupAdd": parsed.items("group-add") or None,
        "IpcMode": parsed.text("ipc"),
        "Cgroup": "",
        "Links": parsed.items("link") or None,
        "OomScoreAdj": parsed.number("oom-score-adj"),
        "PidMode": _pid_mode(parsed),
        "Privileged": parsed.flag("privileged"),
        "PublishAllPorts": parsed.flag("publish-all"),
        "ReadonlyRootfs": parsed.flag("read-only"),
        "SecurityOpt": security or None,
        "UTSMode": _mode(parsed, "uts", "UTS", ("", "host")),
        "UsernsMode": _mode(parsed, "userns", "USER", ("", "host")),
        "ShmSize": parsed.number("shm-size"),
        "Isolation": parsed.text("isolation"),
        "MaskedPaths": [] if unconfined_paths else None,
        "ReadonlyPaths": [] if unconfined_paths else None,
        **_resources(parsed, server_os),
    }
    optional: dict[str, Any] = {
        "Annotations": parsed.pairs("annotation"),
        "Tmpfs": {path: options for path, _, options in [text.partition(":") for text in parsed.items("tmpfs")]},
        "StorageOpt": _storage_options(parsed.items("storage-opt")),
        "Sysctls": parsed.pairs("sysctl"),
        "Runtime": parsed.text("runtime"),
        "Mounts": list(parsed.value("mount")),
    }
    host_config.update({name: value for name, value in optional.items() if value})
    if parsed.changed("init"):
        host_config["Init"] = parsed.flag("init")
    return host_config


def _resources(parsed: Parsed, server_os: str) -> dict[str, Any]:
    swappiness = parsed.number("memory-swappiness")
    if swappiness != -1 and not 0 <= swappiness <= 100:
        raise ValueError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")
    devices, cdi = read_devices(parsed.items("device"), server_os)
    requests: list[dict[str, Any]] = list(parsed.value("gpus"))
    if cdi:
        requests.append({"Driver": "cdi", "Count": 0, "DeviceIDs": cdi, "Capabilities": None, "Options": None})
    resources: dict[str, Any] = {
        "CpuShares": parsed.number("cpu-shares"),
        "Memory": parsed.number("memory"),
        "NanoCpus": parsed.number("cpus"),
        "CgroupParent": parsed.text("cgroup-parent"),
        "BlkioWeight": parsed.number("blkio-weight"),
        "BlkioWeightDevice": list(parsed.value("blkio-weight-device")),
        "BlkioDeviceReadBps": list(parsed.value("device-read-bps")),
        "BlkioDeviceWriteBps": list(parsed.value("device-write-bps")),
        "BlkioDeviceReadIOps": list(parsed.value("device-read-iops")),
        "BlkioDeviceWriteIOps": list(parsed.value("device-write-iops")),
        "CpuPeriod": parsed.number("cpu-period"),
        "CpuQuota": parsed.number("cpu-quota"),
        "CpuRealtimePeriod": parsed.number("cpu-rt-period"),
        "CpuRealtimeRuntime": parsed.number("cpu-rt-runtime"),
        "CpusetCpus": parsed.text("cpuset-cpus"),
        "CpusetMems": parsed.text("cpuset-mems"),
        "Devices": devices,
        "DeviceCgroupRules": parsed.items("device-cgroup-rule") or None,
        "DeviceRequests": requests or None,
        "MemoryReservation": parsed.number("memory-reservation"),
        "MemorySwap": parsed.number("memory-swap"),
        "MemorySwappiness": swappiness,
        "OomKillDisable": parsed.flag("oom-kill-disable"),
        "PidsLimit": parsed.number("pids-limit"),
        "Ulimits": list({limit["Name"]: limit for limit in parsed.value("ulimit")}.values()),
        "CpuCount": parsed.number("cpu-count"),
        "CpuPercent": parsed.number("cpu-percent"),
        "IOMaximumIOps": parsed.number("io-maxiops"),
        "IOMaximumBandwidth": parsed.number("io-maxbandwidth"),
    }
    resources["Ulimits"].sort(key=lambda limit: limit["Name"])
    if parsed.number("kernel-memory"):
        resources["KernelMemory"] = parsed.number("kernel-memory")
    return resources


def _mode(parsed: Parsed, flag: str, name: str, valid: tuple[str, ...]) -> str:
    mode = parsed.text(flag)
    if mode not in valid:
        raise ValueError(f"--{flag}: invalid {name} mode")
    return mode


def _pid_mode(parsed: Parsed) -> str:
    mode = parsed.text("pid")
    kind, colon, name = mode.partition(":")
    if mode not in ("", "host") and not (kind == "container" and colon and name):
        raise ValueError("--pid: invalid PID mode")
    return mode


def read_restart_policy(text: str) -> dict[str, Any]:
    """`name[:count]` as the API's RestartPolicy. Raises ValueError with Docker's text."""
    name, colon, count = text.partition(":")
    if colon and not name:
        raise ValueError("invalid restart policy format: no policy provided before colon")
    try:
        return {"Name": name, "MaximumRetryCount": int(count) if count else 0}
    except ValueError:
        raise ValueError("invalid restart policy format: maximum retry count must be an integer") from None


def normal_capabilities(names: list[str]) -> list[str] | None:
    """Capabilities in order, in capitals, with CAP_ in front; ALL stays itself."""
    upper = [name.upper() for name in names]
    return sorted({name if name == "ALL" or name.startswith("CAP_") else f"CAP_{name}" for name in upper}) or None


def _log_options(parsed: Parsed) -> dict[str, str]:
    options = {key: value for key, _, value in [text.partition("=") for text in parsed.items("log-opt")]}
    driver = parsed.text("log-driver")
    if driver == "none" and options:
        raise ValueError(f"invalid logging opts for driver {driver}")
    return options


def _storage_options(texts: list[str]) -> dict[str, str]:
    for text in texts:
        if "=" not in text:
            raise ValueError("invalid storage option")
    return {key: value for key, _, value in [text.partition("=") for text in texts]}
