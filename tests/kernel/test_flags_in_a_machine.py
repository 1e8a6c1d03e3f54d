"""Carrack on Debian 12's own kernel (6.1), with cgroup v2 alone, AppArmor and forwarding off: in a virtual machine, for no host of
these tests is like that.

The flags of `run` are seen by the tests of tests/compat, run inside: a short form always (about a minute), every one with --full.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.conftest import Images
from tests.rig.criu import criu_folder
from tests.rig.engine import ROOT, docker_program
from tests.rig.vm import Vm

pytestmark = [pytest.mark.root, pytest.mark.timeout(3000), pytest.mark.xdist_group("machine")]
PATH = f"{ROOT}/.venv/bin:/opt/client:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAMS = {"PATH": PATH, "CARRACK_TEST_PATIENCE": "6"}
MODULES = (
    "test_run_flags.py",
    "test_run_more_flags.py",
    "test_run_resources.py",
    "test_run_devices_and_mounts.py",
    "test_run_platform_and_network_flags.py",
    "test_container_defaults.py",
    "test_health_and_restarts.py",
    "test_other_runtimes.py",
    "test_user_namespaces.py",
    "test_run_explain.py",
    "test_many_cycles.py",
    "test_checkpoints.py",
)
SHORT = (
    "test_run_resources.py::test_update_changes_the_limits_of_a_running_container",
    "test_run_resources.py::test_limits_of_devices_change_stay_where_nothing_is_said_and_end_with_an_empty_list",
    "test_run_resources.py::test_what_version_2_has_not_is_discarded_with_a_warning",
    "test_run_flags.py::test_a_process_past_its_memory_is_killed_and_so_recorded",
    "test_run_more_flags.py::test_a_device_cgroup_rule_opens_what_mknod_made",
    "test_run_more_flags.py::test_a_cgroup_namespace_of_its_own_hides_the_hosts_tree",
    "test_run_more_flags.py::test_writable_cgroups_let_an_ordinary_container_divide_its_own",
    "test_run_platform_and_network_flags.py::test_a_paused_container_stands_still_and_goes_on",
    "test_stats.py::test_memory_and_processes_are_counted_against_their_limits",
)
"""What is otherwise on version 2: limits and their change, the OOM killer, device rules as BPF, namespaces and parts of cgroups,
the freezer, statistics; each ends its containers by cgroup.kill."""
LIBRARIES = ("libyajl.so.2",)
"""What crun needs and the machine has not."""


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The docker client with crun, runc and criu; and an ext4 that counts projects."""
    folder = tmp_path_factory.mktemp("disks")
    found = (docker_program(), *(shutil.which(name, path="/usr/bin:/usr/sbin") for name in ("crun", "runc")))
    programs = [os.path.realpath(path) for path in found if path]  # Debian's /usr/bin/runc is a link out of the folder
    libraries = [os.path.realpath(path) for name in LIBRARIES for path in Path("/usr/lib").glob(f"*/{name}")]
    client, quota = folder / "client", folder / "quota"
    plain = ("-noI", "-noD", "-noF", "-noX", "-no-progress", "-quiet")
    packed = [*programs, *libraries, str(criu_folder())]
    subprocess.run(["mksquashfs", *packed, str(client), *plain], check=True, stdout=subprocess.DEVNULL)
    with quota.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-O", "quota,project", "-E", "quotatype=prjquota", str(quota)], check=True)
    return [client, quota]


@pytest.fixture(scope="module")
def machine(disks: list[Path]) -> Iterator[Vm]:
    """A machine without systemd, its /tmp on a disk: 6.1 cannot shift the owners of a tmpfs."""
    with Vm(systemd=False, memory_mb=1500, disks=disks) as vm:
        prepare = "modprobe -a loop bfq; mkdir -p /opt/client /quota /var/tmp/disk; chmod 1777 /var/tmp/disk"
        mounts = "mount --bind /var/tmp/disk /tmp; mount -t squashfs /dev/vdc /opt/client; mount -o prjquota /dev/vdd /quota"
        libraries = "for file in /opt/client/lib*; do cp $file /usr/lib/x86_64-linux-gnu/; done; ldconfig"
        criu = f"mkdir -p {criu_folder().parent} && ln -s /opt/client/{criu_folder().name} {criu_folder()}"
        vm.run(f"{prepare} && {mounts} && {libraries} && {criu}").ok()
        assert vm.run("stat -fc %T /sys/fs/cgroup").ok() == "cgroup2fs"
        yield vm


def test_flags_have_their_effect_on_version_2(machine: Vm) -> None:
    _passes_inside(machine, SHORT)


@pytest.mark.only_full("minutes for each in an emulated machine")
@pytest.mark.parametrize("module", MODULES)
def test_every_flag_has_its_effect_on_version_2(machine: Vm, module: str) -> None:
    _passes_inside(machine, [module])


def _passes_inside(machine: Vm, chosen: Sequence[str]) -> None:
    """These tests of tests/compat pass inside, and none else is chosen."""
    words = " ".join(f"tests/compat/{name}" for name in chosen)
    pytest_ = f"pytest -q -rf -p no:cacheprovider --timeout 900 --durations 5 --basetemp /tmp/inside --client docker {words}"
    done = machine.run(f"cd {ROOT} && {pytest_}", env=PROGRAMS, timeout_seconds=2900)
    print(done.stdout)
    assert done.code == 0, done.stdout[-20000:]


@pytest.fixture(scope="module")
def engine_inside(machine: Vm, images: Images) -> Iterator[Vm]:
    """The machine with a daemon whose data-root has project quotas; forwarding is off again when it begins."""
    machine.run("sysctl -qw net.ipv4.ip_forward=0").ok()
    with machine.start(["carrackd", "--data-root", "/quota/carrack"], env=PROGRAMS) as daemon:
        machine.run("until carrack version; do sleep 0.1; done", env=PROGRAMS)
        machine.run("carrack load", stdin=images.base_archive, env=PROGRAMS).ok()
        yield machine
        daemon.signal(15)
        assert daemon.wait() == 0, daemon.stderr


def test_the_machine_is_what_it_is_for(engine_inside: Vm) -> None:
    assert engine_inside.run("stat -fc %T /sys/fs/cgroup").ok() == "cgroup2fs"
    assert engine_inside.run("cat /sys/module/apparmor/parameters/enabled").ok() == "Y"
    assert engine_inside.run("uname -r").ok().startswith("6.1.")


def test_a_command_inside_has_an_exit_code_both_streams_and_its_input(engine_inside: Vm) -> None:
    done = engine_inside.run("cat; echo wrong >&2; exit 3", stdin="given")
    assert (done.code, done.stdout, done.stderr) == (3, "given", "wrong\n")


def test_two_commands_run_at_once_and_one_may_be_talked_to(engine_inside: Vm) -> None:
    with engine_inside.start("stty size; read line; echo got $line", tty=True) as first:
        first.expect(r"\d+ \d+")
        assert engine_inside.run("echo second").ok() == "second"
        first.send("this\n")
        first.expect("got this")
        assert first.wait() == 0


@pytest.mark.observes("docker run --memory", "docker run --cpus", "docker run --pids-limit")
def test_a_container_on_an_older_kernel_has_its_layers_and_its_limits(engine_inside: Vm) -> None:
    look = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max /sys/fs/cgroup/pids.max /var/www/index.html"
    words = f"carrack run --rm -m 64m --cpus 0.5 --pids-limit 50 busybox sh -c '{look}'"
    assert engine_inside.run(words, env=PROGRAMS).ok().split("\n") == ["67108864", "50000 100000", "50", "it works"]


@pytest.mark.observes("docker run --publish")
def test_a_published_port_answers_where_forwarding_was_off(engine_inside: Vm) -> None:
    engine_inside.run("carrack run -d --name web -p 8080:80 busybox httpd -f -p 80 -h /var/www", env=PROGRAMS).ok()
    assert engine_inside.run("curl -sS --retry 20 --retry-connrefused --retry-delay 0 http://127.0.0.1:8080/").ok() == "it works"
    engine_inside.run("carrack rm -f web", env=PROGRAMS).ok()
    assert engine_inside.run("ls /sys/fs/cgroup/carrack | grep -E '^[0-9a-f]{16}'").code == 1


@pytest.mark.observes("docker run --storage-opt")
def test_a_layer_of_limited_size_is_full_when_it_is_full(engine_inside: Vm) -> None:
    write = "dd if=/dev/zero bs=1M"
    script = f"{write} of=/big count=20; stat -c %s /big; rm /big; {write} of=/small count=4 && echo fits"
    words = f"carrack run --rm --storage-opt size=8m busybox sh -c '{script}'"
    done = engine_inside.run(words, env=PROGRAMS)
    size, verdict = done.stdout.split()
    assert int(size) <= 8 << 20
    assert verdict == "fits"
    assert "quota exceeded" in done.stderr.lower() or "no space left" in done.stderr.lower()
    unlimited = "carrack run --rm busybox sh -c 'dd if=/dev/zero of=/big bs=1M count=20 && echo fits'"
    assert engine_inside.run(unlimited, env=PROGRAMS).ok() == "fits"


@pytest.mark.observes("docker run --security-opt")
def test_apparmor_confines_a_container_by_default(engine_inside: Vm) -> None:
    def inside(script: str, *flags: str) -> str:
        done = engine_inside.run(["carrack", "run", "--rm", *flags, "busybox", "sh", "-c", script], env=PROGRAMS)
        return f"{done.stdout}{done.stderr}".strip()

    label = "cat /proc/self/attr/current"
    assert inside(label) == "carrack-default (enforce)"
    assert inside(label, "--security-opt", "apparmor=unconfined") == "unconfined"
    assert inside(label, "--security-opt", "apparmor=docker-default") == "carrack-default (enforce)"
    assert inside(label, "--privileged") == "unconfined"
    admin = ("--cap-add", "SYS_ADMIN")
    assert "denied" in inside("mount -t tmpfs none /tmp", *admin).lower()
    assert inside("mount -t tmpfs none /tmp && echo mounted", *admin, "--security-opt", "apparmor=unconfined") == "mounted"
    unmasked = ("--security-opt", "systempaths=unconfined")
    assert "denied" in inside("echo 1 > /proc/sys/vm/drop_caches", *unmasked).lower()
    assert "unable to apply apparmor profile" in inside("true", "--security-opt", "apparmor=no-such-profile")
    engine_inside.run("carrack run -d --name held busybox sleep 1000", env=PROGRAMS).ok()
    assert engine_inside.run(f"carrack exec held {label}", env=PROGRAMS).ok() == "carrack-default (enforce)"
    engine_inside.run("carrack rm -f held", env=PROGRAMS).ok()
    steps = "FROM busybox\nRUN cat /proc/self/attr/current\nRUN ! mount -t tmpfs none /tmp\n"
    built = engine_inside.run("carrack build --progress plain --no-cache -", stdin=steps, env=PROGRAMS)
    built.ok()
    assert "carrack-default (enforce)" in built.stdout + built.stderr
