"""What a container is given when nobody asks for anything: Docker's capabilities, seccomp filter, masked and read-only paths,
devices, mounts and files in /etc. Each is tried from inside."""

import os

import pytest

from tests.rig.engine import CommandLine

pytestmark = pytest.mark.observes("docker run")

# capabilities(7): CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD
# AUDIT_WRITE SETFCAP: the fourteen that Docker documents.
DOCKERS_CAPABILITIES = 0x00000000A80425FB


def status_field(cli: CommandLine, name: str) -> str:
    return cli.shell(f"grep {name}: /proc/self/status").ok().split()[1]


@pytest.mark.parametrize("which", ["CapEff", "CapPrm", "CapBnd"])
def test_root_has_dockers_fourteen_capabilities(docker_cli: CommandLine, which: str) -> None:
    assert int(status_field(docker_cli, which), 16) == DOCKERS_CAPABILITIES


@pytest.mark.parametrize("which", ["CapAmb", "CapInh"])
def test_nothing_is_ambient_or_inheritable(docker_cli: CommandLine, which: str) -> None:
    assert int(status_field(docker_cli, which), 16) == 0


def test_a_seccomp_filter_is_in_force(docker_cli: CommandLine) -> None:
    assert status_field(docker_cli, "Seccomp") == "2"


def test_the_filter_refuses_a_user_namespace(docker_cli: CommandLine) -> None:
    """No capability guards CLONE_NEWUSER: only the filter can refuse it."""
    refused = docker_cli("run", "--rm", "busybox", "unshare", "-U", "true")
    assert refused.code != 0
    assert "Operation not permitted" in refused.stderr
    docker_cli.ok("run", "--rm", "--security-opt", "seccomp=unconfined", "busybox", "unshare", "-U", "true")


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list"])
def test_a_masked_file_reads_as_nothing(docker_cli: CommandLine, path: str) -> None:
    seen = docker_cli.shell(f"[ ! -e {path} ] || wc -c < {path}")
    # AppArmor's profile lets nobody open kcore at all, whatever lies over it
    assert seen.stdout.strip() in {"", "0"}
    assert seen.code == 0 or f"can't open {path}: Permission denied" in seen.stderr


@pytest.mark.parametrize("path", ["/proc/acpi", "/proc/scsi", "/sys/firmware"])
def test_a_masked_folder_is_empty(docker_cli: CommandLine, path: str) -> None:
    assert docker_cli.shell(f"[ ! -e {path} ] || ls {path} | wc -l").ok() in {"", "0"}


@pytest.mark.parametrize("path", ["/proc/sys/kernel/domainname", "/proc/sysrq-trigger", "/proc/irq/0/smp_affinity"])
def test_a_read_only_path_refuses_writes(docker_cli: CommandLine, path: str) -> None:
    ended = docker_cli.shell(f"[ -e {path} ] || echo Read-only; echo x > {path}")
    assert "Read-only" in ended.stderr + ended.stdout


def test_sys_is_read_only(docker_cli: CommandLine) -> None:
    ended = docker_cli("run", "--rm", "busybox", "mkdir", "/sys/x")
    assert "Read-only file system" in ended.stderr


def test_the_default_devices_are_there_and_no_others(docker_cli: CommandLine) -> None:
    wanted = {"fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"}
    found = set(docker_cli.ok("run", "--rm", "busybox", "ls", "/dev").split())
    assert found - {"core"} == wanted  # core, a link to /proc/kcore, is made where that exists


def test_a_device_outside_the_list_cannot_be_opened_even_when_made(docker_cli: CommandLine) -> None:
    """MKNOD is allowed, the device cgroup (or its eBPF program) refuses the opening."""
    ended = docker_cli.shell("mknod /mem c 1 1 && head -c 1 /mem")
    assert "Operation not permitted" in ended.stderr


def test_dev_null_zero_and_random_work(docker_cli: CommandLine) -> None:
    script = "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c; echo x > /dev/full"
    ended = docker_cli.shell(script)
    assert ended.stdout.split() == ["3", "5"]
    assert "No space left" in ended.stderr


@pytest.mark.parametrize(
    ("target", "kind", "option"),
    [
        ("/proc", "proc", "nosuid"),
        ("/dev", "tmpfs", "mode=755"),
        ("/dev/pts", "devpts", "ptmxmode=666"),
        ("/dev/shm", "tmpfs", "size=65536k"),
        ("/dev/mqueue", "mqueue", "nodev"),
        ("/sys", "sysfs", "ro"),
        ("/etc/hosts", "ext4", "rw"),
        ("/etc/hostname", "ext4", "rw"),
        ("/etc/resolv.conf", "ext4", "rw"),
    ],
)
def test_a_default_mount_is_of_its_kind(docker_cli: CommandLine, target: str, kind: str, option: str) -> None:
    row = docker_cli.ok("run", "--rm", "busybox", "grep", f" {target} ", "/proc/mounts").splitlines()[0].split()
    if kind != "ext4":  # the files in /etc come from whatever the data-root is on
        assert row[2] == kind
    assert option in row[3].split(",")


def test_hosts_names_the_container_and_localhost(docker_cli: CommandLine) -> None:
    rows = docker_cli.shell("cat /etc/hosts; ip -4 addr show eth0", "--hostname", "ship").ok()
    address = rows.partition("inet ")[2].partition("/")[0]
    assert "127.0.0.1\tlocalhost" in rows
    assert f"{address}\tship" in rows


def test_the_container_may_edit_its_own_etc_files(docker_cli: CommandLine) -> None:
    script = "echo 10.9.8.7 friend >> /etc/hosts && ping -c 1 -W 1 friend 2>&1 | head -n 1"
    assert "friend (10.9.8.7)" in docker_cli.shell(script).ok()


def test_resolv_conf_has_no_loopback_name_server(docker_cli: CommandLine) -> None:
    servers = [
        row.split()[1]
        for row in docker_cli.ok("run", "--rm", "busybox", "cat", "/etc/resolv.conf").splitlines()
        if row.startswith("nameserver")
    ]
    assert servers
    assert not [server for server in servers if server.startswith("127.")]


def test_namespaces_are_the_containers_own(docker_cli: CommandLine) -> None:
    names = ("ipc", "mnt", "net", "pid", "uts")
    inside = docker_cli.ok(
        "run", "--rm", "busybox", "sh", "-c", "for n in ipc mnt net pid uts; do readlink /proc/self/ns/$n; done"
    ).split()
    assert not set(inside) & {os.readlink(f"/proc/self/ns/{name}") for name in names}


def test_the_command_is_process_one_and_alone(docker_cli: CommandLine) -> None:
    assert docker_cli.shell("echo $$; ls -d /proc/[0-9]* | wc -l").ok().split()[0] == "1"


def test_no_descriptor_of_the_daemon_is_open_inside(docker_cli: CommandLine) -> None:
    listed = docker_cli.shell("ls -l /proc/1/fd; true").ok()  # no pipe: the shell itself would hold its ends for a moment
    numbers = {int(row.split(" -> ")[0].split()[-1]) for row in listed.splitlines()[1:]}
    assert numbers <= {0, 1, 2}


def test_the_root_mount_hides_the_hosts_paths(docker_cli: CommandLine) -> None:
    """After pivot_root nothing of the old root may remain mounted."""
    rows = docker_cli.ok("run", "--rm", "busybox", "cat", "/proc/self/mountinfo").splitlines()
    targets = [row.split()[4] for row in rows]
    assert targets.count("/") == 1
    assert not [target for target in targets if target.startswith(("/var/lib", "/oldroot", "/.pivot"))]


def test_the_environment_is_the_images_and_hostname_and_home(docker_cli: CommandLine) -> None:
    rows = set(docker_cli.ok("run", "--rm", "--hostname", "ship", "busybox", "env").splitlines())
    assert rows == {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME=ship",
        "HOME=/root",
    }


def test_signals_and_masks_are_at_their_defaults(docker_cli: CommandLine) -> None:
    seen = docker_cli.ok("run", "--rm", "busybox", "grep", "-E", "SigBlk|SigIgn", "/proc/self/status").split()
    assert int(seen[1], 16) == 0
    assert int(seen[3], 16) == 0
