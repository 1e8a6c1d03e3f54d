"""The flags of `run` and `create`, and the checks their values pass while the command line is read."""

from __future__ import annotations

import os

from carrack.cli.containers.mounts import read_gpus, read_mount, read_network
from carrack.cli.values import go_quote, read_bytes, read_swap_bytes, read_uint, read_uint16

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CREATE_FLAGS = """
        --add-host list               Add a line to the container's hosts file (host:ip)
        --annotation map@1.43              Annotation for the OCI runtime
    -a, --attach list                 Attach to STDIN, STDOUT or STDERR
        --blkio-weight uint16         Relative weight of block IO, 10 to 1000, or 0 for none (default 0)
        --blkio-weight-device list    Relative weight of block IO on a device (default [])
        --cap-add list                Linux capabilities to add
        --cap-drop list               Linux capabilities to drop
        --cgroup-parent string        Parent cgroup of the container
        --cgroupns string@1.41             Cgroup namespace: 'host', 'private', or '' for the daemon's default
        --cidfile string              File to write the container's id to
        --cpu-count int@windows               Number of CPUs (Windows)
        --cpu-percent int@windows             Percentage of CPU (Windows)
        --cpu-period int              CFS period in microseconds
        --cpu-quota int               CFS quota in microseconds
        --cpu-rt-period int@1.25           Real-time period in microseconds
        --cpu-rt-runtime int@1.25          Real-time runtime in microseconds
    -c, --cpu-shares int              Relative weight of CPU time
        --cpus decimal@1.25                Number of CPUs
        --cpuset-cpus string          CPUs the container may use (0-3, 0,1)
        --cpuset-mems string          Memory nodes the container may use (0-3, 0,1)
        --device list                 Device of the host to give to the container
        --device-cgroup-rule list     Rule for the cgroup's list of allowed devices
        --device-read-bps list        Bytes per second that may be read from a device (default [])
        --device-read-iops list       Reads per second from a device (default [])
        --device-write-bps list       Bytes per second that may be written to a device (default [])
        --device-write-iops list      Writes per second to a device (default [])
        --disable-content-trust bool=true Do not verify the image's signature
        --dns list                    DNS servers
        --dns-opt list!dns-option     DNS options
        --dns-option list             DNS options
        --dns-search list             DNS search domains
        --domainname string           NIS domain name
        --entrypoint string           Program to run instead of the image's ENTRYPOINT
    -e, --env list                    Environment variables
        --env-file list               File of environment variables
        --expose list                 Port or range of ports to expose
        --gpus gpu-request@1.40            GPUs to give to the container ('all' for every one)
        --group-add list              Groups to join
        --health-cmd string           Command that tells whether the container is healthy
        --health-interval duration    Time between two checks (ms|s|m|h) (default 0s)
        --health-retries int          Failures in a row that make it unhealthy
        --health-start-interval duration@1.44 Time between two checks while it starts (ms|s|m|h) (default 0s)
        --health-start-period duration@1.29 Time to start in, during which failures do not count (ms|s|m|h) (default 0s)
        --health-timeout duration     Time one check may take (ms|s|m|h) (default 0s)
    -h, --hostname string             Host name
        --init bool@1.25                   Run an init that forwards signals and reaps processes
    -i, --interactive bool            Keep STDIN open even if nobody is attached
        --io-maxbandwidth bytes@windows       IO bandwidth of the system drive (Windows)
        --io-maxiops uint@windows             IO operations of the system drive (Windows)
        --ip string                   IPv4 address (172.30.100.104)
        --ip6 string                  IPv6 address (2001:db8::33)
        --ipc string                  IPC namespace
        --isolation string            Isolation technology
        --kernel-memory bytes         Kernel memory limit
    -l, --label list                  Labels
        --label-file list             File of labels, one a line
        --link list                   Link to another container
        --link-local-ip list          Link-local addresses
        --log-driver string           Logging driver
        --log-opt list                Options of the logging driver
        --mac-address string          MAC address (92:d0:c6:0a:29:33)
    -m, --memory bytes                Memory limit
        --memory-reservation bytes    Memory soft limit
        --memory-swap bytes           Limit of memory and swap together, '-1' for unlimited swap
        --memory-swappiness int=-1    Willingness to swap (0 to 100)
        --mount mount                 File system to mount
        --name string                 Name of the container
        --net network!network         Network to join
        --net-alias list!network-alias Other name on the network
        --network network             Network to join
        --network-alias list          Other name on the network
        --no-healthcheck bool         Turn the image's HEALTHCHECK off
        --oom-kill-disable bool       Turn the OOM killer off
        --oom-score-adj int           The host's preference for killing it (-1000 to 1000)
        --pid string                  PID namespace
        --pids-limit int              Number of processes it may have (-1 for unlimited)
        --platform string@1.32=$DOCKER_DEFAULT_PLATFORM             Platform, if the daemon can run several
        --privileged bool             Give it extended privileges
    -p, --publish list                Publish a port to the host
    -P, --publish-all bool            Publish every exposed port to a random port
        --pull string=missing         When to pull the image ("always", "missing", "never")
    -q, --quiet bool                  Do not show the pull
        --read-only bool              Mount the root file system read-only
        --restart string=no           What to do when it exits
        --rm bool                     Remove it and its anonymous volumes when it exits
        --runtime string              OCI runtime
        --security-opt list           Security options
        --shm-size bytes              Size of /dev/shm
        --stop-signal string          Signal that stops it
        --stop-timeout int@1.25            Seconds it gets to stop
        --storage-opt list            Options of the storage driver
        --sysctl map                  Kernel parameters of its namespaces
        --tmpfs list                  Directory to mount a tmpfs on
    -t, --tty bool                    Give it a terminal
        --ulimit ulimit               Resource limits
        --use-api-socket bool         Give it the daemon's socket and the user's registry logins
    -u, --user string                 User name or id (<name|uid>[:<group|gid>])
        --userns string               User namespace
        --uts string                  UTS namespace
    -v, --volume list                 Bind mount or volume
        --volume-driver string        Volume driver
        --volumes-from list           Containers whose volumes to mount
    -w, --workdir string              Working directory
"""

RUN_FLAGS = (
    CREATE_FLAGS
    + """
    -d, --detach bool                 Run in the background and print the container's id
        --detach-keys string          Keys that detach from the container
        --sig-proxy bool=true         Pass signals on to the process
"""
)


def check_attach(text: str) -> str:
    """A stream's name, in small letters."""
    name = text.lower()
    if name not in ("stdin", "stdout", "stderr"):
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return name


def check_environment(text: str) -> str:
    """`NAME=value`; a name alone takes its value from our environment, if it has one there."""
    name, equals, _ = text.partition("=")
    if not name:
        raise ValueError(f"invalid environment variable: {text}")
    if not equals and name in os.environ:
        return f"{name}={os.environ[name]}"
    return text


def check_label(text: str) -> str:
    """`key=value` with a key that has no blank in it."""
    key = text.partition("=")[0].lstrip(" \t")
    if not key:
        raise ValueError(f"invalid label '{text}': empty name")
    if " " in key or "\t" in key:
        raise ValueError(f"label '{key}' contains whitespaces")
    return text


def normal_address(text: str) -> str | None:
    """An IP address in its usual spelling; None when it is none."""
    import _socket

    trimmed = text.strip()
    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            return _socket.inet_ntop(family, _socket.inet_pton(family, trimmed))
        except (OSError, ValueError):
            continue
    return None


def check_address(text: str) -> str:
    """An IP address."""
    address = normal_address(text)
    if address is None:
        raise ValueError(f"IP address is not correctly formatted: {text}")
    return address


def check_search_domain(text: str) -> str:
    """A DNS domain, or `.` for none."""
    domain = text.strip(" ")
    if domain == ".":
        return domain
    trimmed = domain.strip()
    if not any(character.isascii() and character.isalpha() for character in domain) or len(trimmed) >= 255:
        raise ValueError(f"{domain} is not a valid domain")
    for part in trimmed.removesuffix(".").split("."):
        letters = part.replace("-", "").replace("_", "")
        if not part or len(part) > 63 or not (letters.isascii() and letters.isalnum()) or part[0] == "-" or part[-1] == "-":
            raise ValueError(f"{domain} is not a valid domain")
    return trimmed.removesuffix(".")


def check_extra_host(text: str) -> str:
    """`name:ip` or `name=ip`, as `name:ip` without brackets."""
    name, separator, address = text.partition("=")
    if not separator:
        name, separator, address = text.partition(":")
    if not separator or not name or ":" in name:
        raise ValueError(f"bad format for add-host: {go_quote(text)}")
    if address != "host-gateway":
        if len(address) > 2 and address[0] == "[" and address[-1] == "]":
            address = address[1:-1]
        if normal_address(address) is None:
            raise ValueError(f"invalid IP address in add-host: {go_quote(address)}")
    return f"{name}:{address}"


def check_link(text: str) -> str:
    """`container[:alias]`."""
    if not text:
        raise ValueError("empty string specified for links")
    if text.count(":") > 1:
        raise ValueError(f"bad format for links: {text}")
    return text


_SYSCTLS = (
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
)


def check_sysctl(text: str) -> tuple[str, str]:
    """`name=value` of a parameter that belongs to a namespace."""
    name, equals, value = text.partition("=")
    if not equals or not name or (name not in _SYSCTLS and not name.startswith(("net.", "fs.mqueue."))):
        raise ValueError(f"sysctl '{text}' is not allowed")
    return name, value


def check_device_rule(text: str) -> str:
    """`type major:minor mode` of the device cgroup."""
    kind, _, rest = text.partition(" ")
    numbers, _, mode = rest.partition(" ")
    parts = numbers.split(":")
    numeric = len(parts) == 2 and all(part == "*" or (part.isascii() and part.isdigit()) for part in parts)
    if kind not in ("a", "b", "c") or not numeric or not 1 <= len(mode) <= 3 or mode.strip("rwm"):
        raise ValueError(f"invalid device cgroup format '{text}'")
    return text


def _device_path(text: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not colon or not path:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, value


def check_weight_device(text: str) -> dict[str, Any]:
    """`/dev/x:weight`."""
    path, value = _device_path(text)
    try:
        weight = read_uint16(value)
    except ValueError:
        weight = 1
    if weight and not 10 <= weight <= 1000:
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": weight}


def check_byte_rate(text: str) -> dict[str, Any]:
    """`/dev/x:bytes` per second."""
    path, value = _device_path(text)
    try:
        return {"Path": path, "Rate": read_bytes(value)}
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. "
            "Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        ) from None


def check_operation_rate(text: str) -> dict[str, Any]:
    """`/dev/x:operations` per second."""
    path, value = _device_path(text)
    try:
        return {"Path": path, "Rate": read_uint(value)}
    except ValueError:
        raise ValueError(
            f"invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer"
        ) from None


CHECKS: dict[str, Callable[[str], Any]] = {
    "add-host": check_extra_host,
    "attach": check_attach,
    "blkio-weight-device": check_weight_device,
    "device-cgroup-rule": check_device_rule,
    "device-read-bps": check_byte_rate,
    "device-read-iops": check_operation_rate,
    "device-write-bps": check_byte_rate,
    "device-write-iops": check_operation_rate,
    "dns": check_address,
    "dns-search": check_search_domain,
    "env": check_environment,
    "gpus": read_gpus,
    "label": check_label,
    "link": check_link,
    "memory-swap": read_swap_bytes,
    "mount": read_mount,
    "network": read_network,
    "sysctl": check_sysctl,
}
