"""Health checks in time, what follows from them, and the wait between restarts, also over the daemon's own end."""

import json
from datetime import datetime

import pytest

from tests.conftest import MakeEngine
from tests.rig.engine import CommandLine, Engine, carrack_program, docker_program
from tests.rig.waiting import until

LABEL = "carrack.restart-on-unhealthy"


def health(cli: CommandLine, name: str) -> str:
    return cli.ok("inspect", "-f", "{{.State.Health.Status}}", name)


@pytest.mark.peer_lacks("it has no start interval")
@pytest.mark.observes("docker run --health-start-interval", "docker run --health-start-period")
def test_while_it_starts_a_container_is_asked_more_often(engine: Engine) -> None:
    """With an interval of a minute, only the start interval can find it healthy within a test."""
    cli = CommandLine(engine, [carrack_program()])
    flags = ("--health-interval", "1m", "--health-start-period", "1m", "--health-start-interval", "100ms")
    cli.ok("run", "-d", "--name", "quick", *flags, "--health-cmd", "test -e /well", "busybox", "sleep", "1000")
    until(lambda: len(json.loads(cli.ok("inspect", "-f", "{{json .State.Health.Log}}", "quick"))) >= 3, "three failures")
    assert health(cli, "quick") == "starting"  # they do not count yet
    assert cli.ok("inspect", "-f", "{{.State.Health.FailingStreak}}", "quick") == "0"
    cli.ok("exec", "quick", "touch", "/well")
    until(lambda: health(cli, "quick") == "healthy", "health")


@pytest.mark.observes("docker run --health-start-period")
def test_failures_count_when_the_start_period_is_over(docker_cli: CommandLine) -> None:
    flags = ("--health-interval", "50ms", "--health-start-period", "500ms", "--health-retries", "1", "--health-cmd", "false")
    docker_cli.ok("run", "-d", "--name", "sick", *flags, "busybox", "sleep", "1000")
    until(lambda: health(docker_cli, "sick") == "unhealthy", "the verdict")
    form = "{{.State.StartedAt}} {{(index .State.Health.Log 0).Start}}"
    started, _ = docker_cli.ok("inspect", "-f", form, "sick").split(" ", 1)
    now = docker_cli.engine.on_host("date", "-u", "+%FT%T.%6N").ok()
    assert (_time(now) - _time(started)).total_seconds() >= 0.5


@pytest.mark.peer_lacks("beyond Docker")
def test_an_unhealthy_container_is_restarted_so_often_in_a_row(docker_cli: CommandLine) -> None:
    flags = ("--health-interval", "50ms", "--health-retries", "1", "--health-cmd", "test -e /well", "--stop-timeout", "0")
    docker_cli.ok("run", "-d", "--name", "frail", "--label", f"{LABEL}=2", *flags, "busybox", "sleep", "1000")
    form = "{{.RestartCount}} {{.State.Status}} {{.State.Health.Status}}"
    until(lambda: docker_cli.ok("inspect", "-f", form, "frail") == "2 running unhealthy", "the second restart, and no third")
    docker_cli.ok("exec", "frail", "touch", "/well")
    until(lambda: health(docker_cli, "frail") == "healthy", "health")
    docker_cli.ok("exec", "frail", "rm", "/well")  # health has set the count back
    until(lambda: int(docker_cli.ok("inspect", "-f", "{{.RestartCount}}", "frail")) > 2, "one more restart")


@pytest.mark.peer_lacks("beyond Docker")
def test_the_daemon_may_have_a_default_and_a_label_switches_it_off(make_engine: MakeEngine) -> None:
    cli = CommandLine(make_engine("--restart-on-unhealthy", "1"), [docker_program()])
    flags = ("--health-interval", "50ms", "--health-retries", "1", "--health-cmd", "false", "--stop-timeout", "0")
    cli.ok("run", "-d", "--name", "off", "--label", f"{LABEL}=0", *flags, "busybox", "sleep", "1000")
    cli.ok("run", "-d", "--name", "on", *flags, "busybox", "sleep", "1000")
    until(lambda: cli.ok("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "on") == "1 running", "the restart")
    assert cli.ok("inspect", "-f", "{{.RestartCount}} {{.State.Health.Status}}", "off") == "0 unhealthy"
    cli.ok("stop", "on")
    assert cli.ok("inspect", "-f", "{{.State.Status}}", "on") == "exited"


@pytest.mark.peer_lacks("beyond Docker")
@pytest.mark.parametrize("value", ["often", "-1", ""])
def test_a_label_that_is_no_number_is_refused(docker_cli: CommandLine, value: str) -> None:
    ended = docker_cli("create", "--label", f"{LABEL}={value}", "busybox")
    assert (ended.code, f"invalid label {LABEL}={value}" in ended.stderr) == (1, True)


@pytest.mark.observes("docker run --restart")
def test_the_wait_between_restarts_grows_and_outlives_the_daemon(make_engine: MakeEngine) -> None:
    engine = make_engine()
    cli = CommandLine(engine, [docker_program()])
    cli.ok("run", "-d", "--name", "falls", "--restart", "always", "busybox", "false")
    until(lambda: int(cli.ok("inspect", "-f", "{{.RestartCount}}", "falls")) >= 5, "five restarts", timeout_seconds=30)
    until(lambda: cli.ok("inspect", "-f", "{{.State.Status}}", "falls") == "restarting", "a wait of 1.6 seconds, or the next")
    ended = _time(cli.ok("inspect", "-f", "{{.State.FinishedAt}}", "falls"))
    if engine.kind == "carrackd":
        engine.kill()
        engine.start()
    until(lambda: _time(cli.ok("inspect", "-f", "{{.State.StartedAt}}", "falls")) > ended, "the next restart", timeout_seconds=30)
    began = _time(cli.ok("inspect", "-f", "{{.State.StartedAt}}", "falls"))
    assert (began - ended).total_seconds() >= 1.5
    cli.ok("stop", "falls")
    cli.ok("start", "falls")
    until(lambda: int(cli.ok("inspect", "-f", "{{.RestartCount}}", "falls")) == 1, "a count that begins anew")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(f"{text[:26].rstrip('Z')}Z")
