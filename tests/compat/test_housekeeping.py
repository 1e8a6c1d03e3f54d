"""version, info, ping, disk usage, prune and update: what is asked of the engine as a whole, and what changes what is there."""

import json
import re

import pytest

from tests.conftest import Images
from tests.rig.archives import Entry, Recipe, docker_archive, tar
from tests.rig.engine import CommandLine, Engine
from tests.rig.waiting import until

pytestmark = pytest.mark.both_clients


@pytest.mark.observes("GET /_ping", "HEAD /_ping")
def test_ping_says_ok_and_what_the_engine_speaks(engine: Engine) -> None:
    got, head = engine.api("GET", "/_ping"), engine.api("HEAD", "/_ping")
    assert (got.status, got.body) == (200, b"OK")
    assert (head.status, head.body) == (200, b"")
    for answer in (got, head):
        assert re.fullmatch(r"1\.\d\d", answer.headers["api-version"])
        assert answer.headers["ostype"] == "linux"
        assert "no-cache" in answer.headers["cache-control"]


@pytest.mark.docker_since(23)
@pytest.mark.observes("docker version", "docker version --format", "GET /version")
def test_version_names_client_and_server(cli: CommandLine) -> None:
    shown = json.loads(cli.ok("version", "--format", "json"))
    api = cli.engine.api("GET", "/version").json
    assert shown["Server"]["ApiVersion"] == api["ApiVersion"]
    assert (shown["Server"]["Os"], shown["Server"]["Arch"]) == ("linux", "amd64")
    assert "Server" in cli.ok("version")


@pytest.mark.observes("docker info", "docker info --format", "GET /info")
def test_info_counts_containers_by_state(cli: CommandLine) -> None:
    cli.ok("run", "-d", "busybox", "sleep", "1000")
    cli.ok("create", "busybox", "true")
    form = "{{.Containers}} {{.ContainersRunning}} {{.ContainersStopped}} {{.OSType}}"
    assert cli.ok("info", "--format", form) == "2 1 1 linux"
    assert "Storage Driver: overlay" in cli.ok("info")


@pytest.mark.observes("docker system df", "GET /system/df")
def test_system_df_counts_what_is_there(cli: CommandLine) -> None:
    cli.ok("run", "-d", "-v", "kept:/k", "busybox", "sleep", "1000")
    rows = {row.split("  ")[0]: row.split() for row in cli.ok("system", "df").splitlines()}
    assert rows["Containers"][1:3] == ["1", "1"]
    assert rows["Images"][1:3] == ["1", "1"]
    assert rows["Local Volumes"][2:4] == ["1", "1"]


@pytest.mark.observes("docker container prune", "docker container prune --force", "POST /containers/prune")
def test_container_prune_takes_what_is_stopped(cli: CommandLine) -> None:
    runs = cli.ok("run", "-d", "busybox", "sleep", "1000")
    stopped = cli.ok("create", "busybox", "true")
    said = cli.ok("container", "prune", "-f")
    assert stopped in said
    assert cli.ok("ps", "-aq", "--no-trunc") == runs


@pytest.mark.observes("docker container prune --filter")
def test_container_prune_can_be_told_which(cli: CommandLine) -> None:
    cli.ok("create", "--name", "goes", "--label", "old", "busybox", "true")
    cli.ok("create", "--name", "stays", "busybox", "true")
    cli.ok("container", "prune", "-f", "--filter", "label=old")
    assert cli.ok("ps", "-a", "--format", "{{.Names}}") == "stays"


@pytest.mark.observes("docker image prune", "docker image prune --force", "docker image prune --all", "POST /images/prune")
def test_image_prune_takes_dangling_images_and_with_all_unused_ones(cli: CommandLine, images: Images) -> None:
    cli.ok("run", "-d", "busybox", "sleep", "1000")
    for name in ("old", "new"):
        cli.ok("load", stdin=docker_archive(Recipe((images.rootfs, tar([Entry(name)])), ("moving:1",))))
    assert len(cli.ok("images", "-q").split()) == 3
    assert "Total reclaimed space" in cli.ok("image", "prune", "-f")
    assert len(cli.ok("images", "-q").split()) == 2
    cli.ok("image", "prune", "-af")
    assert cli.ok("images", "--format", "{{.Repository}}") == "busybox"


@pytest.mark.docker_since(23)
@pytest.mark.observes("docker volume prune", "docker volume prune --force", "docker volume prune --all", "POST /volumes/prune")
def test_volume_prune_takes_what_no_container_uses(cli: CommandLine) -> None:
    cli.ok("create", "-v", "used:/u", "busybox", "true")
    cli.ok("volume", "create", "unused")
    words = ["volume", "prune", "-f"]
    if cli.engine.kind == "carrackd":  # until API 1.42 named volumes went without --all
        assert "unused" not in cli.ok(*words)
        words.append("-a")
    cli.ok(*words)
    assert cli.ok("volume", "ls", "-q") == "used"


@pytest.mark.observes("docker update", "docker update --memory", "docker update --pids-limit", "POST /containers/{id}/update")
def test_update_changes_the_limits_of_a_running_container(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "grows", "--memory", "32m", "busybox", "sleep", "1000")
    cli.ok("update", "--memory", "64m", "--memory-swap", "-1", "--pids-limit", "50", "grows")
    read = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null;"
    read += "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null || true"
    assert cli.ok("exec", "grows", "sh", "-c", read).split() == [str(64 << 20), "50"]


@pytest.mark.observes("docker update --cpus", "docker update --restart")
def test_update_changes_cpus_and_restart_policy(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "slower", "busybox", "sleep", "1000")
    cli.ok("update", "--cpus", "0.5", "--restart", "on-failure:3", "slower")
    read = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null || true"
    assert cli.ok("exec", "slower", "sh", "-c", read) in {"50000", "50000 100000"}
    assert cli.ok("inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "slower") == "on-failure"


@pytest.mark.docker_since(23)
@pytest.mark.peer_lacks("stop and restart take no signal before API 1.42")
@pytest.mark.observes("docker stop --signal", "docker restart --signal", "docker restart --timeout")
def test_stop_and_restart_may_be_told_the_signal(cli: CommandLine) -> None:
    script = "trap 'echo usr; exit 1' USR1; echo up; while :; do sleep 0.05; done"
    cli.ok("run", "-d", "--name", "listener", "busybox", "sh", "-c", script)
    until(lambda: cli.ok("logs", "listener") == "up", "the trap")
    cli.ok("restart", "-s", "USR1", "-t", "5", "listener")
    until(lambda: cli.ok("logs", "listener").split() == ["up", "usr", "up"], "the second start")
    cli.ok("stop", "-s", "USR1", "listener")
    assert cli.ok("inspect", "-f", "{{.State.ExitCode}}", "listener") == "1"


@pytest.mark.observes("docker logs --details")
def test_logs_details_show_what_the_log_options_ask_for(cli: CommandLine) -> None:
    flags = ("--log-driver", "json-file", "--log-opt", "labels=team", "--label", "team=blue")
    cli.ok("run", "--name", "marked", *flags, "busybox", "echo", "line")
    assert cli.ok("logs", "--details", "marked") == "team=blue line"


@pytest.mark.observes("docker start --detach-keys")
def test_start_detach_keys_can_be_chosen(cli: CommandLine) -> None:
    cli.ok("create", "-it", "--name", "shell", "busybox", "sh")
    with cli.terminal("start", "-ai", "--detach-keys", "ctrl-a,d", "shell") as screen:
        screen.expect("#")
        screen.send("\x01d")
        screen.wait()
    assert cli.ok("ps", "--format", "{{.Names}}") == "shell"
