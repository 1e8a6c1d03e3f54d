"""Checkpoints by a real CRIU: what a container was doing goes on where it stood, with its output, files, ports and exit code."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import pytest

from tests.conftest import EnginePool, Images
from tests.rig.carrackd import Carrackd
from tests.rig.criu import criu_path
from tests.rig.engine import CommandLine, Engine, carrack_program, docker_program
from tests.rig.ports import FreePort
from tests.rig.waiting import until

COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"
ENDS = "trap 'exit 7' TERM; " + COUNT
pytestmark = pytest.mark.observes(
    "GET /containers/{id}/checkpoints",
    "POST /containers/{id}/checkpoints",
    "DELETE /containers/{id}/checkpoints/{checkpoint}",
    "docker checkpoint create",
    "docker checkpoint create --checkpoint-dir",
    "docker checkpoint create --leave-running",
    "docker checkpoint ls",
    "docker checkpoint ls --checkpoint-dir",
    "docker checkpoint rm",
    "docker checkpoint rm --checkpoint-dir",
    "docker start --checkpoint",
    "docker start --checkpoint-dir",
)

Start = Callable[..., Engine]


@pytest.fixture(scope="module")
def engine_with_criu(engine_pool: EnginePool) -> Iterator[Engine]:
    """An engine that finds CRIU, for those tests that leave it as it was."""
    with engines(engine_pool) as start:
        yield start(criu_path())


@pytest.fixture
def start_engine(engine_pool: EnginePool) -> Iterator[Start]:
    """Makes engines with a PATH of the test's choice; they end with the test."""
    with engines(engine_pool) as start:
        yield start


@contextmanager
def engines(engine_pool: EnginePool) -> Iterator[Start]:
    made: list[Engine] = []

    def start(path: str) -> Engine:
        engine = engine_pool.build("carrackd")
        made.append(engine)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", path)
            engine_pool.start(engine)
        return engine

    yield start
    for engine in made:
        engine.close()


@pytest.fixture
def own(engine_with_criu: Engine, client_name: str, images: Images) -> Iterator[CommandLine]:
    """A client of an engine that finds CRIU; no container is left after the test."""
    program = docker_program() if client_name == "docker" else carrack_program()
    yield CommandLine(engine_with_criu, [program])
    engine_with_criu.sweep(frozenset({images.busybox.image_id}))


def counted(own: CommandLine, name: str) -> list[int]:
    """The numbers that a container has written so far."""
    return [int(line) for line in own.ok("logs", name).split()]


def counts(own: CommandLine, name: str, *, beyond: int = 3) -> int:
    """Wait until it has counted further than that; the last number."""
    until(lambda: counted(own, name)[-1:] > [beyond], f"{name} to count")
    return counted(own, name)[-1]


def run_counter(own: CommandLine, *flags: str, name: str = "counter", script: str = COUNT) -> None:
    own.ok("run", "-d", "--name", name, *flags, "busybox", "sh", "-c", script)
    counts(own, name)


def state(own: CommandLine, name: str = "counter") -> str:
    return own.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name)


def directory_of(own: CommandLine, name: str = "counter") -> Path:
    return own.engine.data_root / "containers" / own.ok("inspect", "-f", "{{.Id}}", name)


@pytest.mark.both_clients
def test_a_container_goes_on_where_it_stood(own: CommandLine) -> None:
    run_counter(own, script=ENDS)
    with own.pipes("wait", "counter") as waiting:
        assert own.ok("checkpoint", "create", "counter", "first") == "first"
        assert waiting.rest() == "137\n"
    assert state(own) == "exited 137"
    before = counted(own, "counter")
    assert own.ok("checkpoint", "ls", "counter").split("\n")[1:] == ["first"]
    assert own.ok("start", "--checkpoint", "first", "counter") == ""
    after_start = counts(own, "counter", beyond=before[-1] + 2)
    numbers = counted(own, "counter")
    assert numbers == list(range(1, numbers[-1] + 1)), "it has counted on, and every line is in the log once"
    assert after_start > before[-1]
    with own.pipes("wait", "counter") as waiting:
        own.ok("stop", "-t", "10", "counter")
        assert waiting.rest() == "7\n"
    assert state(own) == "exited 7"


# CVE-2024-21626: of what made it, or made it again, nothing stays open in a container
def test_a_restored_container_and_its_health_checks_hold_no_descriptor_of_ours(own: CommandLine) -> None:
    check = "ls /proc/self/fd | tr '\\n' ' '"
    script = (
        "while :; do ls /proc/1/fd >/held.new; mv /held.new /held; sleep 0.1; done"  # no pipe: a shell holds its ends for a moment
    )
    flags = ("--name", "counter", "--health-cmd", check, "--health-interval", "200ms")
    own.ok("run", "-d", *flags, "busybox", "sh", "-c", script)

    def seen() -> set[str]:
        looks = json.loads(own.ok("inspect", "-f", "{{json .State.Health}}", "counter"))["Log"] or []
        return {look["Output"] for look in looks if look["ExitCode"] == 0}

    until(seen, "a look at its health")
    held = own.ok("exec", "counter", "cat", "/held")
    own.ok("checkpoint", "create", "counter", "first")
    own.ok("start", "--checkpoint", "first", "counter")
    own.ok("exec", "counter", "rm", "-f", "/held")
    until(lambda: own("exec", "counter", "cat", "/held").code == 0, "it to look again")
    assert own.ok("exec", "counter", "cat", "/held") == held
    until(seen, "a look at its health after the start")
    assert seen() == {"0 1 2 3 "}


def test_a_container_left_running_can_be_taken_back(own: CommandLine) -> None:
    run_counter(own)
    pid = own.ok("inspect", "-f", "{{.State.Pid}}", "counter")
    own.ok("checkpoint", "create", "--leave-running", "counter", "early")
    at_most = counts(own, "counter")
    counts(own, "counter", beyond=at_most + 5)
    assert own.ok("inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "counter") == f"running {pid}"
    own.ok("kill", "counter")
    for times in (2, 3):  # as often as one likes
        own.ok("start", "--checkpoint", "early", "counter")
        until(lambda times=times: counted(own, "counter").count(at_most + 1) == times, "it to count from then on")  # type: ignore[misc]
        own.ok("kill", "counter")
    assert counted(own, "counter").count(1) == 1


def test_everything_around_it_is_there_again(own: CommandLine, free_port: FreePort, tmp_path: Path) -> None:
    port = free_port()
    flags = ["-p", f"127.0.0.1:{port}:80", "-v", "kept:/kept", "-v", f"{tmp_path}:/shared", "--tmpfs", "/scratch"]
    script = f"echo served > /kept/index.html; echo in memory > /scratch/note; httpd -p 80 -h /kept; {COUNT}"
    run_counter(own, *flags, "-m", "64m", "--hostname", "ship", "--cap-drop", "NET_RAW", script=script)
    url = f"http://127.0.0.1:{port}/index.html"
    fetch = ("curl", "-s", "-m", "2", url)
    until(lambda: own.engine.on_host(*fetch).text == "served", "the server to listen")
    pid = own.ok("inspect", "-f", "{{.State.Pid}}", "counter")
    confinement = _confinement(pid)
    own.ok("checkpoint", "create", "counter", "whole")
    assert own.engine.on_host(*fetch).code != 0
    own.ok("run", "-d", "--name", "other", "busybox", "sleep", "1000")  # it may take the address
    own.ok("start", "--checkpoint", "whole", "counter")
    assert own.engine.on_host(*fetch).text == "served"
    own.ok("exec", "counter", "sh", "-c", "echo by exec > /shared/seen; cp /scratch/note /shared/note; hostname > /shared/name")
    assert [(tmp_path / name).read_text() for name in ("seen", "note", "name")] == ["by exec\n", "in memory\n", "ship\n"]
    address = own.ok("inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "counter")
    assert f"{address}\t" in own.ok("exec", "counter", "cat", "/etc/hosts")
    pid = own.ok("inspect", "-f", "{{.State.Pid}}", "counter")
    assert _confinement(pid) == confinement
    assert own.ok("exec", "counter", "sh", "-c", "cat /sys/fs/cgroup/memory/memory.limit_in_bytes || cat /sys/fs/cgroup/memory.max")


def _confinement(pid: str) -> list[str]:
    """What holds a process back: capabilities, filter, cgroups; and who its parent is."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    kept = [line for line in status if line.startswith(("Cap", "Seccomp:", "NoNewPrivs", "Uid", "Gid", "Groups"))]
    parent = next(line.split()[1] for line in status if line.startswith("PPid"))
    title = Path(f"/proc/{parent}/cmdline").read_text().split("\0")[0]
    return [*kept, Path(f"/proc/{pid}/cgroup").read_text(), title]


@pytest.mark.both_clients
def test_a_directory_of_ones_own_takes_it_to_another_container(own: CommandLine, tmp_path: Path) -> None:
    flags = ("--tmpfs", "/new/scratch", "-v", "kept:/new/volume", "-v", f"{tmp_path}:/var/linked/shared:ro")
    run_counter(own, *flags)
    place = str(tmp_path / "far" / "away")
    own.ok("checkpoint", "create", "--checkpoint-dir", place, "counter", "moved")
    last = counted(own, "counter")[-1]
    assert not (directory_of(own) / "checkpoints").exists()
    assert own.ok("checkpoint", "ls", "counter").split("\n")[1:] == []
    assert own.ok("checkpoint", "ls", "--checkpoint-dir", place, "counter").split("\n")[1:] == ["moved"]
    own.ok("rm", "counter")
    own.ok("create", "--name", "second", *flags, "busybox", "sh", "-c", COUNT)
    own.ok("start", "--checkpoint-dir", place, "--checkpoint", "moved", "second")
    counts(own, "second", beyond=last)
    assert counted(own, "second")[0] in (last, last + 1)
    own.ok("checkpoint", "rm", "--checkpoint-dir", place, "second", "moved")
    assert os.listdir(place) == []


def test_output_of_a_restored_container_can_be_attached_to(own: CommandLine) -> None:
    own.ok("run", "-di", "--name", "echo", "busybox", "sh", "-c", "echo up; while read line; do echo heard $line; done; exit 3")
    until(lambda: own.ok("logs", "echo") == "up", "it to read")
    own.ok("checkpoint", "create", "echo", "listening")
    with own.pipes("start", "-ai", "--checkpoint", "listening", "echo") as talk:
        talk.send("hello\n")
        talk.expect("heard hello")
        own.ok("kill", "echo")
        assert talk.wait() == 137
    assert own.ok("logs", "echo").split("\n") == ["up", "heard hello"]


def test_a_terminal_is_one_again(own: CommandLine) -> None:
    own.ok("run", "-dit", "--name", "shell", "busybox", "sh", "-c", "echo up; read line; echo heard $line; stty size; exit 4")
    until(lambda: "up" in own.ok("logs", "shell"), "it to read")
    own.ok("checkpoint", "create", "shell", "reading")
    own.ok("start", "--checkpoint", "reading", "shell")
    with own.terminal("attach", "shell", rows=33, columns=99) as screen:
        screen.send_line("hello")
        screen.expect("heard hello")
        assert screen.wait() == 4


def test_restart_policies_and_removal_wait_for_the_right_end(own: CommandLine) -> None:
    run_counter(own, "--restart", "always", script="trap 'exit 1' USR1; " + COUNT)
    own.ok("checkpoint", "create", "counter", "still")
    assert state(own) == "exited 137", "the one who writes it out does not want it begun anew"
    own.ok("start", "--checkpoint", "still", "counter")
    own.ok("kill", "-s", "USR1", "counter")
    until(lambda: own.ok("inspect", "-f", "{{.RestartCount}} {{.State.Status}}", "counter") == "1 running", "its policy to act")
    until(lambda: counted(own, "counter").count(1) == 2, "it to count from one: a restart is no restore")


def test_an_event_tells_of_it(own: CommandLine) -> None:
    run_counter(own)
    since = own.ok("inspect", "-f", "{{.Created}}", "counter")
    own.ok("checkpoint", "create", "counter", "told")
    now = own.engine.on_host("date", "-u", "+%Y-%m-%dT%H:%M:%S.%NZ").text
    told = own.ok("events", "--since", since, "--until", now, "-f", "container=counter", "--format", "{{.Action}}").split("\n")
    assert [action for action in told if action in ("checkpoint", "die")] in (["checkpoint", "die"], ["die", "checkpoint"])


def test_a_checkpoint_is_removed_alone_and_goes_with_its_container(own: CommandLine) -> None:
    run_counter(own)
    for name in ("one", "two.2", "three_3-x"):
        own.ok("checkpoint", "create", "--leave-running", "counter", name)
    place = directory_of(own) / "checkpoints"
    (place / "stray").mkdir()
    assert own.ok("checkpoint", "ls", "counter").split("\n")[1:] == ["one", "three_3-x", "two.2"]
    own.ok("checkpoint", "rm", "counter", "one")
    assert sorted(os.listdir(place)) == ["stray", "three_3-x", "two.2"]
    assert place.stat().st_mode & 0o077 == 0
    refused = own("checkpoint", "rm", "counter", "stray")
    assert "checkpoint stray does not exist for container counter" in refused.stderr
    assert (place / "stray").is_dir(), "what is no checkpoint is not removed as one"
    own.ok("rm", "-f", "counter")
    assert not place.exists()


NO_NAME = 'invalid checkpoint ID "{}", only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed'


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "message"),
    [
        ("POST", "missing/checkpoints", {"CheckpointID": "cp"}, 404, "No such container: missing"),
        ("POST", "ended/checkpoints", {"CheckpointID": "cp"}, 409, "container {ended} is not running"),
        ("POST", "paused/checkpoints", {"CheckpointID": "cp"}, 409, "container {paused} is paused, unpause the container"),
        ("POST", "counter/checkpoints", {"CheckpointID": "../up"}, 400, NO_NAME.format("../up")),
        ("POST", "counter/checkpoints", {"CheckpointID": ""}, 400, NO_NAME.format("")),
        ("POST", "counter/checkpoints", {"CheckpointID": "dot."}, 400, NO_NAME.format("dot.")),
        ("POST", "counter/checkpoints", {"CheckpointID": 5}, 400, "cannot unmarshal number"),
        (
            "POST",
            "counter/checkpoints",
            {"CheckpointID": "there"},
            409,
            "cannot checkpoint container counter: checkpoint with name there already exists for container counter",
        ),
        ("POST", "counter/checkpoints", {"CheckpointID": "cp", "CheckpointDir": "relative"}, 400, "is not an absolute path"),
        (
            "POST",
            "counter/checkpoints",
            {"CheckpointID": "cp", "CheckpointDir": "/proc/nowhere"},
            400,
            "Cannot checkpoint container counter: mkdir /proc/nowhere: no such file or directory",
        ),
        ("GET", "missing/checkpoints", None, 404, "No such container: missing"),
        ("GET", "counter/checkpoints?dir=/nowhere/at/all", None, 404, 'checkpoint directory "/nowhere/at/all" does not exist'),
        ("GET", "counter/checkpoints?dir=/etc/hostname", None, 400, "exists but is not a directory"),
        ("DELETE", "counter/checkpoints/none", None, 404, "checkpoint none does not exist for container counter"),
        ("DELETE", "counter/checkpoints/etc?dir=/", None, 404, "checkpoint etc does not exist for container counter"),
        ("DELETE", "counter/checkpoints/-x", None, 400, NO_NAME.format("-x")),
        ("POST", "ended/start?checkpoint=none", None, 404, "checkpoint none does not exist for container ended"),
        ("POST", "ended/start?checkpoint=..%2Fx", None, 400, NO_NAME.format("../x")),
        ("POST", "ended/start?checkpoint-dir=/tmp", None, 400, "a checkpoint directory is given, and no checkpoint"),
        ("POST", "counter/start?checkpoint=there", None, 304, ""),
        ("POST", "paused/start?checkpoint=there", None, 409, "cannot start a paused container, try unpause instead"),
    ],
)
def test_what_cannot_be_meant_changes_nothing(
    standing: CommandLine, method: str, path: str, body: object, status: int, message: str
) -> None:
    engine = standing.engine
    ids = {row["Names"][0].lstrip("/"): row["Id"] for row in engine.api("GET", "/containers/json?all=1").json}
    answer = engine.api(method, f"/containers/{path}", body)
    assert answer.status == status, answer.body
    if status != 304:
        assert message.format(**ids) in answer.json["message"]
    found = {row["Names"][0].lstrip("/"): row["State"] for row in engine.api("GET", "/containers/json?all=1").json}
    assert found == {"counter": "running", "ended": "created", "paused": "paused"}
    assert os.listdir(engine.data_root / "containers" / ids["counter"] / "checkpoints") == ["there"]


@pytest.fixture(scope="module")
def standing(engine_pool: EnginePool) -> Iterator[CommandLine]:
    """A running container with a checkpoint, one that never ran, and one that is paused."""
    with engines(engine_pool) as start:
        own = CommandLine(start(criu_path()), [carrack_program()])
        run_counter(own)
        own.ok("checkpoint", "create", "--leave-running", "counter", "there")
        own.ok("create", "--name", "ended", "busybox", "true")
        own.ok("run", "-d", "--name", "paused", "busybox", "sleep", "1000")
        own.ok("pause", "paused")
        yield own


def test_what_criu_cannot_write_goes_on_unharmed(own: CommandLine, tmp_path: Path) -> None:
    connected = "nc -l -p 9000 -e sleep 1000 & sleep 0.3; sleep 1000 | nc 127.0.0.1 9000 & "
    run_counter(own, script=connected + COUNT)
    until(lambda: "ESTABLISHED" in own.ok("exec", "counter", "netstat", "-tn"), "the connection")
    (tmp_path / ".none").mkdir()  # somebody's
    for words in ([], ["--leave-running"], ["--checkpoint-dir", str(tmp_path)]):
        refused = own("checkpoint", "create", *words, "counter", "none")
        assert refused.code == 1
        assert "Cannot checkpoint container counter: criu failed: " in refused.stderr
        assert "consider using --tcp-established" in refused.stderr, "the reason, in CRIU's own words"
        counts(own, "counter", beyond=counted(own, "counter")[-1] + 2)
    assert state(own) == "running 0"
    assert own.ok("checkpoint", "ls", "counter").split("\n")[1:] == []
    assert os.listdir(directory_of(own) / "checkpoints") == []
    assert os.listdir(tmp_path) == [".none"]
    own.ok("stop", "-t", "0", "counter")
    own.ok("start", "counter")


def test_what_criu_cannot_restore_leaves_nothing(own: CommandLine) -> None:
    run_counter(own)
    own.ok("checkpoint", "create", "counter", "torn")
    engine = cast(Carrackd, own.engine)
    before = engine.traces()
    images = directory_of(own) / "checkpoints/torn"
    whole = (images / "core-1.img").read_bytes()
    (images / "core-1.img").write_bytes(whole[:40])
    refused = own("start", "--checkpoint", "torn", "counter")
    assert refused.code == 1
    assert "OCI runtime restore failed: criu failed: " in refused.stderr
    assert engine.left_since(before) == set()
    assert state(own) == "exited 128"
    assert "criu failed" in own.ok("inspect", "-f", "{{.State.Error}}", "counter")
    (images / "core-1.img").write_bytes(whole)
    (images / "carrack.json").write_text(json.dumps({"pipes": [], "mounts": ["/root/.ssh"]}))
    refused = own("start", "--checkpoint", "torn", "counter")
    assert "the checkpoint has something mounted at /root/.ssh, and this container has not" in refused.stderr
    shutil.rmtree(images)
    own.ok("start", "counter")
    until(lambda: counted(own, "counter").count(1) == 2, "it to begin with its program")


def test_what_is_hidden_stays_hidden(own: CommandLine) -> None:
    """With the host's /dev inside, even the masks are the host's: they are no less masks after a restore."""
    run_counter(own, "-v", "/dev:/dev")
    hidden = "cat /proc/keys /proc/timer_list | wc -c; ls /sys/firmware | wc -l; touch /proc/sys/kernel/hostname 2>&1"
    before = own("exec", "counter", "sh", "-c", hidden)
    own.ok("checkpoint", "create", "counter", "cp")
    own.ok("start", "--checkpoint", "cp", "counter")
    after = own("exec", "counter", "sh", "-c", hidden)
    assert (after.code, after.stdout) == (before.code, before.stdout)
    assert before.lines[0] == "0"


def children_of(process: str) -> dict[str, str]:
    """Its children with their states: Z for one that nobody has reaped."""
    found = {}
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        with suppress(FileNotFoundError):
            found[child] = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
    return found


def test_a_restored_container_dies_with_its_shim(own: CommandLine) -> None:
    run_counter(own)
    own.ok("checkpoint", "create", "counter", "cp")
    own.ok("start", "--checkpoint", "cp", "counter")
    pid = own.ok("inspect", "-f", "{{.State.Pid}}", "counter")
    shim = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    until(lambda: "Z" not in children_of(shim).values(), "criu to be reaped")
    assert pid in children_of(shim)
    os.kill(int(shim), 9)
    until(lambda: state(own) == "exited 137", "the container to be found dead")
    until(
        lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split(")")[1].split(), "it to die"
    )


def test_a_daemon_in_between_makes_no_difference(start_engine: Start) -> None:
    own = CommandLine(start_engine(criu_path()), [carrack_program()])
    engine = own.engine
    run_counter(own)
    _start_again(engine)
    own.ok("checkpoint", "create", "counter", "across")  # a shim of the daemon before
    last = counted(own, "counter")[-1]
    own.ok("start", "--checkpoint", "across", "counter")
    _start_again(engine)
    counts(own, "counter", beyond=last + 3)
    own.ok("checkpoint", "create", "counter", "once-more")
    own.ok("start", "--checkpoint", "once-more", "counter")
    counts(own, "counter", beyond=counted(own, "counter")[-1] + 3)
    numbers = counted(own, "counter")
    assert numbers == list(range(1, len(numbers) + 1))


def _start_again(engine: Engine) -> None:
    if engine.process is not None:
        engine.kill()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", criu_path())
        engine.start()


def test_a_checkpoint_that_the_daemon_did_not_live_to_finish(start_engine: Start, tmp_path: Path) -> None:
    slow = tmp_path / "criu"
    slow.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/begun\nexec sleep 1000\n")
    slow.chmod(0o755)
    own = CommandLine(start_engine(f"{tmp_path}:{os.environ['PATH']}"), [carrack_program()])
    run_counter(own)
    place = directory_of(own) / "checkpoints"
    with own.pipes("checkpoint", "create", "counter", "half") as asking:
        until(lambda: (tmp_path / "begun").exists() and (tmp_path / "begun").read_text() != "", "criu to begin")
        criu = int((tmp_path / "begun").read_text())
        assert own.ok("checkpoint", "ls", "counter").split("\n")[1:] == []
        own.engine.kill()
        asking.rest()
    os.kill(criu, 9)
    assert [name.rpartition(".")[0] for name in os.listdir(place)] == [".half"]
    _start_again(own.engine)
    assert os.listdir(place) == []
    counts(own, "counter", beyond=counted(own, "counter")[-1])
    own.ok("checkpoint", "create", "counter", "half")


@pytest.mark.both_clients
def test_without_criu_one_sentence_says_so(engine: Engine, client_name: str) -> None:
    own = CommandLine(engine, [docker_program() if client_name == "docker" else carrack_program()])
    run_counter(own)
    answer = engine.api("POST", "/containers/counter/checkpoints", {"CheckpointID": "cp"})
    assert (answer.status, answer.json) == (
        503,
        {"message": "checkpoints need CRIU, which is not installed on this host (no `criu` in PATH)"},
    )
    refused = own("checkpoint", "create", "counter", "cp")
    assert refused.code == 1
    hidden = "is only supported on a Docker daemon with experimental features enabled"
    assert (hidden if client_name == "docker" else "checkpoints need CRIU, which is not installed") in refused.stderr
    assert state(own) == "running 0"
    assert engine.api("GET", "/containers/counter/checkpoints").json == []


def test_docker_offers_the_commands_where_criu_is(own: CommandLine) -> None:
    assert own.engine.api("GET", "/_ping").headers["docker-experimental"] == "true"
    assert own.ok("version", "-f", "{{.Server.Experimental}}") == "true"
    assert own.ok("info", "-f", "{{.ExperimentalBuild}}") == "true"
    assert "create" in own.ok("checkpoint", "--help")
