"""The daemon killed by SIGKILL and started again: containers, their output, their exit codes and open sessions live on."""

import json
import os
import resource
import signal
import threading
from pathlib import Path
from threading import Thread

import pytest

from carrack.runtime import cgroups
from carrack.shim.zygote_process import greet
from tests.conftest import MakeEngine
from tests.rig.carrackd import Carrackd
from tests.rig.engine import CommandLine, Engine, docker_program
from tests.rig.ports import FreePort
from tests.rig.waiting import until


@pytest.fixture
def own(make_engine: MakeEngine) -> CommandLine:
    """The docker command line on an engine of the test's own."""
    return CommandLine(make_engine(), [docker_program()])


def crash(engine: Engine) -> None:
    """SIGKILL, and a new daemon on the same roots."""
    engine.kill()
    engine.start()


def test_a_daemon_that_is_aborted_says_where_it_was_and_leaves_no_core(make_engine: MakeEngine) -> None:
    engine = make_engine()
    assert isinstance(engine, Carrackd)
    assert engine.process is not None
    pid = engine.process.pid
    most = resource.prlimit(pid, resource.RLIMIT_CORE)[1]
    resource.prlimit(pid, resource.RLIMIT_CORE, (most, most))
    assert most != 0
    os.kill(pid, signal.SIGABRT)
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    assert (ended.si_code, ended.si_status) == (os.CLD_KILLED, signal.SIGABRT)
    assert "most recent call first" in engine.log_tail()
    engine.process.wait()
    engine.start()


def title_of(pid: int) -> bytes:
    """What ps shows of a process; nothing of one that has ended meanwhile."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_running_container_is_the_same_process_afterwards(own: CommandLine) -> None:
    own.ok("run", "-d", "--name", "lives", "busybox", "sleep", "1000")
    before = own.ok("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", "lives")
    crash(own.engine)
    assert own.ok("ps", "--format", "{{.Names}}") == "lives"
    assert own.ok("inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", "lives") == before


def test_exec_stop_and_wait_work_afterwards(own: CommandLine) -> None:
    script = "trap 'exit 6' TERM; echo up; while :; do sleep 0.05; done"
    own.ok("run", "-d", "--name", "lives", "busybox", "sh", "-c", script)
    with own.pipes("logs", "-f", "lives") as log:
        log.expect("up")
    crash(own.engine)
    assert own.ok("exec", "lives", "echo", "inside") == "inside"
    with own.pipes("wait", "lives") as waiting:
        own.ok("stop", "lives")
        assert waiting.rest() == "6\n"


def test_what_was_written_while_the_daemon_was_away_is_in_the_log(own: CommandLine) -> None:
    own.ok("run", "-d", "--name", "writer", "busybox", "sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done")
    own.engine.kill()
    own.engine.start()
    with own.pipes("logs", "-f", "writer") as log:
        log.expect("^60$")
        numbers = [int(line) for line in log.seen.split()]
    assert numbers == list(range(len(numbers)))


def test_attach_works_afterwards(own: CommandLine) -> None:
    own.ok("run", "-dit", "--name", "shell", "busybox", "sh")
    crash(own.engine)
    with own.terminal("attach", "shell") as screen:
        screen.send_line("echo back $((1+1))")
        screen.expect("back 2")
        screen.send_line("exit 8")
        assert screen.wait() == 8


@pytest.mark.peer_lacks("an exit while the daemon is away is found again only by containerd")
def test_a_container_that_ended_meanwhile_has_its_exit_code(own: CommandLine, tmp_path: Path) -> None:
    script = "until [ -e /signal/go ]; do sleep 0.02; done; echo last words; exit 23"
    own.ok("run", "-d", "--name", "ended", "-v", f"{tmp_path}:/signal", "busybox", "sh", "-c", script)
    pid = own.ok("inspect", "-f", "{{.State.Pid}}", "ended")
    own.engine.kill()
    (tmp_path / "go").touch()
    until(lambda: not Path(f"/proc/{pid}").exists(), "the container to end")
    own.engine.start()
    assert own.ok("wait", "ended") == "23"
    assert own.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "ended") == "exited 23"
    assert own.ok("logs", "ended") == "last words"


@pytest.mark.peer_lacks("a session ends with the daemon")
def test_an_open_run_it_lives_on_to_its_exit_code(own: CommandLine) -> None:
    with own.terminal("run", "-it", "--name", "session", "busybox", "sh") as screen:
        screen.expect("#")
        # the prompt may be here before the answer to `start`: a client that has not got that one cannot go on
        screen.silent_for(0.3)
        own.engine.kill()
        screen.send_line("echo daemon is away $((1+1))")
        screen.expect("daemon is away 2")
        own.engine.start()
        screen.send_line("echo daemon is back $((1+2))")
        screen.expect("daemon is back 3")
        screen.send_line("exit 33")
        assert screen.wait() == 33
    assert own.ok("inspect", "-f", "{{.State.ExitCode}}", "session") == "33"


@pytest.mark.peer_lacks("a session ends with the daemon")
def test_an_open_run_without_a_terminal_lives_on_to_its_exit_code(own: CommandLine, tmp_path: Path) -> None:
    script = "echo up; until [ -e /signal/go ]; do sleep 0.02; done; echo after; exit 44"
    with own.pipes("run", "--rm", "--name", "plain", "-v", f"{tmp_path}:/signal", "busybox", "sh", "-c", script) as running:
        running.expect("up")
        running.silent_for(0.3)
        crash(own.engine)
        (tmp_path / "go").touch()
        running.expect("after")
        assert running.wait() == 44
    until(lambda: own.ok("ps", "-aq") == "", "--rm to act after the restart")


@pytest.mark.peer_lacks("a session ends with the daemon")
def test_an_open_wait_and_logs_follow_live_on(own: CommandLine, tmp_path: Path) -> None:
    script = "echo up; until [ -e /signal/go ]; do sleep 0.02; done; echo after; exit 4"
    own.ok("run", "-d", "--name", "watched", "-v", f"{tmp_path}:/signal", "busybox", "sh", "-c", script)
    with own.pipes("wait", "watched") as waiting, own.pipes("logs", "-f", "watched") as log:
        log.expect("up")
        assert waiting.silent_for(0.2)
        crash(own.engine)
        (tmp_path / "go").touch()
        log.expect("after")
        assert log.wait() == 0
        assert waiting.rest() == "4\n"


@pytest.mark.peer_lacks("a session ends with the daemon")
def test_an_open_exec_lives_on_to_its_exit_code(own: CommandLine) -> None:
    own.ok("run", "-d", "--name", "host", "busybox", "sleep", "1000")
    with own.terminal("exec", "-it", "host", "sh") as screen:
        screen.expect("#")
        screen.silent_for(0.3)
        crash(own.engine)
        screen.send_line("echo still $((2+3))")
        screen.expect("still 5")
        screen.send_line("exit 9")
        screen.wait()


def test_a_published_port_answers_during_and_after(own: CommandLine, free_port: FreePort) -> None:
    port = free_port()
    serve = "echo served > /index.html; exec httpd -f -p 80 -h /"
    own.ok("run", "-d", "--name", "web", "-p", f"{port}:80", "busybox", "sh", "-c", serve)
    url = f"http://{own.ok('inspect', '-f', '{{.NetworkSettings.Networks.bridge.Gateway}}', 'web')}:{port}/"
    fetch = ("curl", "-s", "-m", "2", url)
    until(lambda: own.engine.on_host(*fetch).text == "served", "the server to listen")
    own.engine.kill()
    if own.engine.kind == "carrackd":
        assert own.engine.on_host(*fetch).text == "served"
    own.engine.start()
    assert own.engine.on_host(*fetch).text == "served"
    refused = own("run", "-d", "-p", f"{port}:80", "busybox", "sleep", "1")
    assert refused.code == 125
    assert "port is already allocated" in refused.stderr


def test_names_images_volumes_and_stopped_containers_are_kept(own: CommandLine) -> None:
    assert own("run", "--name", "ended", "-v", "kept:/k", "--label", "a=b", "busybox", "sh", "-c", "echo said; exit 3").code == 3
    own.ok("create", "--name", "waits", "busybox", "echo", "later")
    own.ok("tag", "busybox", "other:1")
    before = json.loads(own.ok("inspect", "ended", "waits"))
    crash(own.engine)
    after = json.loads(own.ok("inspect", "ended", "waits"))
    for old, new in zip(before, after, strict=True):
        assert new == old
    assert own.ok("images", "-q", "other:1") == own.ok("images", "-q", "busybox:latest")
    assert own.ok("volume", "ls", "-q") == "kept"
    assert own.ok("logs", "ended") == "said"
    assert own.ok("start", "-a", "waits") == "later"


@pytest.mark.law(10)
def test_restart_always_acts_when_the_daemon_is_back(own: CommandLine) -> None:
    own.ok("run", "-d", "--name", "always", "--restart", "always", "busybox", "sleep", "1000")
    pid = int(own.ok("inspect", "-f", "{{.State.Pid}}", "always"))
    own.engine.kill()
    os.kill(pid, 9)
    until(lambda: not Path(f"/proc/{pid}").exists(), "the container to end")
    own.engine.start()
    until(lambda: own.ok("inspect", "-f", "{{.State.Status}}", "always") == "running", "the container to come back")
    assert int(own.ok("inspect", "-f", "{{.State.Pid}}", "always")) != pid


def test_a_daemon_that_is_asked_to_end_leaves_containers_running(own: CommandLine) -> None:
    """Live restore is always on."""
    own.ok("run", "-d", "--name", "lives", "busybox", "sleep", "1000")
    pid = own.ok("inspect", "-f", "{{.State.Pid}}", "lives")
    assert own.engine.stop() == 0
    assert Path(f"/proc/{pid}").exists()
    own.engine.start()
    assert own.ok("inspect", "-f", "{{.State.Pid}}", "lives") == pid


@pytest.mark.law(7)
@pytest.mark.peer_lacks("it is Carrack's own promise")
def test_many_crashes_in_a_row_leave_nothing_half_made(own: CommandLine, request: pytest.FixtureRequest) -> None:
    """The daemon dies at whatever moment of a `run` it is in; afterwards every record has its container and every container
    its record, and all can be removed."""
    rounds = 20 if request.config.getoption("--full") else 1
    for delay in (0.0, 0.01, 0.02, 0.03, 0.05, 0.08) * rounds:
        with own.pipes("run", "-d", "busybox", "sleep", "1000") as started:
            started.silent_for(delay)
            crash(own.engine)
    for container_id in own.ok("ps", "-aq").split():
        own.ok("rm", "-f", container_id)
    engine = own.engine
    assert isinstance(engine, Carrackd)
    until(lambda: not [path for path in Path("/sys/fs/cgroup").glob(f"*/{engine.cgroup}/*/") if path.is_dir()], "cgroups to go")
    until(lambda: not list(Path(f"/sys/class/net/{engine.bridge}/brif").glob("*")), "links to go")
    assert not list((engine.data_root / "containers").iterdir())


def test_a_zygote_that_was_killed_is_replaced(own: CommandLine) -> None:
    own.ok("run", "-d", "--name", "lives", "busybox", "sleep", "1000")
    assert isinstance(own.engine, Carrackd)
    zygote = greet(str(own.engine.exec_root / "zygote.sock"))
    assert zygote is not None
    os.kill(zygote.pid, signal.SIGKILL)
    assert own.ok("run", "--rm", "busybox", "echo", "again") == "again"
    assert own.ok("exec", "lives", "echo", "inside") == "inside"


@pytest.mark.peer_lacks("dockerd answers names itself")
def test_who_answers_names_ends_with_the_last_container_though_no_daemon_comes_back(own: CommandLine) -> None:
    """Also when the container was connected while it ran: no path of the engine forgets to say whose end is meant."""
    engine = own.engine
    assert isinstance(engine, Carrackd)
    own.ok("network", "create", "red")
    own.ok("run", "-d", "--name", "joins", "busybox", "sleep", "1000")
    own.ok("network", "connect", "red", "joins")
    init = int(own.ok("inspect", "-f", "{{.State.Pid}}", "joins"))

    def answering() -> list[int]:
        return [pid for pid in engine.own_processes() if title_of(pid).startswith(b"carrack-names ")]

    assert len(answering()) == 2, "one, and its spare"
    engine.kill()
    os.kill(init, signal.SIGKILL)
    until(lambda: not answering(), "the names process and its spare to end")
    engine.start()


@pytest.mark.law(9)
def test_a_network_namespace_is_held_by_descriptors_and_never_mounted(own: CommandLine) -> None:
    """Law 9: what no mount holds, no crash can leave behind; and the namespace is there for the next daemon all the same."""
    own.ok("run", "-d", "--name", "lives", "busybox", "sleep", "1000")
    crash(own.engine)
    namespace = os.readlink(f"/proc/{own.ok('inspect', '-f', '{{.State.Pid}}', 'lives')}/ns/net")
    mounted = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if " - nsfs " in line]
    assert not [line for line in mounted if namespace in line]
    assert own.ok("exec", "lives", "readlink", "/proc/self/ns/net") == namespace


def test_a_daemon_ends_well_while_what_it_removed_is_still_on_its_way(make_engine: MakeEngine) -> None:
    engine = make_engine()
    cli = CommandLine(engine, [docker_program()])
    for name in ("one", "two", "three"):
        cli.ok("run", "--name", name, "busybox", "sh", "-c", "for a in $(seq 60); do mkdir -p /x/$a; touch /x/$a/f$a; done")
    cli.ok("rm", "one", "two", "three")
    assert engine.stop() == 0
    assert engine.traces() == set()  # type: ignore[attr-defined]
    engine.start()


def test_what_a_user_stopped_begins_with_the_daemon_only_by_the_policy_always(own: CommandLine) -> None:
    for name in ("always", "unless-stopped"):
        own.ok("run", "-d", "--name", name, "--restart", name, "busybox", "sleep", "1000")
        own.ok("stop", "-t", "0", name)
    own.engine.stop()
    own.engine.start()
    until(lambda: own.ok("inspect", "-f", "{{.State.Status}}", "always") == "running", "the container to come back")
    assert own.ok("inspect", "-f", "{{.State.Status}}", "unless-stopped") == "exited"


@pytest.mark.peer_lacks("its supervisors have no such duty")
def test_a_container_frozen_when_the_daemon_was_killed_goes_on_though_an_exec_was_frozen_on_its_way_in(own: CommandLine) -> None:
    """As a commit does it that is cut off: frozen, and not paused by anybody."""
    own.ok("run", "-d", "--name", "lives", "busybox", "sh", "-c", "while :; do sleep 0.1; done")
    assert isinstance(own.engine, Carrackd)
    container = own.ok("inspect", "-f", "{{.Id}}", "lives")
    cgroup = cgroups.open(f"/{own.engine.cgroup}/{container}")
    inside = len(cgroup.processes())
    cgroup.freeze()
    with own.pipes("exec", "lives", "echo", "never"):
        until(lambda: len(cgroup.processes()) > inside, "the exec to be frozen on its way in")
        crash(own.engine)
    assert own.ok("exec", "lives", "echo", "inside") == "inside"
    own.ok("stop", "-t", "0", "lives")


@pytest.mark.observes("POST /containers/{id}/pause", "POST /containers/{id}/exec")
def test_a_pause_catches_no_exec_on_its_way_in(own: CommandLine) -> None:
    """Its supervisor would wait for it, and for nothing else, for as long as the pause lasts."""
    api = own.engine.api
    own.ok(
        "run",
        "-d",
        "--stop-signal",
        "INT",
        "--name",
        "lives",
        "busybox",
        "sh",
        "-c",
        "trap 'echo heard' USR1; echo up; while :; do sleep 0.1; done",
    )
    until(lambda: own.ok("logs", "lives") == "up", "the trap to be set")
    for number in range(12):
        sessions = [api("POST", "/containers/lives/exec", {"Cmd": ["true"]}).json["Id"] for _ in range(4)]
        starts = [Thread(target=api, args=("POST", f"/exec/{each}/start", {"Detach": True})) for each in sessions]
        for each in starts:
            each.start()
        threading.Event().wait(number / 1000)
        assert api("POST", "/containers/lives/pause").status == 204
        assert api("POST", "/containers/lives/kill?signal=USR1", timeout_seconds=5).status == 204
        assert api("POST", "/containers/lives/unpause").status == 204
        for each in starts:
            each.join()


@pytest.mark.peer_lacks("about where Carrack keeps things")
def test_a_cgroup_that_was_left_half_removed_goes_with_the_next_daemon(own: CommandLine) -> None:
    assert isinstance(own.engine, Carrackd)
    own.ok("run", "-d", "--name", "lives", "busybox", "sleep", "1000")
    left = f"/{own.engine.cgroup}/{'0123456789abcdef' * 4}"
    half = cgroups.open(left)
    half.create()
    crash(own.engine)
    assert not [path for path in cgroups.idle_below(own.engine.cgroup) if path.endswith(left)]
    assert own.ok("exec", "lives", "echo", "inside") == "inside"


@pytest.mark.peer_lacks("about where Carrack keeps things")
def test_a_supervisor_that_was_killed_leaves_no_socket(own: CommandLine) -> None:
    assert isinstance(own.engine, Carrackd)
    own.ok("run", "-d", "--name", "lives", "busybox", "sleep", "1000")
    init = own.ok("inspect", "-f", "{{.State.Pid}}", "lives")
    supervisor = int(Path(f"/proc/{init}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(supervisor, signal.SIGKILL)
    assert own.ok("wait", "lives") == "137"
    until(lambda: not list((own.engine.exec_root / "shims").iterdir()), "the socket to go")
