"""A create request before it becomes a container: checked as Docker checks it, merged with the image's defaults. Pure.

Texts and statuses are the daemon's of Docker 28. What depends on the host (number of processors, what cgroups can limit) comes in
as a `Machine`, so that tests need none.
"""

from __future__ import annotations

import ipaddress
import posixpath
import signal

from carrack.engine import resources
from carrack.engine.config import ContainerConfig, CreateRequest, HostConfig, RestartPolicy
from carrack.engine.ports import exposed, wanted
from carrack.engine.resources import Machine
from carrack.errors import InvalidParameter
from carrack.oci.image_config import ExecutionConfig, Healthcheck

SHM_SIZE_BYTES = 64 * 1024 * 1024
_RESTART_POLICIES = ("", "no", "always", "unless-stopped", "on-failure")


def check(request: CreateRequest, machine: Machine) -> list[str]:
    """Raise InvalidParameter for what cannot be meant; return Docker's warnings for what is only odd."""
    host = request.host_config
    if request.working_dir and not posixpath.isabs(request.working_dir):
        raise InvalidParameter(f"the working directory '{request.working_dir}' is invalid, it needs to be an absolute path")
    for variable in request.env or []:
        if not variable or variable.startswith("="):
            raise InvalidParameter(f"invalid environment variable: {variable}")
        if "\0" in variable:
            raise InvalidParameter("invalid environment variable: it contains a null byte")
    if request.stop_signal:
        parse_signal(request.stop_signal)
    _check_healthcheck(request.healthcheck)
    check_restart_policy(host.restart_policy, host.auto_remove)
    for device in host.devices or []:
        permissions = device.cgroup_permissions
        if permissions and (set(permissions) - set("rwm")):
            raise InvalidParameter(f"invalid device cgroup permissions: {permissions!r}")
    for entry in host.extra_hosts or []:
        name, colon, address = entry.partition(":")
        if not name or not colon or not address:
            raise InvalidParameter(f'bad format for add-host: "{entry}"')
        if address != "host-gateway" and not _is_address(address):
            raise InvalidParameter(f'invalid IP address in add-host: "{address}"')
    for key in host.sysctls or {}:
        _check_sysctl(key, host)
    exposed(request, host)
    wanted(request, host)
    _check_host(host)
    warnings = resources.check(host, machine)
    if host.oom_score_adj < machine.least_oom_score:
        least = machine.least_oom_score
        warnings.append(f"This machine gives no CAP_SYS_RESOURCE. The OOM score {host.oom_score_adj} is raised to {least}.")
    if host.network_mode == "host" and (host.publish_all_ports or host.port_bindings):
        warnings.append("Published ports are discarded when using host network mode")
    return warnings


def _check_host(host: HostConfig) -> None:
    if host.isolation not in ("", "default"):
        raise InvalidParameter(f"invalid isolation: \"{host.isolation}\" - linux only supports 'default'")
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidParameter(f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]")
    if min(host.console_size) < 0:
        raise InvalidParameter(f"invalid console size: {host.console_size[0]} by {host.console_size[1]}")
    if host.shm_size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    if "" in (host.annotations or {}):
        raise InvalidParameter("invalid Annotations: the empty string is not permitted as an annotation key")
    if host.umask is not None and not 0 <= host.umask < 1 << 32:
        raise InvalidParameter(f"invalid umask: {host.umask}: want a number of 32 bits without sign")
    if host.cgroup:
        raise InvalidParameter(f"invalid cgroup spec {host.cgroup!r}: a container's cgroup cannot be joined, see CgroupParent")
    if host.userns_mode not in ("", "host"):
        raise InvalidParameter(f"invalid user namespace mode: {host.userns_mode}")


def _is_address(text: str) -> bool:
    """An IP address, that of version 6 in brackets or without."""
    try:
        ipaddress.ip_address(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    except ValueError:
        return False
    return True


def merge(config: ContainerConfig, image: ExecutionConfig) -> None:
    """Fill in what the request left open from the image's configuration. Raises InvalidParameter when no command results."""
    config.user = config.user or image.user
    config.working_dir = config.working_dir or image.working_dir
    if config.working_dir:
        config.working_dir = posixpath.normpath("/" + config.working_dir.lstrip("/"))
    config.stop_signal = config.stop_signal or image.stop_signal
    if image.exposed_ports:
        config.exposed_ports = {**image.exposed_ports, **(config.exposed_ports or {})}
    if image.volumes:
        config.volumes = {**image.volumes, **(config.volumes or {})}
    config.labels = {**(image.labels or {}), **(config.labels or {})}
    if image.env:
        mine = config.env or []
        named = {variable.partition("=")[0] for variable in mine}
        config.env = [*mine, *(variable for variable in image.env if variable.partition("=")[0] not in named)]
    if not config.entrypoint:
        if not config.cmd:
            config.cmd = list(image.cmd) if image.cmd else config.cmd
            config.args_escaped = image.args_escaped
        if config.entrypoint is None:
            config.entrypoint = list(image.entrypoint) if image.entrypoint else None
    if config.entrypoint == [""]:
        config.entrypoint = None
    config.healthcheck = _merge_healthcheck(config.healthcheck, image.healthcheck)
    config.shell = config.shell or image.shell
    config.on_build = None
    if not config.entrypoint and not config.cmd:
        raise InvalidParameter("no command specified")


def settle(
    host: HostConfig,
    *,
    default_log_driver: str,
    default_log_options: dict[str, str],
    cgroup_version: int = 2,
    runtime: str = "carrack",
) -> None:
    """Write down the defaults that inspect shows and later starts must keep."""
    if host.network_mode in ("", "default"):
        host.network_mode = "bridge"
    if host.memory > 0 and host.memory_swap == 0:
        host.memory_swap = host.memory * 2
    if host.shm_size == 0 and not host.ipc_mode.startswith("container:"):
        host.shm_size = SHM_SIZE_BYTES
    if host.pids_limit == 0:
        host.pids_limit = None
    host.ipc_mode = host.ipc_mode or "private"
    # of version 2 a privileged container, too, has its own: systemd or a Docker inside counts on it
    host.cgroupns_mode = host.cgroupns_mode or ("host" if cgroup_version == 1 else "private")
    host.restart_policy.name = host.restart_policy.name or "no"
    host.runtime = host.runtime or runtime
    if not host.log_config.type:
        host.log_config.type = default_log_driver
        host.log_config.config = dict(default_log_options) | (host.log_config.config or {})
    elif host.log_config.config is None:
        host.log_config.config = {}


def parse_signal(text: str) -> int:
    """A signal's number from ``9``, ``KILL`` or ``SIGKILL``. Raises InvalidParameter in Docker's words."""
    word = text.strip().upper()
    if word.removeprefix("-").isdecimal() and len(word) < 19 and int(word):
        number = int(word)
        if 1 <= number < 32 or signal.SIGRTMIN <= number <= signal.SIGRTMAX:  # those between are the C library's own
            return number
        raise InvalidParameter(f"the linux daemon does not support signal {number}")
    name = word if word.startswith("SIG") else f"SIG{word}"
    if name.startswith(("SIGRTMIN", "SIGRTMAX")):
        start, sign, offset = name[:8], name[8:9], name[9:]
        if not sign or (sign in "+-" and offset.isdecimal() and len(offset) < 10):
            number = int(getattr(signal, start)) + (int(offset) if sign == "+" else -int(offset) if sign else 0)
            if int(signal.SIGRTMIN) <= number <= int(signal.SIGRTMAX):
                return number
        raise InvalidParameter(f"invalid signal: {text}")
    found = getattr(signal, name, None)
    if not isinstance(found, signal.Signals):
        raise InvalidParameter(f"invalid signal: {text}")
    return int(found)


def check_restart_policy(policy: RestartPolicy, auto_remove: bool) -> None:
    """Raises InvalidParameter in Docker's words."""
    name = policy.name
    if name not in _RESTART_POLICIES:
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if policy.maximum_retry_count < 0:
        raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
    if policy.maximum_retry_count and name != "on-failure":
        raise InvalidParameter("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if auto_remove and name not in ("", "no"):
        raise InvalidParameter("can't create 'AutoRemove' container with restart policy")


def _check_healthcheck(health: Healthcheck | None) -> None:
    if health is None:
        return
    for what, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if value and value < 1_000_000:
            raise InvalidParameter(f"{what} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidParameter("Retries in Healthcheck cannot be negative")
    if health.test and health.test[0] not in ("", "NONE", "CMD", "CMD-SHELL"):
        raise InvalidParameter(f"Unknown healthcheck type {health.test[0]!r} (expected 'CMD', 'CMD-SHELL' or 'NONE')")


def _merge_healthcheck(mine: Healthcheck | None, image: Healthcheck | None) -> Healthcheck | None:
    if image is None:
        return mine
    if mine is None:
        return image
    return Healthcheck(
        test=mine.test or image.test,
        interval=mine.interval or image.interval,
        timeout=mine.timeout or image.timeout,
        start_period=mine.start_period or image.start_period,
        start_interval=mine.start_interval or image.start_interval,
        retries=mine.retries or image.retries,
    )


_IPC_SYSCTLS = ("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni")


def _check_sysctl(key: str, host: HostConfig) -> None:
    """Only what a namespace of the container's own holds may be set (CVE-2022-0811: nothing else reaches the runtime)."""
    if key in _IPC_SYSCTLS or key == "kernel.shm_rmid_forced" or key.startswith("fs.mqueue."):
        if host.ipc_mode == "host":
            raise InvalidParameter(f"sysctl '{key}' is not allowed when the IPC namespace is the host's")
    elif key.startswith("net."):
        if host.network_mode == "host":
            raise InvalidParameter(f"sysctl '{key}' not allowed in host network namespace")
    elif key in ("kernel.domainname", "kernel.hostname"):
        if host.uts_mode == "host":
            raise InvalidParameter(f"sysctl '{key}' is not allowed when the UTS namespace is the host's")
    else:
        raise InvalidParameter(f"sysctl '{key}' is not namespaced and cannot be set for a container")
    if any(letter in key for letter in "/\0+ "):
        raise InvalidParameter(f"invalid sysctl {key!r}")
