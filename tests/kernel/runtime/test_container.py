"""What a program inside a container sees."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from carrack.oci.runtime_spec import (
    ConsoleSize,
    CpuLimits,
    Device,
    DeviceRule,
    MemoryLimits,
    PidsLimit,
    Process,
    Resources,
    Rlimit,
    Root,
    SpecMount,
    User,
)
from carrack.runtime import capabilities, defaults, seccomp_default

from .conftest import Box

MACHINE = os.uname().machine


def namespace(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{kind}")


@pytest.mark.parametrize("kind", ["mnt", "pid", "uts", "ipc", "net"])
def test_each_namespace_is_its_own(box: Box, kind: str) -> None:
    assert box.run(f"readlink /proc/self/ns/{kind}").strip() != namespace(kind)


def test_the_program_is_process_1_and_alone(box: Box) -> None:
    assert box.run("echo $$; echo /proc/[0-9]*") == "1\n/proc/1\n"


def test_the_hostname_is_the_containers(box: Box) -> None:
    assert box.run("hostname") == "box\n"
    assert socket.gethostname() != "box"


def test_the_loopback_is_up(box: Box) -> None:
    assert "inet 127.0.0.1/8" in box.run("ip addr show lo")


def test_no_path_of_the_host_remains(box: Box, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    assert box.run(f"test -e {tmp_path}/secret || echo gone") == "gone\n"


def test_what_is_written_lands_in_the_upper_directory(box: Box) -> None:
    box.run("echo hi > /written")
    assert (box.upper / "written").read_text() == "hi\n"


def test_a_read_only_root_refuses_writes(box: Box) -> None:
    told = box.make(box.spec("touch", "/x", root=Root("", readonly=True)))
    assert "Read-only file system" in told.init.output


def test_a_kernel_without_lowerdir_plus_mounts_by_a_string(box: Box) -> None:
    told = box.make(box.spec("sh", "-c", "echo hi > /x; ls /bin/busybox"), old_kernel=True)
    assert (told.init.output, told.init.error) == ("/bin/busybox\n", "")
    assert (box.upper / "x").exists()


def test_no_descriptor_but_three_reaches_the_program(box: Box) -> None:
    # the fourth is the directory that ls itself reads
    assert box.make(box.spec("ls", "/proc/self/fd")).init.output == "0\n1\n2\n3\n"


def test_no_signal_stays_ignored(box: Box) -> None:
    told = box.make(box.spec("grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"))
    assert told.init.output.split() == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16]


def test_the_session_is_its_own(box: Box) -> None:
    assert box.run("cat /proc/1/stat").split()[4:6] == ["1", "1"]


# ── capabilities, users, limits ──────────────────────────────────────────────────────────────────────────────────────────────


def test_root_has_dockers_fourteen_capabilities_and_none_to_inherit(box: Box) -> None:
    sets = dict(line.split() for line in box.run("grep Cap /proc/1/status").splitlines())
    assert sets == {
        "CapInh:": "0" * 16,
        "CapPrm:": "00000000a80425fb",
        "CapEff:": "00000000a80425fb",
        "CapBnd:": "00000000a80425fb",
        "CapAmb:": "0" * 16,
    }


def test_another_user_holds_no_capability(box: Box) -> None:
    sets = dict(line.split() for line in box.run("grep Cap /proc/1/status", user="www-data").splitlines())
    assert sets["CapEff:"] == sets["CapPrm:"] == "0" * 16
    assert sets["CapBnd:"] == "00000000a80425fb"


def test_a_user_is_looked_up_in_the_image_with_its_groups_and_home(box: Box) -> None:
    assert box.run("id; echo $HOME", user="www-data").splitlines() == [
        "uid=33(www-data) gid=33(www-data) groups=33(www-data),99(extra)",
        "/var/www",
    ]


def test_a_user_the_image_does_not_know_fails_in_dockers_words(box: Box) -> None:
    told = box.make(box.spec("true", user="nosuch"))
    assert told.init.error == "unable to find user nosuch: no matching entries in passwd file"
    assert told.init.kind == "InvalidParameter"


def test_stdio_belongs_to_the_user(box: Box) -> None:
    assert box.run("echo hi > /proc/self/fd/1", user="www-data") == "hi\n"


def test_all_capabilities_of_the_machine_are_given_and_the_missing_ones_told(box: Box) -> None:
    told = box.make(box.spec("sh", "-c", "grep CapEff /proc/1/status", caps=capabilities.NAMES))
    held = {f"{sum(1 << capabilities.NUMBERS[name] for name in capabilities.available()):016x}"}
    assert {told.init.output.split()[1]} == held
    missing = set(capabilities.NAMES) - set(capabilities.available())
    assert all(any(name in warning for warning in told.warnings) for name in missing)


def test_no_new_privileges_is_set(box: Box) -> None:
    assert box.run("grep NoNewPrivs /proc/1/status", process={"no_new_privileges": True}).split()[1] == "1"


def test_a_limit_of_the_process_is_set(box: Box) -> None:
    limits = (Rlimit("RLIMIT_NOFILE", 512, 256),)
    assert box.run("ulimit -Sn; ulimit -Hn", process={"rlimits": limits}) == "256\n512\n"


def test_the_umask_is_22_unless_said_otherwise(box: Box) -> None:
    assert box.run("umask") == "0022\n"
    assert box.run("umask", process={"user": User(umask=0o27)}) == "0027\n"


def test_the_environment_is_the_specs(box: Box) -> None:
    assert box.run("echo $COLOUR $HOME") == "blue /root\n"


def test_the_working_directory_is_made_when_missing(box: Box) -> None:
    assert box.run("pwd", process={"cwd": "/a/b"}) == "/a/b\n"


def test_a_lower_oom_score_than_allowed_is_told_and_left(box: Box) -> None:
    told = box.make(box.spec("cat", "/proc/1/oom_score_adj", process={"oom_score_adj": -500}))
    assert told.init.output == "-500\n" or any("oom_score_adj" in warning for warning in told.warnings)


# ── programs that cannot be executed ─────────────────────────────────────────────────────────────────────────────────────────

PREFIX = (
    "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: error during container init: "
)


@pytest.mark.parametrize(
    ("program", "cause", "exit_code"),
    [
        ("nosuch", 'exec: "nosuch": executable file not found in $PATH', 127),
        ("/bin/nosuch", 'exec: "/bin/nosuch": stat /bin/nosuch: no such file or directory', 127),
        ("/etc/passwd", 'exec: "/etc/passwd": permission denied', 126),
        ("/etc", 'exec: "/etc": is a directory: unknown: permission denied', 126),
    ],
)
def test_a_program_that_cannot_be_executed_fails_as_in_docker(box: Box, program: str, cause: str, exit_code: int) -> None:
    told = box.make(box.spec(program))
    assert told.init.error.removesuffix(": unknown") == f"{PREFIX}{cause}"
    assert told.init.exit_code == exit_code
    assert not told.cgroup_left


def test_a_file_of_no_known_format_ends_with_255_and_says_so(box: Box) -> None:
    (box.image / "garbage").write_bytes(b"\x00\x01\x02")
    (box.image / "garbage").chmod(0o755)
    told = box.make(box.spec("/garbage"))
    assert (told.init.status, told.init.output) == (255, "exec /garbage: exec format error\n")


# ── devices, masks ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_dev_holds_dockers_nodes_and_links(box: Box) -> None:
    names = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    core = ["core"] if os.path.exists("/proc/kcore") else []
    assert box.run("ls /dev").split() == [*core, *names.split()]


def test_the_null_device_works_for_everyone(box: Box) -> None:
    assert box.run("echo x > /dev/null && cat /dev/null && echo both", user="www-data") == "both\n"


def test_a_device_of_the_host_can_be_given(box: Box) -> None:
    linux = {
        "devices": (Device("c", "/dev/given", 1, 3, 0o666),),
        "resources": Resources(devices=(*defaults.DEVICE_RULES, DeviceRule(True, "c", 1, 3, "rwm"))),
    }
    assert box.run("stat -c %t:%T /dev/given; echo x > /dev/given", linux=linux) == "1:3\n"


def test_a_device_not_given_cannot_be_used_even_when_its_node_is_made(box: Box) -> None:
    told = box.make(
        box.spec("sh", "-c", "mknod /kmsg c 1 11; cat /kmsg", linux={"resources": Resources(devices=defaults.DEVICE_RULES)})
    )
    assert "Operation not permitted" in told.init.output


@pytest.mark.parametrize("path", ["/proc/sys/kernel/panic", "/sys/kernel/profiling"])
def test_the_hosts_switches_cannot_be_thrown(box: Box, path: str) -> None:
    told = box.make(box.spec("sh", "-c", f"echo 0 > {path}", caps=capabilities.NAMES))
    assert "Read-only file system" in told.init.output


def test_a_masked_file_is_empty_and_a_masked_directory_too(box: Box) -> None:
    linux = {"masked_paths": ("/etc/passwd", "/bin", "/nosuch")}
    box.image.joinpath("keep").mkdir()
    box.image.joinpath("keep", "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    box.image.joinpath("keep", "busybox").chmod(0o755)
    told = box.make(box.spec("/keep/busybox", "sh", "-c", "/keep/busybox cat /etc/passwd; /keep/busybox ls /bin", linux=linux))
    assert told.init.output == ""


# ── mounts ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def bind(source: Path, target: str, *options: str) -> tuple[SpecMount, ...]:
    return (*defaults.mounts(), SpecMount(target, "bind", str(source), ("rbind", *options)))


def test_a_bound_directory_is_shared_with_the_host(box: Box, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    box.run("echo hi > /new/place/x", mounts=bind(tmp_path / "volume", "/new/place"))
    assert (tmp_path / "volume" / "x").read_text() == "hi\n"


def test_a_bound_file_gets_a_file_to_lie_on(box: Box, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("127.0.0.1 me\n")
    assert box.run("cat /some/where/hosts", mounts=bind(tmp_path / "hosts", "/some/where/hosts")) == "127.0.0.1 me\n"


def test_a_read_only_bind_refuses_writes(box: Box, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    told = box.make(box.spec("touch", "/v/x", mounts=bind(tmp_path / "volume", "/v", "ro")))
    assert "Read-only file system" in told.init.output


def test_a_bind_is_private_by_default(box: Box, tmp_path: Path) -> None:
    assert " - " in (line := box.run("grep ' /v ' /proc/self/mountinfo", mounts=bind(tmp_path, "/v")))
    assert "shared:" not in line
    assert "master:" not in line


def test_a_missing_source_is_named(box: Box) -> None:
    told = box.make(box.spec("true", mounts=bind(Path("/nosuch/dir"), "/v")))
    assert "/nosuch/dir" in told.init.cause
    assert not told.cgroup_left


def test_a_tmpfs_has_its_size_and_mode(box: Box) -> None:
    mounts = (*defaults.mounts(), SpecMount("/scratch", "tmpfs", "tmpfs", ("noexec", "size=1m", "mode=700")))
    assert "noexec" in box.run("grep ' /scratch ' /proc/mounts", mounts=mounts)
    assert box.run("stat -c %a /scratch", mounts=mounts) == "700\n"


def test_tmpcopyup_begins_with_what_the_image_has(box: Box) -> None:
    mounts = (*defaults.mounts(), SpecMount("/etc", "tmpfs", "tmpfs", ("tmpcopyup",)))
    assert box.run("cat /etc/passwd; touch /etc/new", mounts=mounts).startswith("root:")
    assert not (box.upper / "etc").exists()


def test_the_cgroups_are_there_and_read_only(box: Box) -> None:
    linux = {"resources": Resources(memory=MemoryLimits(limit=64 << 20))}
    output = box.run("cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max", linux=linux)
    assert output == f"{64 << 20}\n"


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_more_processes_than_allowed_cannot_be_forked(box: Box) -> None:
    told = box.make(
        box.spec("sh", "-c", "sleep 1 & sleep 1 & sleep 1 & sleep 1 & true", linux={"resources": Resources(pids=PidsLimit(3))})
    )
    assert "can't fork" in told.init.output


def test_more_memory_than_allowed_kills_and_is_counted(box: Box) -> None:
    told = box.make(
        box.spec(
            "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1",
            linux={"resources": Resources(memory=MemoryLimits(limit=16 << 20, swap=16 << 20))},
        )
    )  # fmt: skip
    assert (told.init.status, told.init.oom_kills) == (137, 1)


def test_processor_time_is_limited(box: Box) -> None:
    linux = {"resources": Resources(cpu=CpuLimits(quota=50000, period=100000))}
    output = box.run("cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || cat /sys/fs/cgroup/cpu.max", linux=linux)
    assert output.split()[0] == "50000"


def test_the_sysctls_of_the_network_namespace_are_set(box: Box) -> None:
    output = box.run("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", linux={"sysctl": defaults.NETWORK_SYSCTLS})
    assert output == "0\n"


# ── seccomp ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("no_new_privileges", [False, True])
def test_the_default_profile_is_in_force(box: Box, no_new_privileges: bool) -> None:
    linux = {"seccomp": seccomp_default.profile(capabilities.DEFAULT, MACHINE)}
    told = box.make(
        box.spec(
            "sh",
            "-c",
            "grep Seccomp: /proc/1/status; mount -t tmpfs x /tmp",
            linux=linux,
            process={"no_new_privileges": no_new_privileges},
        )
    )
    assert told.init.output.split()[1] == "2"
    assert "permission denied" in told.init.output.lower() or "not permitted" in told.init.output


# ── console ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_terminal_is_a_pty_of_the_containers_own(box: Box) -> None:
    told = box.make(
        box.spec("sh", "-c", "tty; stty size; ls /dev/console", process={"terminal": True, "console_size": ConsoleSize(24, 91)})
    )
    assert told.init.output.split() == ["/dev/pts/0", "24", "91", "/dev/console"]


def test_a_terminal_belongs_to_its_user(box: Box) -> None:
    told = box.make(box.spec("sh", "-c", "stat -c %u:%g $(tty)", process={"terminal": True, "user": User(uid=1000, gid=1000)}))
    assert told.init.output == "1000:5\r\n"


def test_control_c_on_the_terminal_interrupts(box: Box) -> None:
    script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.01; done"
    told = box.make(box.spec("sh", "-c", script, process={"terminal": True}), typed=b"\x03")
    assert (told.init.status, told.init.output.split()[-1]) == (5, "^Ccaught")


# ── exec ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def program(*args: str, **changes: object) -> Process:
    fields = {
        "args": args,
        "env": (defaults.DEFAULT_PATH,),
        "capabilities": defaults.capability_sets(capabilities.DEFAULT),
        **changes,
    }
    return Process(**fields)  # type: ignore[arg-type]


def test_an_exec_is_in_every_namespace_of_the_container(box: Box) -> None:
    script = (
        "for n in mnt pid uts ipc net cgroup; do test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo $n; done;"
        "hostname"
    )
    told = box.make(box.spec("sleep", "1000"), execs=(program("sh", "-c", script),), keep_init=True)
    assert (told.execs[0].status, told.execs[0].output) == (0, "box\n")


def test_an_exec_holds_what_its_process_says_and_is_in_the_cgroup(box: Box) -> None:
    script = "grep -E 'Cap(Eff|Bnd|Inh)|Seccomp:' /proc/self/status; grep memory /proc/self/cgroup"
    linux = {"seccomp": seccomp_default.profile(capabilities.DEFAULT, MACHINE)}
    told = box.make(box.spec("sleep", "1000", linux=linux), execs=(program("sh", "-c", script),), keep_init=True)
    words = told.execs[0].output.split()
    assert words[1::2][:4] == ["0" * 16, "00000000a80425fb", "00000000a80425fb", "2"]
    assert box.cgroup in told.execs[0].output


def test_an_exec_gets_no_descriptor_but_three(box: Box) -> None:
    told = box.make(box.spec("sleep", "1000"), execs=(program("sh", "-c", "ls /proc/$$/fd; true"),), keep_init=True)
    assert told.execs[0].output == "0\n1\n2\n"


def test_an_exec_may_be_another_user_in_another_directory(box: Box) -> None:
    process = program("sh", "-c", "id; pwd", user=User(username="www-data"), cwd="/tmp")
    told = box.make(box.spec("sleep", "1000"), execs=(process,), keep_init=True)
    assert told.execs[0].output == "uid=33(www-data) gid=33(www-data) groups=33(www-data),99(extra)\n/tmp\n"


def test_a_limit_of_one_process_leaves_room_for_an_exec(box: Box) -> None:
    limited = program("sh", "-c", "ulimit -u", user=User(uid=4711), rlimits=(Rlimit("RLIMIT_NPROC", 1, 1),))
    told = box.make(box.spec("sleep", "1000"), execs=(limited,), keep_init=True)
    assert (told.execs[0].error, told.execs[0].output) == ("", "1\n")


def test_dockers_least_memory_is_enough_to_start_and_to_exec(box: Box) -> None:
    linux = {"resources": Resources(memory=MemoryLimits(limit=6 << 20, swap=6 << 20))}
    told = box.make(box.spec("sleep", "1000", linux=linux), execs=(program("true"),) * 3, keep_init=True)
    assert (told.init.error, told.init.oom_kills, [each.status for each in told.execs]) == ("", 0, [0, 0, 0])


def test_an_exec_on_a_terminal_has_one_of_the_containers(box: Box) -> None:
    told = box.make(
        box.spec("sleep", "1000"), execs=(program("sh", "-c", "tty; echo $(cat /proc/$$/stat)", terminal=True),), keep_init=True
    )
    lines = told.execs[0].output.split("\r\n")
    assert lines[0] == "/dev/pts/0"
    fields = lines[1].split()
    assert fields[0] == fields[5]  # leader of its session


@pytest.mark.parametrize(
    ("args", "cwd", "cause", "exit_code"),
    [
        (("nosuch",), "/", 'exec: "nosuch": executable file not found in $PATH', 127),
        (("/etc",), "/", 'exec: "/etc": is a directory: unknown: permission denied', 126),
        (("true",), "/nosuch", 'chdir to cwd ("/nosuch") set in config.json failed: no such file or directory', 127),
    ],
)
def test_an_exec_that_fails_says_so_in_dockers_words(box: Box, args: tuple[str, ...], cwd: str, cause: str, exit_code: int) -> None:
    told = box.make(box.spec("sleep", "1000"), execs=(program(*args, cwd=cwd),), keep_init=True)
    told_text = told.execs[0].error.removesuffix(": unknown")
    assert told_text == f"OCI runtime exec failed: exec failed: unable to start container process: {cause}"
    assert told.execs[0].exit_code == exit_code


# ── undo ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_abandoned_container_leaves_nothing(box: Box) -> None:
    told = box.make(box.spec("sleep", "1000"), abandon=True)
    assert not told.cgroup_left
    assert not Path(f"/proc/{told.pid}").exists()
