"""What each flag of `run` does, seen from inside the container or in the kernel, never in `inspect` alone."""

import os
import re
from pathlib import Path

import pytest

from tests.rig.engine import CommandLine
from tests.rig.waiting import until

pytestmark = pytest.mark.both_clients

LIMIT_FILES = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true"
QUOTA_FILES = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null || true"


@pytest.mark.observes("docker run", "docker run --rm", "POST /containers/create", "POST /containers/{id}/start")
def test_run_prints_what_the_container_prints(cli: CommandLine) -> None:
    assert cli.ok("run", "--rm", "busybox", "echo", "hello") == "hello"


def test_standard_output_and_error_arrive_on_their_own_streams(cli: CommandLine) -> None:
    ended = cli.shell("echo out; echo err >&2")
    assert (ended.stdout, ended.stderr) == ("out\n", "err\n")


@pytest.mark.observes("docker run --interactive")
def test_interactive_hands_over_standard_input_and_its_end(cli: CommandLine) -> None:
    assert cli.ok("run", "--rm", "-i", "busybox", "wc", "-c", stdin=b"x" * 300_000) == "300000"


def test_without_interactive_standard_input_is_empty(cli: CommandLine) -> None:
    assert cli.ok("run", "--rm", "busybox", "wc", "-c", stdin=b"unread") == "0"


@pytest.mark.observes("docker run --rm", "GET /containers/json")
def test_rm_leaves_no_container(cli: CommandLine) -> None:
    cli.ok("run", "--rm", "--name", "gone", "busybox", "true")
    until(lambda: cli.ok("ps", "-aq") == "", "the container to go")


@pytest.mark.observes("docker run --detach", "docker run --name")
def test_detach_prints_the_id_and_the_container_runs_on(cli: CommandLine) -> None:
    container_id = cli.ok("run", "-d", "--name", "runner", "busybox", "sleep", "1000")
    assert re.fullmatch(r"[0-9a-f]{64}", container_id)
    assert cli.ok("ps", "-q", "--no-trunc", "--filter", "name=runner") == container_id


@pytest.mark.observes("docker run --env")
def test_env_sets_a_variable(cli: CommandLine) -> None:
    assert cli.shell("echo $COLOUR", "-e", "COLOUR=red").ok() == "red"


@pytest.mark.observes("docker run --env")
def test_env_without_a_value_takes_the_callers(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_CALLER", "blue")
    assert (
        cli.ok(
            "run", "--rm", "-e", "FROM_CALLER", "-e", "NOT_SET", "busybox", "sh", "-c", "env | grep -c -e CALLER=blue -e NOT_SET"
        )
        == "1"
    )


@pytest.mark.observes("docker run --workdir")
def test_workdir_is_made_when_missing(cli: CommandLine) -> None:
    assert cli.ok("run", "--rm", "-w", "/deep/down", "busybox", "pwd") == "/deep/down"


@pytest.mark.observes("docker run --user")
@pytest.mark.parametrize(
    ("user", "identity"),
    [
        ("app", "uid=1000(app) gid=1000(app) groups=10(wheel),1000(app),2000(extra)"),
        ("1000", "uid=1000(app) gid=1000(app) groups=10(wheel),1000(app),2000(extra)"),
        ("app:wheel", "uid=1000(app) gid=10(wheel) groups=10(wheel)"),
        ("4000:5000", "uid=4000 gid=5000 groups=5000"),
    ],
)
def test_user_decides_uid_gid_and_groups(cli: CommandLine, user: str, identity: str) -> None:
    assert _sorted_groups(cli.ok("run", "--rm", "-u", user, "busybox", "id")) == identity


@pytest.mark.observes("docker run --user")
def test_an_unknown_user_is_refused(cli: CommandLine) -> None:
    ended = cli("run", "--rm", "-u", "nobody-here", "busybox", "true")
    assert ended.code in {125, 126}
    assert "unable to find user nobody-here: no matching entries in passwd file" in ended.stderr


@pytest.mark.observes("docker run --user")
def test_a_user_other_than_root_has_no_effective_capabilities(cli: CommandLine) -> None:
    assert cli.ok("run", "--rm", "-u", "app", "busybox", "grep", "CapEff", "/proc/self/status").split()[1] == "0" * 16


@pytest.mark.observes("docker run --entrypoint")
def test_entrypoint_replaces_the_images_command(cli: CommandLine) -> None:
    assert cli.ok("run", "--rm", "--entrypoint", "/bin/echo", "busybox", "one", "two") == "one two"


@pytest.mark.observes("docker run --hostname")
def test_hostname_is_the_containers_and_stands_in_hosts(cli: CommandLine) -> None:
    seen = cli.ok(
        "run", "--rm", "--hostname", "ship", "busybox", "sh", "-c", "hostname; cat /etc/hostname; grep -c ship /etc/hosts"
    )
    assert seen.split() == ["ship", "ship", "1"]


def test_the_hostname_is_the_short_id_by_default(cli: CommandLine) -> None:
    container_id = cli.ok("run", "-d", "busybox", "sleep", "1000")
    assert cli.ok("exec", container_id, "hostname") == container_id[:12]


@pytest.mark.observes("docker run --volume")
def test_a_bind_mount_is_the_hosts_folder(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("from the host")
    seen = cli.shell("cat /data/given; echo back > /data/made", "-v", f"{tmp_path}:/data").ok()
    assert seen == "from the host"
    assert (tmp_path / "made").read_text() == "back\n"


@pytest.mark.observes("docker run --volume")
def test_a_read_only_bind_mount_refuses_writes(cli: CommandLine, tmp_path: Path) -> None:
    ended = cli("run", "--rm", "-v", f"{tmp_path}:/data:ro", "busybox", "touch", "/data/x")
    assert ended.code == 1
    assert "Read-only file system" in ended.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.observes("docker run --volume")
def test_a_bind_mount_of_a_missing_path_makes_a_folder(cli: CommandLine, tmp_path: Path) -> None:
    cli.ok("run", "--rm", "-v", f"{tmp_path}/new:/data", "busybox", "touch", "/data/x")
    assert (tmp_path / "new/x").exists()


@pytest.mark.observes("docker run --volume")
def test_a_single_file_can_be_bound(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("single")
    assert cli.ok("run", "--rm", "-v", f"{tmp_path}/one:/etc/one:ro", "busybox", "cat", "/etc/one") == "single"


@pytest.mark.observes("docker run --volume")
def test_a_named_volume_keeps_what_a_container_wrote(cli: CommandLine) -> None:
    cli.shell("echo kept > /data/f", "-v", "store:/data").ok()
    assert cli.ok("run", "--rm", "-v", "store:/data", "busybox", "cat", "/data/f") == "kept"


@pytest.mark.observes("docker run --volume")
def test_a_new_named_volume_starts_with_the_images_content(cli: CommandLine) -> None:
    seen = cli.shell("ls -ln /home | tail -n 1; ls -d /home/app", "-v", "site:/home").ok()
    assert "/home/app" in seen


@pytest.mark.observes("docker run --volume", "docker run --rm")
def test_an_anonymous_volume_goes_with_its_rm_container(cli: CommandLine) -> None:
    cli.ok("run", "--rm", "-v", "/data", "busybox", "touch", "/data/x")
    until(lambda: cli.ok("volume", "ls", "-q") == "", "the volume to go")


@pytest.mark.observes("docker run --read-only")
def test_read_only_closes_the_root_file_system(cli: CommandLine) -> None:
    ended = cli.shell("touch /dev/shm/fine && touch /x", "--read-only")
    assert ended.code == 1
    assert "/x: Read-only file system" in ended.stderr


@pytest.mark.observes("docker run --memory")
def test_memory_is_the_cgroups_limit(cli: CommandLine) -> None:
    assert cli.shell(LIMIT_FILES, "--memory", "64m").ok() == str(64 << 20)


@pytest.mark.observes("docker run --memory")
def test_a_process_past_its_memory_is_killed_and_so_recorded(cli: CommandLine) -> None:
    hungry = ("dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")
    assert cli("run", "--name", "hungry", "--memory", "16m", "busybox", *hungry).code == 137
    assert cli.ok("inspect", "--format", "{{.State.OOMKilled}} {{.State.ExitCode}}", "hungry") == "true 137"


@pytest.mark.observes("docker run --cpus")
def test_cpus_is_the_schedulers_quota(cli: CommandLine) -> None:
    assert cli.shell(QUOTA_FILES, "--cpus", "0.5").ok() in {"50000", "50000 100000"}


@pytest.mark.observes("docker run --pids-limit")
def test_pids_limit_stops_a_fork_bomb(cli: CommandLine) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 5 & done; echo all started"
    ended = cli.shell(script, "--pids-limit", "5")
    assert "can't fork" in ended.stderr
    assert "all started" not in ended.stdout


@pytest.mark.observes("docker run --cap-drop")
def test_cap_drop_takes_a_power_away(cli: CommandLine) -> None:
    assert cli("run", "--rm", "busybox", "chown", "app", "/etc/passwd").code == 0
    ended = cli("run", "--rm", "--cap-drop", "CHOWN", "busybox", "chown", "app", "/etc/passwd")
    assert "Operation not permitted" in ended.stderr


@pytest.mark.observes("docker run --cap-add")
def test_cap_add_gives_a_power(cli: CommandLine) -> None:
    refused = cli("run", "--rm", "busybox", "ip", "link", "set", "lo", "down")
    assert refused.code != 0
    assert "Operation not permitted" in refused.stderr
    cli.ok("run", "--rm", "--cap-add", "net_admin", "busybox", "ip", "link", "set", "lo", "down")


@pytest.mark.observes("docker run --cap-add", "docker run --cap-drop")
def test_only_what_is_added_remains_after_dropping_all(cli: CommandLine) -> None:
    seen = cli.ok("run", "--rm", "--cap-drop", "ALL", "--cap-add", "CAP_KILL", "busybox", "grep", "CapEff", "/proc/self/status")
    assert int(seen.split()[1], 16) == 1 << 5


@pytest.mark.peer_lacks("runc gives no --privileged where the host itself lacks a capability")
@pytest.mark.observes("docker run --privileged")
def test_privileged_has_every_capability_and_no_filter(cli: CommandLine) -> None:
    seen = cli.ok("run", "--rm", "--privileged", "busybox", "grep", "-E", "CapEff|Seccomp:", "/proc/self/status").split()
    bounding = next(line for line in Path("/proc/1/status").read_text().splitlines() if line.startswith("CapBnd"))
    assert int(seen[1], 16) & ~int(bounding.split()[1], 16) == 0
    assert int(seen[1], 16).bit_count() >= 35
    assert seen[3] == "0"


@pytest.mark.peer_lacks("runc gives no --privileged where the host itself lacks a capability")
@pytest.mark.observes("docker run --privileged")
def test_privileged_may_write_sys_and_sees_the_hosts_devices(cli: CommandLine) -> None:
    script = "grep ' /sys ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1; ls /dev | wc -l; mount -t tmpfs none /tmp"
    mode, devices = cli.shell(script, "--privileged").ok().split()[:2]
    assert mode == "rw"
    assert int(devices) > 30


@pytest.mark.observes("docker run --label")
def test_labels_are_what_ps_filters_by(cli: CommandLine) -> None:
    marked = cli.ok("run", "-d", "--label", "team=blue", "--label", "bare", "busybox", "sleep", "1000")
    cli.ok("run", "-d", "busybox", "sleep", "1000")
    assert cli.ok("ps", "-q", "--no-trunc", "--filter", "label=team=blue", "--filter", "label=bare") == marked


@pytest.mark.observes("docker run --restart")
def test_restart_on_failure_tries_so_many_times(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "stumbles", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo try; exit 3")
    form = "{{.State.Status}} {{.RestartCount}} {{.State.ExitCode}}"
    until(lambda: cli.ok("inspect", "--format", form, "stumbles") == "exited 2 3", "the last try to end")
    assert cli.ok("logs", "stumbles").split() == ["try"] * 3


@pytest.mark.observes("docker run --restart")
def test_restart_always_brings_a_killed_process_back(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "phoenix", "--restart", "always", "busybox", "sleep", "1000")
    first = int(cli.ok("inspect", "--format", "{{.State.Pid}}", "phoenix"))
    os.kill(first, 9)

    def back() -> bool:
        status, pid = cli.ok("inspect", "--format", "{{.State.Status}} {{.State.Pid}}", "phoenix").split()
        return status == "running" and int(pid) not in {0, first}

    until(back, "the container to come back")


@pytest.mark.observes("docker run --restart", "docker stop")
def test_a_stopped_container_is_not_restarted(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "still", "--restart", "always", "busybox", "sleep", "1000")
    cli.ok("stop", "-t", "0", "still")
    assert cli.ok("inspect", "--format", "{{.State.Status}} {{.RestartCount}}", "still") == "exited 0"


@pytest.mark.observes("docker run --stop-signal")
def test_stop_signal_is_what_stop_sends(cli: CommandLine) -> None:
    script = "trap 'exit 31' USR1; trap 'exit 15' TERM; echo ready; sleep 1000 & wait"
    cli.ok("run", "-d", "--name", "listener", "--stop-signal", "USR1", "busybox", "sh", "-c", script)
    with cli.pipes("logs", "-f", "listener") as log:
        log.expect("ready")
    cli.ok("stop", "listener")
    assert cli.ok("inspect", "--format", "{{.State.ExitCode}}", "listener") == "31"


def _sorted_groups(identity: str) -> str:
    """`id` with its groups in order: engines may give them to the kernel in any."""
    head, _, groups = identity.partition("groups=")
    rows = sorted(groups.split(","), key=lambda row: int(re.sub(r"\D.*", "", row)))
    return head + "groups=" + ",".join(rows)
