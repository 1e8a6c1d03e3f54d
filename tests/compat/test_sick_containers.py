"""One sick container is nobody else's trouble: with its shim standing still, everything about the others goes on as ever."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import MakeEngine
from tests.rig.engine import CommandLine, docker_program
from tests.rig.json_stream import JsonStream
from tests.rig.waiting import until

NORMAL_SECONDS = 3.0
"""A busy test machine's idea of at once; what waits for a shim waits ten times as long."""


def shim_of(cli: CommandLine, name: str) -> int:
    """The parent of a container's init."""
    pid = cli.ok("inspect", "-f", "{{.State.Pid}}", name)
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def sick(cli: CommandLine, engine_kind: str) -> Iterator[CommandLine]:
    """Two running containers, `sick` with its shim stopped, and `well`."""
    if engine_kind != "carrackd":
        pytest.skip("about our own shims")
    for name in ("sick", "well"):
        cli.ok("run", "-d", "--name", name, "busybox", "sleep", "1000")
    shim = shim_of(cli, "sick")
    os.kill(shim, signal.SIGSTOP)
    yield cli
    os.kill(shim, signal.SIGCONT)


@pytest.mark.observes("docker ps", "docker inspect", "docker events", "docker top", "docker logs")
def test_lists_and_other_containers_do_not_wait_for_a_shim_that_stands_still(sick: CommandLine) -> None:
    begun = time.monotonic()
    assert set(sick.ok("ps", "--format", "{{.Names}}").split()) == {"sick", "well"}
    assert sick.ok("inspect", "-f", "{{.State.Status}}", "well") == "running"
    assert sick.ok("inspect", "-f", "{{.State.Status}}", "sick") == "running"
    with JsonStream(sick.engine.socket, "/events") as events:
        sick.ok("exec", "well", "true")
        assert events.next()["Action"].startswith("exec_create")
    sick.ok("ps", "-as")
    sick.ok("top", "well")
    sick.ok("logs", "well")
    sick.ok("run", "--rm", "busybox", "true")
    assert time.monotonic() - begun < 2 * NORMAL_SECONDS


@pytest.mark.observes("docker stats", "docker cp", "docker diff", "docker export", "docker commit", "docker pause")
def test_what_needs_no_shim_works_for_the_sick_container_itself(sick: CommandLine, tmp_path: Path) -> None:
    begun = time.monotonic()
    for name in ("well", "sick"):
        reply = sick.engine.api("GET", f"/containers/{name}/stats?stream=0&one-shot=1")
        assert reply.json["pids_stats"]["current"] == 1
    sick.ok("cp", "sick:/etc/passwd", str(tmp_path))
    sick.ok("diff", "sick")
    assert len(sick.output("export", "sick")) > 100_000
    sick.ok("pause", "sick")
    sick.ok("commit", "sick")
    sick.ok("unpause", "sick")
    assert time.monotonic() - begun < 2 * NORMAL_SECONDS


def test_a_daemon_that_begins_beside_a_shim_that_stands_still_leaves_its_container_running(make_engine: MakeEngine) -> None:
    own = CommandLine(make_engine(), [docker_program()])
    for name in ("sick", "well"):
        own.ok("run", "-d", "--name", name, "busybox", "sleep", "1000")
    before = own.ok("inspect", "-f", "{{.State.Pid}}", "sick")
    shim = shim_of(own, "sick")
    os.kill(shim, signal.SIGSTOP)
    try:
        own.engine.kill()
        own.engine.start()
        assert own.ok("inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "sick") == f"running {before}"
        assert own.ok("exec", "well", "echo", "inside") == "inside"
        refused = own("stop", "-t", "0", "sick")
        assert (refused.code, "supervisor does not answer" in refused.stderr) == (1, True)
    finally:
        os.kill(shim, signal.SIGCONT)
    until(lambda: own("exec", "sick", "true").code == 0, "the shim to answer again")
    assert own.ok("inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "sick") == f"running {before}"
    own.ok("stop", "-t", "0", "sick")
    assert own.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "sick") == "exited 137"


@pytest.mark.observes("docker run --rm", "docker rm", "docker inspect")
def test_a_container_that_cannot_be_removed_is_dead_and_nobody_waits_for_it(cli: CommandLine, engine_kind: str) -> None:
    if engine_kind != "carrackd":
        pytest.skip("about our own directories")
    container = cli.ok("run", "-d", "--rm", "--name", "stuck", "busybox", "sleep", "1000")
    in_the_way = cli.engine.data_root / "containers" / container / "rw"
    subprocess.run(["mount", "-t", "tmpfs", "none", str(in_the_way)], check=True)
    try:
        with cli.pipes("wait", "stuck") as waiting:
            cli.ok("kill", "stuck")
            assert waiting.rest() == "137\n"
        until(lambda: cli.ok("inspect", "-f", "{{.State.Status}}", "stuck") == "dead", "the removal to fail")
        assert "cannot remove" in cli.ok("inspect", "-f", "{{.State.Error}}", "stuck")
        assert cli("rm", "stuck").code == 1
    finally:
        subprocess.run(["umount", str(in_the_way)], check=True)
    cli.ok("rm", "stuck")
    assert cli.ok("ps", "-aq") == ""
