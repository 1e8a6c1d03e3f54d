"""`--runtime`: crun and runc make the container, and everything else of Docker works on it as on one of our own."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeEngine
from tests.rig.carrackd import Carrackd, shim_above
from tests.rig.commands import run
from tests.rig.engine import CommandLine, Engine, docker_program
from tests.rig.leaks import CGROUP_ROOT
from tests.rig.waiting import until

BOTH = pytest.mark.parametrize("runtime", ["crun", "runc"])

pytestmark = pytest.mark.peer_lacks("it knows no runtime but those of its own configuration")


def bundle(engine: Engine, container: str) -> Path:
    return engine.exec_root / "bundles" / container


def state_of(engine: Engine, runtime: str, container: str) -> dict[str, object]:
    """What the runtime itself says of a container."""
    said = run([runtime, "--root", str(bundle(engine, container) / "state"), "state", container]).ok()
    found: dict[str, object] = json.loads(said)
    return found


def the_id(cli: CommandLine, name: str) -> str:
    return cli.ok("inspect", "-f", "{{.Id}}", name)


@BOTH
@pytest.mark.observes("docker run --runtime")
def test_the_runtime_makes_the_container(docker_cli: CommandLine, runtime: str) -> None:
    docker_cli.ok("run", "-d", "--name", "made", "--runtime", runtime, "busybox", "sleep", "1000")
    container = the_id(docker_cli, "made")
    state = state_of(docker_cli.engine, runtime, container)
    assert state["status"] == "running"
    assert str(state["pid"]) == docker_cli.ok("inspect", "-f", "{{.State.Pid}}", "made")
    assert docker_cli.ok("inspect", "-f", "{{.HostConfig.Runtime}}", "made") == runtime
    docker_cli.ok("rm", "-f", "made")
    until(lambda: not bundle(docker_cli.engine, container).exists(), "the runtime to forget it")


@BOTH
@pytest.mark.observes("docker run --runtime")
def test_output_input_exit_code_and_user_are_as_ever(docker_cli: CommandLine, runtime: str) -> None:
    script = "cat; echo err >&2; id -u; echo $HOME; hostname; exit 7"
    flags = ("--runtime", runtime, "-i", "-u", "app", "--hostname", "ship", "--memory", "64m")
    ended = docker_cli("run", "--rm", *flags, "busybox", "sh", "-c", script, stdin="hello\n")
    assert (ended.code, ended.stderr) == (7, "err\n")
    assert ended.stdout.split() == ["hello", "1000", "/home/app", "ship"]


@BOTH
def test_a_terminal_is_the_containers(docker_cli: CommandLine, runtime: str) -> None:
    with docker_cli.terminal("run", "--rm", "-it", "--runtime", runtime, "busybox", "sh", rows=31, columns=101) as screen:
        screen.send("stty size; tty\n")
        screen.expect("31 101")
        screen.expect("/dev/pts/0")
        screen.send("exit 4\n")
        assert screen.wait() == 4


@BOTH
def test_the_container_is_confined_as_our_own(docker_cli: CommandLine, runtime: str) -> None:
    script = "grep -E '^(CapBnd|CapEff|Seccomp|NoNewPrivs):' /proc/self/status; echo $(ls /dev | sort); ls /proc/1/fd"
    flags = ("--cap-drop", "NET_RAW", "--security-opt", "no-new-privileges")
    ours = docker_cli.shell(script, *flags).ok().splitlines()
    theirs = docker_cli.shell(script, *flags, "--runtime", runtime).ok().splitlines()
    # crun links /dev/core even where no kernel has it, runc never
    assert [row.removeprefix("core ") for row in theirs] == [row.removeprefix("core ") for row in ours]


@BOTH
def test_exec_stop_restart_pause_and_update_work_on_it(docker_cli: CommandLine, runtime: str) -> None:
    script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    docker_cli.ok("run", "-d", "--name", "lives", "--runtime", runtime, "-v", "data:/data", "busybox", "sh", "-c", script)
    docker_cli.ok("exec", "lives", "sh", "-c", "echo kept > /data/f; echo kept > /f")
    docker_cli.ok("pause", "lives")
    if runtime == "runc":  # crun's `state` fails where cgroup v1 and v2 have controllers at once
        assert state_of(docker_cli.engine, runtime, the_id(docker_cli, "lives"))["status"] == "paused"
    docker_cli.ok("unpause", "lives")
    docker_cli.ok("update", "--pids-limit", "77", "lives")
    container = the_id(docker_cli, "lives")
    assert any(path.read_text().strip() == "77" for path in CGROUP_ROOT.glob(f"**/{container}/pids.max"))
    docker_cli.ok("restart", "lives")
    assert docker_cli.ok("exec", "lives", "cat", "/f", "/data/f").split() == ["kept", "kept"]
    docker_cli.ok("stop", "lives")
    assert docker_cli.ok("inspect", "-f", "{{.State.ExitCode}}", "lives") == "3"
    assert docker_cli.ok("logs", "lives").split() == ["ready", "ready"]


@BOTH
@pytest.mark.observes("docker run --network")
def test_it_has_its_addresses_and_ports(docker_cli: CommandLine, runtime: str, free_port: Callable[[], int]) -> None:
    port = str(free_port())
    script = "mkdir /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www"
    docker_cli.ok("run", "-d", "--name", "web", "--runtime", runtime, "-p", f"127.0.0.1:{port}:80", "busybox", "sh", "-c", script)
    until(lambda: run(["curl", "-s", f"http://127.0.0.1:{port}/"]).stdout == "served\n", "the page")
    other = docker_cli.ok("run", "--rm", "--runtime", runtime, "--network", "container:web", "busybox", "ip", "-4", "addr")
    assert docker_cli.ok("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web") in other


@BOTH
@pytest.mark.observes("docker run --annotation", "docker create --annotation")
def test_annotations_reach_the_runtime(engine: Engine, docker_cli: CommandLine, runtime: str) -> None:
    host = {"Runtime": runtime, "Annotations": {"org.example.colour": "blue"}}
    wish = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": host}
    container = engine.api("POST", "/containers/create", wish).json["Id"]
    assert engine.api("POST", f"/containers/{container}/start").status == 204
    annotations = state_of(engine, runtime, container)["annotations"]
    assert isinstance(annotations, dict)
    assert annotations["org.example.colour"] == "blue"
    shown = engine.api("GET", f"/containers/{container}/json").json["HostConfig"]["Annotations"]
    assert shown == {"org.example.colour": "blue"}


@BOTH
@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [(("no-such-program",), 127, "no-such-program"), (("/etc/passwd",), 126, "ermission denied")],
)
def test_a_program_that_cannot_run_is_told_with_dockers_exit_code(
    docker_cli: CommandLine, runtime: str, argv: tuple[str, ...], code: int, message: str
) -> None:
    ended = docker_cli("run", "--name", "fails", "--runtime", runtime, "busybox", *argv)
    assert (ended.code, message in ended.stderr) == (code, True), ended.stderr
    container = the_id(docker_cli, "fails")
    until(lambda: not bundle(docker_cli.engine, container).exists(), "the runtime to forget it")
    assert not list(CGROUP_ROOT.glob(f"**/{container}"))


@pytest.mark.observes("docker run --runtime")
def test_a_runtime_that_is_not_there_is_refused(docker_cli: CommandLine) -> None:
    ended = docker_cli("run", "--runtime", "kettle", "busybox", "true")
    assert (ended.code, "unknown or invalid runtime name: kettle" in ended.stderr) == (125, True)


def test_the_daemons_file_names_runtimes_and_the_default(make_engine: MakeEngine, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\necho "$@" >> {seen}\nexec {shutil.which("crun")} "$@"\n')
    wrapper.chmod(0o755)
    engine = make_engine(start=False)
    runtimes = {"wrapped": {"path": str(wrapper), "runtimeArgs": ["--debug"]}}
    (engine.folder / "daemon.json").write_text(json.dumps({"runtimes": runtimes, "default-runtime": "wrapped"}))
    engine.start()
    archive = CommandLine(engine, [docker_program()])
    info = engine.api("GET", "/info").json
    assert info["DefaultRuntime"] == "wrapped"
    assert info["Runtimes"]["wrapped"] == {"path": str(wrapper), "runtimeArgs": ["--debug"]}
    assert {"carrack", "crun", "runc"} <= set(info["Runtimes"])
    (tmp_path / "r/bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", tmp_path / "r/bin/busybox")
    run(["tar", "-C", f"{tmp_path}/r", "-cf", f"{tmp_path}/r.tar", "."]).ok()
    archive.ok("import", f"{tmp_path}/r.tar", "tiny")
    assert archive.ok("run", "--rm", "tiny", "/bin/busybox", "echo", "hello") == "hello"

    def verbs() -> list[str]:
        return [word for line in seen.read_text().splitlines() for word in line.split() if word in ("create", "start", "delete")]

    until(lambda: verbs() == ["create", "start", "delete"], "the three orders")
    assert all(line.startswith("--debug ") for line in seen.read_text().splitlines())


def shim_of(pid: int) -> int:
    (shim,) = until(lambda: shim_above(Path(f"/proc/{pid}")), "its maker to leave it to its shim")
    return shim


@BOTH
def test_it_outlives_the_daemon_and_dies_with_its_shim(make_engine: MakeEngine, runtime: str) -> None:
    engine = make_engine()
    assert isinstance(engine, Carrackd)
    cli = CommandLine(engine, [docker_program()])
    cli.ok("run", "-d", "--name", "stays", "--runtime", runtime, "busybox", "sleep", "1000")
    container, pid = the_id(cli, "stays"), int(cli.ok("inspect", "-f", "{{.State.Pid}}", "stays"))
    engine.kill()
    engine.start()
    assert cli.ok("inspect", "-f", "{{.State.Pid}} {{.State.Status}}", "stays") == f"{pid} running"
    os.kill(shim_of(pid), 9)
    until(lambda: cli.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "stays") == "exited 137", "the end")
    until(lambda: not Path(f"/proc/{pid}").exists(), "its process to end")
    until(lambda: not bundle(engine, container).exists(), "the runtime to forget it")


@BOTH
def test_a_shim_that_is_killed_while_no_daemon_runs_leaves_nothing_once_one_does(make_engine: MakeEngine, runtime: str) -> None:
    """Nobody ends such a container at once: another runtime's init knows no signal for its supervisor's death."""
    engine = make_engine()
    assert isinstance(engine, Carrackd)
    cli = CommandLine(engine, [docker_program()])
    cli.ok("run", "-d", "--name", "lost", "--runtime", runtime, "busybox", "sleep", "1000")
    cli.ok("run", "-d", "--name", "again", "--runtime", runtime, "--restart", "always", "busybox", "sleep", "1000")
    pids = {name: int(cli.ok("inspect", "-f", "{{.State.Pid}}", name)) for name in ("lost", "again")}
    bundles = bundle(engine, the_id(cli, "lost"))
    shims = [shim_of(pid) for pid in pids.values()]
    engine.kill()
    for shim in shims:
        os.kill(shim, 9)
    engine.start()
    for pid in pids.values():
        until(lambda pid=pid: not Path(f"/proc/{pid}").exists(), "its process to end")  # type: ignore[misc]
    assert cli.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "lost") == "exited 137"
    until(lambda: cli.ok("inspect", "-f", "{{.State.Status}}", "again") == "running", "the other's restart")
    until(lambda: not bundles.exists(), "the runtime to forget it")
    cli.ok("exec", "again", "true")
    cli.ok("start", "lost")
    cli.ok("rm", "-f", "lost", "again")
    until(lambda: engine.instance_processes() <= engine.own_processes(), "nobody else to be left")
