"""The examinations, one function each, in the order in which a start of carrackd and of a container needs what they look at."""

from __future__ import annotations

import contextlib
import os
import resource
import tempfile
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address, ip_interface
from pathlib import Path

from carrack.doctor.finding import Finding, Verdict, tried
from carrack.doctor.firewalls import other_firewalls
from carrack.errors import CarrackError
from carrack.kernel import mount, process, seccomp
from carrack.kernel.netlink import Netlink
from carrack.kernel.netns import new as new_network_namespace
from carrack.kernel.nftables import Nftables
from carrack.runtime.cgroups import features, layout

GOOD, LACKING, BAD = Verdict.GOOD, Verdict.LACKING, Verdict.BAD
FLOOR = (5, 12)
_CLONE = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "network": 0x40000000,
}
_NEEDED = ("CHOWN", "DAC_OVERRIDE", "SETUID", "SETGID", "SETPCAP", "NET_ADMIN", "SYS_ADMIN", "MKNOD")
_NUMBERS = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "NET_ADMIN": 12,
    "SYS_ADMIN": 21,
    "SYS_RESOURCE": 24,
    "MKNOD": 27,
}
_FREE_BYTES, _FREE_SHARE = 2 << 30, 0.05
_MIB = 1 << 20


def examine(data_root: Path) -> Iterator[Finding]:
    """Every finding, as it is made."""
    yield kernel_version()
    yield from privileges()
    yield from namespaces()
    yield mount_calls()
    yield overlay(data_root)
    yield from cgroups()
    yield system_call_filter()
    yield links()
    yield from firewall()
    yield forwarding()
    yield resolver()
    yield from disk(data_root)
    yield from limits()
    yield memory()
    yield from confinement()
    yield from daemons()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def kernel_version() -> Finding:
    """The floor is 5.12; newer ones have calls that make starts cheaper."""
    release = os.uname().release
    numbers = tuple([int(part) for part in release.split("-")[0].split("+")[0].split(".")[:2] if part.isdigit()])
    if numbers < FLOOR:
        return Finding("kernel", BAD, release, "carrackd needs Linux 5.12 or newer (mount_setattr): install a newer kernel")
    if numbers < (6, 5):
        fact = f"{release}: layers are mounted the older way (6.5 takes any number of them)"
        return Finding("kernel", GOOD, fact)
    return Finding("kernel", GOOD, release)


def privileges() -> Iterator[Finding]:
    """Root, with the capabilities that a start takes."""
    if os.geteuid() != 0:
        yield Finding("privileges", BAD, f"user {os.geteuid()}", "run carrack doctor, and carrackd, as root")
        return
    effective = int(next(line.split()[1] for line in _read("/proc/self/status").splitlines() if line.startswith("CapEff")), 16)
    missing = [f"CAP_{name}" for name in _NEEDED if not effective >> _NUMBERS[name] & 1]
    if missing:
        yield Finding(
            "privileges", BAD, f"without {', '.join(missing)}", "start carrackd outside this container, or give it --privileged"
        )
    else:
        yield Finding("privileges", GOOD, "root, with the capabilities that containers need")
    if not effective >> _NUMBERS["SYS_RESOURCE"] & 1:
        fact = "not there: --ulimit above carrackd's own hard limits, and --oom-score-adj below its own, are refused by the kernel"
        yield Finding(
            "CAP_SYS_RESOURCE", LACKING, fact, "to have them, start carrackd on the host itself, or give this container it"
        )


def namespaces() -> Iterator[Finding]:
    """Each kind is made once."""
    missing = {name: tried(partial(process.unshare, flag)) for name, flag in _CLONE.items()}
    for name, problem in missing.items():
        if not problem:
            continue
        verdict = LACKING if name == "user" else BAD
        switch = (
            "sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone" if name == "user" else f"CONFIG_{name.upper()}_NS"
        )
        yield Finding(f"{name} namespace", verdict, problem, f"the kernel refuses it: look at {switch}")
    if not any(missing.values()):
        yield Finding("namespaces", GOOD, ", ".join(_CLONE))


def mount_calls() -> Finding:
    """open_tree, mount_setattr and move_mount, on a mount namespace of the trial's own."""

    def trial() -> None:
        process.unshare(_CLONE["mount"])
        mount.mount("none", "/", "", mount.MS_REC | mount.MS_PRIVATE)
        tree = mount.clone_tree("/tmp")
        mount.set_attributes(tree, add=mount.ATTR_RDONLY)
        mount.attach(tree, mount.AT_FDCWD, "/tmp")

    problem = tried(trial)
    if problem:
        advice = "a seccomp or LSM policy refuses the newer mount calls: run carrackd outside that container or policy"
        if not any(line.split()[4] == "/" for line in _read("/proc/self/mountinfo").splitlines()):
            problem = "/ is no mount point, as in a chroot"
            advice = "run carrackd outside the chroot, or make its folder a mount point first: mount --bind DIR DIR"
        return Finding("mounts", BAD, problem, advice)
    return Finding("mounts", GOOD, "open_tree, mount_setattr, move_mount")


def overlay(data_root: Path) -> Finding:
    """An overlay is mounted and written to, its upper directory where the containers' would be."""
    place = _existing(data_root)

    def trial() -> None:
        process.unshare(_CLONE["mount"])
        mount.mount("none", "/", "", mount.MS_REC | mount.MS_PRIVATE)
        folder = Path(scratch)
        for name in ("lower", "upper", "work", "merged"):
            (folder / name).mkdir()
        options = f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work"
        mount.mount("overlay", f"{folder}/merged", "overlay", 0, options)
        (folder / "merged/file").write_text("x")
        os.setxattr(folder / "merged/file", "trusted.carrack", b"x")

    try:
        with tempfile.TemporaryDirectory(prefix=".carrack-doctor-", dir=place) as scratch:
            problem = tried(trial)
    except OSError as error:
        return Finding(
            "overlay", BAD, f"{place}: {error.strerror}", f"{data_root} must be writable: choose another with --data-root"
        )
    if problem:
        advice = (
            f"load the module (modprobe overlay), or put --data-root on ext4, xfs or btrfs ({place} is {file_system(place)}); "
            "without it carrackd copies every layer (storage driver native)"
        )
        return Finding("overlay", LACKING, problem, advice)
    return Finding("overlay", GOOD, f"on {place} ({file_system(place)})")


def cgroups() -> Iterator[Finding]:
    """A cgroup is made, and the limits it can hold are read off its files."""
    try:
        found = layout.detect()
        there = features.probe(f"/carrack-doctor-{os.getpid()}", found)
    except (CarrackError, OSError) as error:
        advice = "mount them: systemd does so by itself; else mount -t cgroup2 none /sys/fs/cgroup"
        yield Finding("cgroups", BAD, str(error), advice)
        return
    have = [name.replace("_", " ") for name, value in there._asdict().items() if value]
    yield Finding("cgroups", GOOD, f"version {found.version}: {', '.join(have)}")
    vital = {
        "memory": "--memory",
        "pids": "--pids-limit",
        "cpu_quota": "--cpus",
        "cpu_shares": "--cpu-shares",
        "cpuset": "--cpuset-cpus",
        "block_throttle": "--device-read-bps and its like",
        "swap": "--memory-swap",
    }
    for name, flag in vital.items():
        if not getattr(there, name):
            advice = "on Debian and Ubuntu: cgroup_enable=memory swapaccount=1 on the kernel's command line"
            how = (
                advice
                if name in ("memory", "swap")
                else "enable the controller (cgroup.subtree_control), or in the kernel's configuration"
            )
            yield Finding(f"cgroup {name.replace('_', ' ')}", LACKING, f"{flag} is discarded with a warning", how)


def system_call_filter() -> Finding:
    """Seccomp in the kernel, and the library that writes filters for it."""
    if "errno" not in _read("/proc/sys/kernel/seccomp/actions_avail"):
        advice = "without CONFIG_SECCOMP_FILTER containers run only with --security-opt seccomp=unconfined"
        return Finding("seccomp", BAD, "not in this kernel", advice)
    try:
        seccomp.native_architecture()
    except (CarrackError, OSError) as error:
        return Finding("seccomp", BAD, str(error), "install libseccomp2")
    return Finding("seccomp", GOOD, "filters, and libseccomp to write them")


def links() -> Finding:
    """A bridge and a veth pair, in network namespaces of the trial's own."""

    def trial() -> None:
        process.unshare(_CLONE["network"])
        other = new_network_namespace()
        with Netlink() as netlink:
            netlink.add_bridge("doctor0")
            netlink.add_veth("doctor1", "eth0", peer_namespace_fd=other)
            bridge = netlink.get_link("doctor0").index
            netlink.add_address(bridge, ip_interface("10.11.12.1/24"))

    problem = tried(trial)
    if problem:
        return Finding("bridge and veth", BAD, problem, "load the modules: modprobe bridge veth")
    return Finding("bridge and veth", GOOD, "both can be made")


def firewall() -> Iterator[Finding]:
    """A table with address translation, in a network namespace of the trial's own; and who else writes rules here."""
    rules = """
    table inet doctor {
        map ports { type inet_proto . inet_service : ipv4_addr . inet_service; }
        chain in { type nat hook prerouting priority dstnat; dnat ip to meta l4proto . th dport map @ports; }
        chain out { type nat hook postrouting priority srcnat; ip saddr 10.0.0.0/8 masquerade; }
        chain raw { type filter hook prerouting priority raw; iif != "lo" ip daddr 127.0.0.0/8 drop; }
    }
    """

    def trial() -> None:
        process.unshare(_CLONE["network"])
        Nftables().run(rules)

    problem = tried(trial)
    if problem:
        advice = "install libnftables1 and a kernel with nf_tables, nft_nat and nft_masq (modprobe nf_tables nft_chain_nat)"
        yield Finding("nftables", BAD, problem, advice)
        return
    yield Finding("nftables", GOOD, "tables, maps and address translation")
    yield from other_firewalls()


def forwarding() -> Finding:
    """Whether the host forwards packets at all."""
    if _read("/proc/sys/net/ipv4/ip_forward") == "1":
        return Finding("forwarding", GOOD, "net.ipv4.ip_forward is on")
    fact = "net.ipv4.ip_forward is off: carrackd turns it on when it starts"
    return Finding(
        "forwarding", LACKING, fact, "to have it on from the start: sysctl -w net.ipv4.ip_forward=1, and in /etc/sysctl.d"
    )


def resolver() -> Finding:
    """Which name servers containers are given: those of the host that a container can reach."""
    servers = [
        line.split()[1]
        for line in _read("/etc/resolv.conf").splitlines()
        if line.startswith("nameserver") and len(line.split()) > 1
    ]
    reachable = []
    for server in servers:
        try:
            reachable += [] if ip_address(server.partition("%")[0]).is_loopback else [server]
        except ValueError:
            continue
    if reachable:
        return Finding("name servers", GOOD, ", ".join(reachable))
    behind = _read("/run/systemd/resolve/resolv.conf")
    if "nameserver" in behind:
        return Finding("name servers", GOOD, "those of systemd-resolved")
    advice = "containers get 8.8.8.8 and 8.8.4.4: name others with --dns if these cannot be reached from here"
    return Finding(
        "name servers", LACKING, f"only {', '.join(servers) or 'none'} in /etc/resolv.conf, which no container reaches", advice
    )


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def file_system(path: Path) -> str:
    """The type of the file system a path is on."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in reversed(_read("/proc/self/mountinfo").splitlines()):
        fields = line.split()
        if fields[2] == wanted:
            return fields[fields.index("-") + 1]
    return "unknown"


def disk(data_root: Path) -> Iterator[Finding]:
    """Room and inodes where images and containers go."""
    place = _existing(data_root)
    status = os.statvfs(place)
    free, size = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
    fact = f"{free // _MIB} MiB of {size // _MIB} free on {place} ({file_system(place)})"
    if free < _FREE_BYTES or free < size * _FREE_SHARE:
        yield Finding("disk", LACKING, fact, "carrack system prune removes what nothing uses; or move --data-root to a larger disk")
    else:
        yield Finding("disk", GOOD, fact)
    if status.f_files and status.f_favail < status.f_files * _FREE_SHARE:
        advice = "many small files: carrack system prune, or a file system made with more inodes"
        yield Finding("inodes", LACKING, f"{status.f_favail} of {status.f_files} free on {place}", advice)


def limits() -> Iterator[Finding]:
    """Numbers that many containers come up against."""
    files = _most_open_files()
    if 0 <= files < 65536:
        advice = "LimitNOFILE=1048576 in carrackd's unit, or ulimit -n 1048576 before carrackd is started by hand"
        yield Finding("open files", LACKING, f"at most {files}", advice)
    wanted = {
        "/proc/sys/fs/inotify/max_user_instances": (256, "programs that watch files fail in the 128th container"),
        "/proc/sys/kernel/pid_max": (32768, "fewer processes than a few hundred containers have"),
        "/proc/sys/kernel/keys/maxkeys": (200, "a keyring per container: fewer than that many run at once"),
    }
    for path, (least, why) in wanted.items():
        value = _read(path)
        name = path.removeprefix("/proc/sys/").replace("/", ".")
        if value.isdigit() and int(value) < least:
            yield Finding(name, LACKING, f"{value}: {why}", f"sysctl -w {name}={least * 8}, and in /etc/sysctl.d")


def _most_open_files() -> int:
    """The limit of the carrackd that runs, else of one that were started from here."""
    with contextlib.suppress(OSError, ValueError):
        pid = int(_read("/run/carrack/carrackd.pid"))
        for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
            if line.startswith("Max open files"):
                return int(line.split()[4])
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def memory() -> Finding:
    """What is there for containers."""
    values = {line.split(":")[0]: int(line.split()[1]) >> 10 for line in _read("/proc/meminfo").splitlines() if line.endswith("kB")}
    fact = f"{values.get('MemAvailable', 0)} MiB of {values.get('MemTotal', 0)} available, {values.get('SwapTotal', 0)} MiB swap"
    if values.get("MemAvailable", 0) < 256:
        return Finding("memory", LACKING, fact, "little is left: containers without --memory may have others killed")
    return Finding("memory", GOOD, fact)


def confinement() -> Iterator[Finding]:
    """Security modules that are on."""
    modules = _read("/sys/kernel/security/lsm")
    if _read("/sys/module/apparmor/parameters/enabled") == "Y":
        yield Finding("AppArmor", GOOD, "on")
    if "selinux" in modules:
        enforcing = _read("/sys/fs/selinux/enforce") == "1"
        advice = "label bind mounts with :z or :Z" if enforcing else ""
        yield Finding("SELinux", LACKING if enforcing else GOOD, "enforcing" if enforcing else "permissive", advice)


def daemons() -> Iterator[Finding]:
    """Engines that answer here."""
    import socket

    for name, path in (("carrackd", "/run/carrack/carrack.sock"), ("dockerd", "/var/run/docker.sock")):
        if not os.path.exists(path):
            continue
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            try:
                connection.connect(path)
                connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: doctor\r\nConnection: close\r\n\r\n")
                answers = b"200" in connection.recv(64)
            except OSError:
                answers = False
        if answers:
            yield Finding(name, GOOD, f"answers at {path}")
        else:
            yield Finding(name, LACKING, f"{path} is there, and nobody answers", f"start {name}, or remove the socket")
