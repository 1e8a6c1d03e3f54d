"""start, stop, kill, restart, wait, rm: what each does to a container's processes and to its record."""

import os
import time

import pytest

from tests.rig.engine import CommandLine
from tests.rig.waiting import until

pytestmark = pytest.mark.both_clients

POLITE = "trap 'echo asked; exit 3' TERM; echo ready; sleep 1000 & wait"
STATE = "{{.State.Status}} {{.State.ExitCode}}"


def ready(cli: CommandLine, name: str, script: str, *flags: str) -> int:
    """Start a script that says `ready`; return its pid on the host once it said so."""
    cli.ok("run", "-d", "--name", name, *flags, "busybox", "sh", "-c", script)
    with cli.pipes("logs", "-f", name) as log:
        log.expect("ready")
    return int(cli.ok("inspect", "--format", "{{.State.Pid}}", name))


def gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")


@pytest.mark.observes("docker stop", "POST /containers/{id}/stop")
def test_stop_asks_by_sigterm_and_keeps_the_exit_code(cli: CommandLine) -> None:
    pid = ready(cli, "polite", POLITE)
    assert cli.ok("stop", "polite") == "polite"
    assert gone(pid)
    assert cli.ok("inspect", "--format", STATE, "polite") == "exited 3"
    assert cli.ok("logs", "polite").split() == ["ready", "asked"]


@pytest.mark.observes("docker stop --timeout")
def test_stop_kills_what_does_not_listen_when_its_time_is_over(cli: CommandLine) -> None:
    pid = ready(cli, "deaf", "trap '' TERM; echo ready; while :; do sleep 1; done")
    before = time.monotonic()
    cli.ok("stop", "-t", "1", "deaf")
    assert 0.9 < time.monotonic() - before < 6
    assert gone(pid)
    assert cli.ok("inspect", "--format", STATE, "deaf") == "exited 137"


@pytest.mark.observes("docker stop")
def test_stop_of_a_stopped_container_is_no_error(cli: CommandLine) -> None:
    cli.ok("run", "--name", "ended", "busybox", "true")
    assert cli.ok("stop", "ended") == "ended"


@pytest.mark.observes("docker kill", "POST /containers/{id}/kill")
def test_kill_ends_every_process_of_the_container(cli: CommandLine) -> None:
    pid = ready(cli, "crowd", "sleep 1000 & sleep 1000 & echo ready; wait")
    family = [int(word) for word in _children(pid)]
    assert len(family) == 2
    cli.ok("kill", "crowd")
    assert cli.ok("wait", "crowd") == "137"
    until(lambda: all(gone(member) for member in [pid, *family]), "the processes to end")


@pytest.mark.observes("docker kill --signal")
@pytest.mark.parametrize("signal", ["USR1", "SIGUSR1", "10"])
def test_kill_sends_the_signal_it_is_told(cli: CommandLine, signal: str) -> None:
    ready(cli, "listener", "trap 'echo heard; exit 4' USR1; echo ready; sleep 1000 & wait")
    cli.ok("kill", "-s", signal, "listener")
    assert cli.ok("wait", "listener") == "4"
    assert cli.ok("logs", "listener").split() == ["ready", "heard"]


@pytest.mark.observes("docker kill --signal")
def test_kill_refuses_a_signal_that_does_not_exist(cli: CommandLine) -> None:
    ready(cli, "safe", POLITE)
    ended = cli("kill", "-s", "SIGNOPE", "safe")
    assert ended.code == 1
    assert "invalid signal: SIGNOPE" in ended.stderr.replace("Invalid", "invalid")
    assert cli.ok("inspect", "--format", STATE, "safe") == "running 0"


@pytest.mark.observes("docker kill")
def test_kill_of_a_stopped_container_is_refused(cli: CommandLine) -> None:
    cli.ok("run", "--name", "ended", "busybox", "true")
    ended = cli("kill", "ended")
    assert ended.code == 1
    assert "is not running" in ended.stderr


@pytest.mark.observes("docker restart", "POST /containers/{id}/restart")
def test_restart_gives_a_new_process_in_the_same_file_system(cli: CommandLine) -> None:
    first = ready(cli, "again", "echo mark >> /marks; " + POLITE)
    assert cli.ok("restart", "again") == "again"
    second = int(cli.ok("inspect", "--format", "{{.State.Pid}}", "again"))
    assert second not in {0, first}
    assert gone(first)
    until(lambda: cli.ok("exec", "again", "cat", "/marks").split() == ["mark", "mark"], "the second mark")


@pytest.mark.observes("docker start", "POST /containers/{id}/start")
def test_start_of_a_running_container_is_no_error(cli: CommandLine) -> None:
    pid = ready(cli, "on", POLITE)
    assert cli.ok("start", "on") == "on"
    assert cli.ok("inspect", "--format", "{{.State.Pid}}", "on") == str(pid)


@pytest.mark.observes("docker create", "docker start")
def test_a_created_container_runs_only_when_started(cli: CommandLine) -> None:
    container_id = cli.ok("create", "--name", "later", "busybox", "sh", "-c", "echo done")
    assert cli.ok("inspect", "--format", STATE, "later") == "created 0"
    cli.ok("start", container_id)
    assert cli.ok("wait", "later") == "0"
    assert cli.ok("logs", "later") == "done"


@pytest.mark.observes("docker wait", "POST /containers/{id}/wait")
def test_wait_blocks_until_the_end_and_prints_the_code(cli: CommandLine) -> None:
    ready(cli, "awaited", "trap 'exit 5' USR1; echo ready; sleep 1000 & wait")
    with cli.pipes("wait", "awaited") as waiting:
        assert waiting.silent_for(0.3)
        cli.ok("kill", "-s", "USR1", "awaited")
        waiting.expect("^5$")
        assert waiting.wait() == 0


@pytest.mark.observes("docker wait")
def test_wait_of_an_ended_container_answers_at_once(cli: CommandLine) -> None:
    assert cli("run", "--name", "ended", "busybox", "sh", "-c", "exit 6").code == 6
    assert cli.ok("wait", "ended") == "6"


@pytest.mark.observes("docker rm", "DELETE /containers/{id}")
def test_rm_removes_a_stopped_container_and_frees_its_name(cli: CommandLine) -> None:
    cli.ok("run", "--name", "one", "busybox", "true")
    assert cli.ok("rm", "one") == "one"
    cli.ok("run", "--name", "one", "busybox", "true")


@pytest.mark.observes("docker rm")
def test_rm_refuses_a_running_container(cli: CommandLine) -> None:
    ready(cli, "busy", POLITE)
    ended = cli("rm", "busy")
    assert ended.code == 1
    assert "container is running: stop the container before removing or force remove" in ended.stderr or (
        "You cannot remove a running container" in ended.stderr
    )


@pytest.mark.observes("docker rm --force")
def test_rm_force_kills_first(cli: CommandLine) -> None:
    pid = ready(cli, "busy", POLITE)
    cli.ok("rm", "-f", "busy")
    assert gone(pid)
    assert cli.ok("ps", "-aq") == ""


@pytest.mark.observes("docker rm --volumes")
def test_rm_volumes_takes_anonymous_volumes_and_leaves_named_ones(cli: CommandLine) -> None:
    cli.ok("run", "--name", "full", "-v", "/anonymous", "-v", "named:/named", "busybox", "true")
    assert len(cli.ok("volume", "ls", "-q").split()) == 2
    cli.ok("rm", "-v", "full")
    assert cli.ok("volume", "ls", "-q") == "named"


@pytest.mark.observes("docker rm")
def test_rm_without_volumes_leaves_them(cli: CommandLine) -> None:
    cli.ok("run", "--name", "full", "-v", "/anonymous", "busybox", "true")
    cli.ok("rm", "full")
    assert len(cli.ok("volume", "ls", "-q").split()) == 1


@pytest.mark.observes("docker run --name")
def test_a_name_in_use_is_refused_with_the_owners_id(cli: CommandLine) -> None:
    owner = cli.ok("create", "--name", "mine", "busybox", "true")
    ended = cli("create", "--name", "mine", "busybox", "true")
    assert ended.code == 1
    wanted = f'Conflict. The container name "/mine" is already in use by container "{owner}".'
    assert wanted in ended.stderr
    assert cli.ok("ps", "-aq", "--no-trunc") == owner


@pytest.mark.observes("GET /containers/{id}/json")
def test_a_unique_prefix_of_the_id_names_a_container(cli: CommandLine) -> None:
    container_id = cli.ok("create", "busybox", "true")
    assert cli.ok("inspect", "--format", "{{.Id}}", container_id[:5]) == container_id


@pytest.mark.observes("docker rename", "POST /containers/{id}/rename")
def test_rename_moves_the_name(cli: CommandLine) -> None:
    container_id = cli.ok("create", "--name", "old", "busybox", "true")
    cli.ok("rename", "old", "new")
    assert cli.ok("inspect", "--format", "{{.Id}}", "new") == container_id
    assert cli("inspect", "--type", "container", "old").code == 1


@pytest.mark.observes("docker pause", "docker unpause")
def test_a_paused_container_stands_still(cli: CommandLine) -> None:
    ready(cli, "ticking", "echo ready; while :; do date +%s%N > /tick; sleep 0.01; done")
    cli.ok("pause", "ticking")
    assert cli.ok("inspect", "--format", "{{.State.Status}}", "ticking") == "paused"
    refused = cli("exec", "ticking", "true")
    assert "is paused" in refused.stderr
    cli.ok("unpause", "ticking")
    assert cli.ok("inspect", "--format", "{{.State.Status}}", "ticking") == "running"
    cli.ok("exec", "ticking", "true")


def _children(pid: int) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children") as listing:
        return listing.read().split()


@pytest.mark.observes("docker stop")
def test_two_stops_at_once_both_succeed(cli: CommandLine) -> None:
    ready(cli, "asked-twice", "trap 'sleep 0.3; exit 3' TERM; echo ready; while :; do sleep 0.1; done")
    with cli.pipes("stop", "asked-twice") as first, cli.pipes("stop", "asked-twice") as second:
        assert (first.wait(), second.wait()) == (0, 0)
    assert cli.ok("inspect", "--format", STATE, "asked-twice") == "exited 3"


@pytest.mark.observes("docker rm --force")
def test_rm_by_force_does_not_wait_for_a_stop_that_waits(cli: CommandLine) -> None:
    ready(cli, "patient", "trap 'echo asked' TERM; echo ready; while :; do sleep 0.1; done")
    with cli.pipes("logs", "-f", "patient") as log, cli.pipes("stop", "-t", "60", "patient"):
        log.expect("asked")
        before = time.monotonic()
        cli.ok("rm", "-f", "patient")
        assert time.monotonic() - before < 10


@pytest.mark.observes("docker stop", "docker run --restart")
def test_stop_in_the_midst_of_restarts_is_the_end_of_them(cli: CommandLine) -> None:
    cli.ok("run", "-d", "--name", "restless", "--restart", "always", "busybox", "false")
    for _ in range(5):
        cli.ok("stop", "restless")
        count = cli.ok("inspect", "--format", "{{.State.Status}} {{.RestartCount}}", "restless")
        assert count.startswith("exited")
        assert cli.ok("inspect", "--format", "{{.State.Status}} {{.RestartCount}}", "restless") == count
        cli.ok("start", "restless")


@pytest.mark.observes("docker create --rm", "docker rm --volumes", "docker wait")
def test_a_container_that_removes_itself_takes_its_anonymous_volumes_and_no_others(cli: CommandLine) -> None:
    cli.ok("create", "--rm", "--name", "gone", "-v", "/anonymous", "-v", "named:/named", "busybox", "sh", "-c", "exit 5")
    assert cli("start", "-a", "gone").code == 5
    until(lambda: cli.ok("ps", "-aq") == "", "it to remove itself")
    assert cli.ok("volume", "ls", "-q") == "named"


@pytest.mark.observes("docker run --rm", "docker restart", "docker stop", "docker kill")
def test_a_restart_does_not_remove_and_every_other_end_does(cli: CommandLine) -> None:
    for number, end in enumerate((("stop", "-t", "0"), ("kill",), ("rm", "-f"))):
        name = f"own{number}"
        cli.ok("run", "-d", "--rm", "--name", name, "busybox", "sleep", "1000")
        cli.ok("restart", "-t", "0", name)
        assert cli.ok("inspect", "-f", "{{.State.Running}} {{.HostConfig.AutoRemove}}", name) == "true true"
        cli.ok(*end, name)
        until(lambda name=name: cli("inspect", name).code == 1, "it to be removed")  # type: ignore[misc]
    refused = cli("create", "--rm", "--restart", "always", "busybox", "true")
    assert refused.code != 0


@pytest.mark.observes("docker pause", "docker unpause")
def test_a_paused_container_stands_still_and_refuses_what_needs_it_running(cli: CommandLine) -> None:
    script = "i=0; while :; do i=$((i+1)); echo $i >/count; done"
    cli.ok("run", "-d", "--name", "frozen", "busybox", "sh", "-c", script)
    cli.ok("pause", "frozen")
    assert cli.ok("inspect", "-f", "{{.State.Status}} {{.State.Paused}} {{.State.Running}}", "frozen") == "paused true true"
    assert "(Paused)" in cli.ok("ps", "--format", "{{.Status}}")
    before = cli.engine.api("GET", "/containers/frozen/archive?path=/count").body
    assert cli.engine.api("GET", "/containers/frozen/archive?path=/count").body == before
    for words in (("pause", "frozen"), ("exec", "frozen", "true"), ("start", "frozen")):
        assert cli(*words).code == 1, words
    cli.ok("unpause", "frozen")
    until(lambda: cli.engine.api("GET", "/containers/frozen/archive?path=/count").body != before, "it to count on")
    assert cli("unpause", "frozen").code == 1
    cli.ok("pause", "frozen")
    cli.ok("kill", "frozen")
    until(lambda: cli.ok("inspect", "-f", "{{.State.Status}}", "frozen") == "exited", "a killed one to end though it was paused")
