"""Attempts to break out, each by a known way. Names in brackets are those of the laws of docs/architecture.md or of a CVE."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from carrack.kernel import process as kernel_process
from carrack.oci.runtime_spec import Process, SpecMount
from carrack.runtime import capabilities, cgroups, defaults
from carrack.runtime.cgroups.layout import Layout

from .conftest import DRIVER, SOURCES, Box

PTRACER = (*capabilities.DEFAULT, "CAP_SYS_PTRACE")
PTRACER_MASK = f"{0xA80425FB | 1 << 19:016x}"


@pytest.mark.law(2)
def test_no_process_of_the_runtime_is_ever_seen_inside_while_it_execs(box: Box) -> None:
    """[law 2] A container that may trace looks at everything that appears in its pid namespace."""
    watcher = "while :; do grep -h CapEff /proc/[0-9]*/status; done"
    entering = Process(args=("true",), env=(defaults.DEFAULT_PATH,), capabilities=defaults.capability_sets(PTRACER))
    told = box.make(box.spec("sh", "-c", watcher, caps=PTRACER), execs=(entering,) * 20, keep_init=True)
    assert [each.status for each in told.execs] == [0] * 20
    seen = {line.split()[1] for line in told.init.output.splitlines() if line.startswith("CapEff:\t") and len(line) == 24}
    assert seen == {PTRACER_MASK}


def test_a_proc_that_is_a_link_is_refused(box: Box) -> None:
    """[CVE-2019-19921] Or the masks would be laid over the wrong place."""
    (box.image / "proc").symlink_to("/tmp")
    told = box.make(box.spec("true"))
    assert told.init.cause == 'filesystem "proc" must be mounted on ordinary directory'


def test_a_link_in_the_image_leads_no_mount_outside(box: Box, tmp_path: Path) -> None:
    """[CVE-2021-30465]"""
    outside, volume = tmp_path / "outside", tmp_path / "volume"
    outside.mkdir()
    volume.mkdir()
    (box.image / "data").symlink_to(f"../../../../../../../../{outside}")
    mounts = (*defaults.mounts(), SpecMount("/data/x", "bind", str(volume), ("rbind",)))
    told = box.make(box.spec("sh", "-c", "echo hi > /data/x/y", mounts=mounts))
    assert (told.init.error, told.init.status) == ("", 0)
    assert list(outside.iterdir()) == []
    assert (volume / "y").exists()


def test_a_dev_that_is_a_link_makes_no_node_outside(box: Box, tmp_path: Path) -> None:
    """[CVE-2024-45310]"""
    outside = tmp_path / "outside"
    outside.mkdir()
    (box.image / "dev").symlink_to(outside)
    box.make(box.spec("true"))
    assert list(outside.iterdir()) == []


def test_a_false_null_device_cannot_serve_as_a_mask(box: Box, tmp_path: Path) -> None:
    """[CVE-2025-31133]"""
    dev = tmp_path / "dev"
    dev.mkdir()
    (dev / "null").write_text("an ordinary file")
    mounts = (SpecMount("/proc", "proc", "proc"), SpecMount("/dev", "bind", str(dev), ("rbind",)))
    told = box.make(box.spec("true", mounts=mounts, linux={"masked_paths": ("/etc/passwd",)}))
    assert "/dev/null inside the container is not the null device" in told.init.cause


@pytest.mark.parametrize("place", ["/proc/sys/kernel/core_pattern", "/proc/self/attr/exec", "/proc/uptime"])
def test_a_console_that_is_a_link_is_not_laid_over_proc(box: Box, tmp_path: Path, place: str) -> None:
    """[CVE-2025-52565] The /dev comes from a volume that somebody else can write."""
    dev = tmp_path / "dev"
    dev.mkdir()
    (dev / "console").symlink_to(place)
    for name in ("pts", "shm", "mqueue"):
        (dev / name).mkdir()
    mounts = [SpecMount("/dev", "bind", str(dev), ("rbind",)) if each.destination == "/dev" else each for each in defaults.mounts()]
    told = box.make(box.spec("cat", place, mounts=tuple(mounts), process={"terminal": True}))
    assert "/dev/console lies in /proc" in told.init.cause
    assert not told.cgroup_left


@pytest.mark.parametrize("number", range(3, 13))
def test_no_descriptor_of_the_runtime_serves_as_a_working_directory(box: Box, number: int) -> None:
    """[CVE-2024-21626]"""
    told = box.make(box.spec("ls", process={"cwd": f"/proc/self/fd/{number}"}))
    assert told.init.error != ""
    assert not told.cgroup_left


def test_an_exec_cannot_start_in_a_descriptor_of_the_runtime(box: Box) -> None:
    """[CVE-2024-21626]"""
    ways = tuple(
        Process(args=("ls",), env=(defaults.DEFAULT_PATH,), cwd=f"/proc/self/fd/{number}") for number in (3, 4, 5, 6, 7, 8)
    )
    told = box.make(box.spec("sleep", "1000"), execs=ways, keep_init=True)
    assert all(each.error for each in told.execs)


@pytest.mark.parametrize("path", ["/proc/sys/net", "/proc/self/attr", "/link/sys"])
def test_nothing_can_be_mounted_inside_proc_by_whatever_name(box: Box, path: str) -> None:
    """[CVE-2019-16884, CVE-2023-27561, CVE-2025-52881]"""
    (box.image / "link").symlink_to("/proc")
    told = box.make(box.spec("true", mounts=(*defaults.mounts(), SpecMount(path, "tmpfs", "tmpfs"))))
    assert told.init.cause.endswith(f'"{path}" cannot be mounted because it is inside /proc')


def test_proc_cannot_be_an_ordinary_directory(box: Box, tmp_path: Path) -> None:
    """[CVE-2019-16884]"""
    told = box.make(box.spec("true", mounts=(SpecMount("/proc", "bind", str(tmp_path), ("rbind",)),)))
    assert told.init.cause == '"/proc" cannot be mounted because it is not of type proc'


def test_the_files_of_proc_that_lxcfs_replaces_may_be_replaced(box: Box, tmp_path: Path) -> None:
    (tmp_path / "uptime").write_text("1 1\n")
    mounts = (*defaults.mounts(), SpecMount("/proc/uptime", "bind", str(tmp_path / "uptime"), ("bind",)))
    assert box.run("cat /proc/uptime", mounts=mounts) == "1 1\n"


@pytest.mark.law(5)
@pytest.mark.parametrize("user", ["", "www-data"])
def test_a_supervisor_that_dies_takes_its_container_with_it(box: Box, user: str) -> None:
    """[law 5] Also after the change of credentials, which takes a death signal back."""
    order = {
        "spec": box.spec("sleep", "1000", user=user),
        "lower": (str(box.image), str(box.lower)),
        "upper": str(box.upper),
        "work": str(box.place / "work"),
        "cgroup": box.cgroup,
    }
    environment = {"PYTHONPATH": str(SOURCES), "PATH": os.environ["PATH"]}
    driver = subprocess.Popen([sys.executable, str(DRIVER)], stdin=subprocess.PIPE, env=environment)
    assert driver.stdin is not None
    driver.stdin.write(msgspec.json.encode(order))
    driver.stdin.close()
    init = _running_init(box, driver)
    pidfd = os.pidfd_open(init)
    kernel_process.send_signal(driver_pidfd := os.pidfd_open(driver.pid), signal.SIGKILL)
    driver.wait()
    os.close(driver_pidfd)
    assert select.select((pidfd,), (), (), 10)[0] == [pidfd]
    os.close(pidfd)


def _running_init(box: Box, driver: subprocess.Popen[bytes]) -> int:
    """The pid of the container's init once it executes its program."""
    while driver.poll() is None:
        for pid in cgroups.open(box.cgroup).processes():
            try:
                if Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\0" + b"1000\0":
                    return pid
            except OSError:
                continue
    raise AssertionError("the driver ended early")


# ── version 2, on whatever hierarchy of it the machine has ───────────────────────────────────────────────────────────────────


@pytest.fixture
def unified(box: Box) -> cgroups.CgroupPlan:
    found = cgroups.detect().unified
    if not found:
        pytest.skip("this machine has no cgroup version 2 hierarchy")
    return cgroups.CgroupPlan(box.cgroup, Layout(2, (), found), (), ((False, "a *:* rwm"), (True, "c 1:3 rwm")))


def inside(living: cgroups.Cgroup, program: str) -> str:
    """What a Python program prints in that cgroup."""
    run = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True, preexec_fn=living.join)
    return run.stdout


def test_devices_of_version_2_are_denied_unless_allowed(unified: cgroups.CgroupPlan) -> None:
    living, _ = cgroups.make(unified)
    try:
        assert inside(living, "open('/dev/null')") == ""
        tried = "\ntry:\n open('/dev/zero')\nexcept PermissionError:\n print('refused')"
        assert inside(living, tried) == "refused\n"
    finally:
        living.remove()


def test_new_device_rules_of_version_2_replace_the_old(unified: cgroups.CgroupPlan) -> None:
    living, _ = cgroups.make(unified)
    try:
        living.restrict_devices(((False, "a *:* rwm"), (True, "c 1:5 r")))
        assert inside(living, "open('/dev/zero')") == ""
        assert inside(living, "\ntry:\n open('/dev/null')\nexcept PermissionError:\n print('refused')") == "refused\n"
    finally:
        living.remove()


def test_who_shall_be_beside_a_process_finds_its_cgroup_and_no_other(unified: cgroups.CgroupPlan) -> None:
    living, _ = cgroups.make(unified._replace(devices=((True, "a *:* rwm"),)))
    part = Path(living.directory("") + "/init")
    part.mkdir()
    with subprocess.Popen(["/bin/busybox", "sleep", "1000"]) as sleeper:
        (part / "cgroup.procs").write_text(str(sleeper.pid))
        fd = living.directory_fd_of(sleeper.pid)
        assert os.readlink(f"/proc/self/fd/{fd}") == str(part)
        os.close(fd)
        with pytest.raises(OSError, match="is not in it"):
            living.directory_fd_of(os.getpid())
        living.kill()
    living.remove()


def test_version_2_freezes_thaws_and_kills(unified: cgroups.CgroupPlan) -> None:
    living, _ = cgroups.make(unified._replace(devices=((True, "a *:* rwm"),)))
    with subprocess.Popen(["/bin/busybox", "sleep", "1000"]) as sleeper:
        living.add(sleeper.pid)
        assert living.processes() == [sleeper.pid]
        living.freeze()
        assert living.frozen()
        living.thaw()
        assert not living.frozen()
        living.kill()
        assert sleeper.wait() == -signal.SIGKILL
    living.remove()
    assert not Path(living.directory("")).exists()


def test_version_1_freezes_thaws_and_kills(box: Box) -> None:
    if cgroups.detect().version != 1:
        pytest.skip("this machine has no cgroup version 1")
    living, _ = cgroups.make(cgroups.plan(box.cgroup, None))
    with subprocess.Popen(["/bin/busybox", "sleep", "1000"]) as sleeper:
        living.add(sleeper.pid)
        living.freeze()
        assert living.frozen()
        living.thaw()
        assert not living.frozen()
        living.freeze()
        living.kill()
        assert sleeper.wait() == -signal.SIGKILL
    living.remove()
    assert not Path(living.directory("memory")).exists()
