"""carrack-oci, by its command line, on bundles."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from carrack.oci.runtime_spec import Hook, Hooks, IDMapping, MemoryLimits, Namespace, Resources, Root, RuntimeSpec
from carrack.runtime import cgroups

from .conftest import SOURCES, Box, furnish


class Runtime:
    """Calls the command with a --root of its own."""

    def __init__(self, box: Box, place: Path) -> None:
        self.box = box
        self.place = place
        self.bundle = place / "bundle"
        furnish(self.bundle / "rootfs")

    def write(self, spec: RuntimeSpec) -> None:
        linux = spec.linux
        assert linux is not None
        spec = msgspec.structs.replace(
            spec, root=Root("rootfs"), linux=msgspec.structs.replace(linux, cgroups_path=self.box.cgroup + "/c")
        )
        (self.bundle / "config.json").write_bytes(msgspec.json.encode(spec))

    def call(self, *words: str, code: int | None = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "carrack.runtime", "--root", str(self.place / "state"), *words],
            capture_output=True,
            text=True,
            cwd=self.bundle,
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
            timeout=60,
            input=stdin,
            check=False,
        )
        assert code is None or done.returncode == code, done.stderr
        return done

    def start(self, *args: str, **changes: object) -> None:
        """A detached container called `c` whose output goes nowhere."""
        self.write(self.box.spec(*args, **changes))  # type: ignore[arg-type]
        command = [sys.executable, "-m", "carrack.runtime", "--root", str(self.place / "state"), "run", "-d", "c"]
        environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
        null = subprocess.DEVNULL
        subprocess.run(command, cwd=self.bundle, env=environment, stdin=null, stdout=null, stderr=null, timeout=60, check=True)

    def state(self) -> dict[str, object]:
        found = json.loads(self.call("state", "c").stdout)
        assert isinstance(found, dict)
        return found


@pytest.fixture
def runtime(box: Box, tmp_path: Path) -> Iterator[Runtime]:
    made = Runtime(box, tmp_path)
    yield made
    made.call("delete", "--force", "c", code=None)


def test_run_takes_the_programs_exit_code_and_leaves_nothing(runtime: Runtime) -> None:
    runtime.write(runtime.box.spec("sh", "-c", "echo hi; exit 7"))
    assert runtime.call("run", "c", code=7).stdout == "hi\n"
    assert runtime.call("list", "-q").stdout == ""
    assert not Path(cgroups.open(runtime.box.cgroup + "/c").directory("memory")).exists()


def test_a_container_is_created_then_started_then_stopped_then_gone(runtime: Runtime) -> None:
    runtime.write(runtime.box.spec("sleep", "1000"))
    command = [sys.executable, "-m", "carrack.runtime", "--root", str(runtime.place / "state"), "create", "c"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    subprocess.run(command, cwd=runtime.bundle, env=environment, stdout=subprocess.DEVNULL, timeout=60, check=True)
    assert runtime.state()["status"] == "created"
    runtime.call("start", "c")
    state = runtime.state()
    assert state["status"] == "running"
    pidfd = os.pidfd_open(int(str(state["pid"])))
    assert "cannot delete container c that is not stopped: running" in runtime.call("delete", "c", code=1).stderr
    runtime.call("kill", "c", "KILL")
    assert select.select((pidfd,), (), (), 10)[0]
    os.close(pidfd)
    assert runtime.state()["status"] == "stopped"
    runtime.call("delete", "c")
    assert "container does not exist" in runtime.call("state", "c", code=1).stderr


def test_exec_runs_beside_and_takes_its_exit_code(runtime: Runtime) -> None:
    runtime.start("sleep", "1000")
    assert runtime.call("exec", "-e", "A=b", "--cwd", "/tmp", "c", "sh", "-c", "echo $A $PWD; exit 3", code=3).stdout == "b /tmp\n"


def test_exec_of_nothing_says_so_with_255(runtime: Runtime) -> None:
    runtime.start("sleep", "1000")
    failed = runtime.call("exec", "c", "nosuch", code=255)
    assert 'exec failed: unable to start container process: exec: \\"nosuch\\": executable file not found in $PATH' in failed.stderr


def test_a_paused_container_stands_still_until_it_is_resumed(runtime: Runtime) -> None:
    runtime.start("sleep", "1000")
    runtime.call("pause", "c")
    assert runtime.state()["status"] == "paused"
    assert "cannot exec in a paused container" in runtime.call("exec", "c", "true", code=255).stderr
    runtime.call("resume", "c")
    assert runtime.state()["status"] == "running"


def test_ps_knows_the_processes_of_the_container(runtime: Runtime) -> None:
    runtime.start("sleep", "1000")
    assert json.loads(runtime.call("ps", "--format", "json", "c").stdout) == [runtime.state()["pid"]]


def test_events_tell_what_was_used(runtime: Runtime) -> None:
    runtime.start("sleep", "1000")
    event = json.loads(runtime.call("events", "--stats", "c").stdout)
    assert (event["type"], event["data"]["pids"]["current"]) == ("stats", 1)


def test_update_changes_a_limit_of_the_running_container(runtime: Runtime) -> None:
    runtime.start("sleep", "1000", linux={"resources": Resources(memory=MemoryLimits(limit=64 << 20))})
    runtime.call("update", "--memory", "32m", "c")
    cat = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    assert runtime.call("exec", "c", "sh", "-c", cat).stdout == f"{32 << 20}\n"
    runtime.call("update", "-r", "-", "c", stdin='{"memory": {"limit": 50331648}}')
    assert runtime.call("exec", "c", "sh", "-c", cat).stdout == f"{48 << 20}\n"


def test_a_name_in_use_is_refused(runtime: Runtime) -> None:
    runtime.start("sleep", "1000")
    assert "container with given ID already exists" in runtime.call("run", "c", code=1).stderr
    assert runtime.state()["status"] == "running"


def test_a_failed_create_leaves_no_name_behind(runtime: Runtime) -> None:
    runtime.write(runtime.box.spec("nosuch"))
    failed = runtime.call("run", "c", code=1)
    assert "unable to start container process" in failed.stderr
    assert runtime.call("list", "-q").stdout == ""


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b"])
def test_a_name_that_is_a_path_is_refused(runtime: Runtime, name: str) -> None:
    runtime.write(runtime.box.spec("true"))
    runtime.call("run", name, code=1)
    assert runtime.call("list", "-q").stdout == ""


def test_hooks_run_at_their_moments_with_the_state(runtime: Runtime, tmp_path: Path) -> None:
    def note(moment: str) -> tuple[Hook, ...]:
        return (Hook("/bin/sh", ("sh", "-c", f"echo {moment} $(cat) >> {tmp_path}/notes")),)

    moments = Hooks(
        prestart=note("prestart"),
        create_runtime=note("createRuntime"),
        create_container=note("createContainer"),
        poststart=note("poststart"),
        poststop=note("poststop"),
    )
    runtime.write(runtime.box.spec("true", hooks=moments))
    runtime.call("run", "c")
    notes = [line.split(" ", 1) for line in (tmp_path / "notes").read_text().splitlines()]
    assert [moment for moment, _ in notes] == ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
    assert [json.loads(state)["status"] for _, state in notes] == ["creating", "creating", "created", "running", "stopped"]


def test_a_failing_hook_undoes_the_container(runtime: Runtime) -> None:
    runtime.write(runtime.box.spec("true", hooks=Hooks(create_runtime=(Hook("/bin/false"),))))
    assert "error running createRuntime hook #0: error running hook: exit status 1" in runtime.call("run", "c", code=1).stderr
    assert runtime.call("list", "-q").stdout == ""


def test_the_console_goes_to_the_socket(runtime: Runtime, tmp_path: Path) -> None:
    runtime.write(runtime.box.spec("sh", "-c", "tty; stty size", process={"terminal": True}))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "console"))
        listener.listen()
        runtime.call("run", "-d", "--console-socket", str(tmp_path / "console"), "c")
        peer, _ = listener.accept()
        with peer:
            _, descriptors, _, _ = socket.recv_fds(peer, 64, 1)
    with os.fdopen(descriptors[0], "rb", buffering=0) as master:
        assert master.read(4096).startswith(b"/dev/pts/0")


def test_a_user_namespace_has_the_maps_it_was_given(runtime: Runtime) -> None:
    spec = runtime.box.spec("sh", "-c", "cat /proc/self/uid_map; id -u; ls -n /dev/null; echo x > /dev/null")
    assert spec.linux is not None
    maps = (IDMapping(0, 100000, 65536),)
    namespaces = (*spec.linux.namespaces, Namespace("user"))
    runtime.write(msgspec.structs.replace(spec, mounts=tuple(each for each in spec.mounts if each.type != "cgroup"),
        linux=msgspec.structs.replace(spec.linux, namespaces=namespaces, uid_mappings=maps, gid_mappings=maps)))  # fmt: skip
    assert runtime.call("run", "c").stdout.split()[:4] == ["0", "100000", "65536", "0"]


def test_an_example_spec_is_written_once(runtime: Runtime) -> None:
    runtime.call("spec")
    assert json.loads((runtime.bundle / "config.json").read_text())["process"]["args"] == ["sh"]
    assert "exists. Remove it first" in runtime.call("spec", code=1).stderr


def test_an_unknown_flag_or_command_is_told(runtime: Runtime) -> None:
    assert "flag provided but not defined: -nosuch" in runtime.call("run", "--nosuch", "c", code=1).stderr
    assert "nosuch" in runtime.call("nosuch", code=1).stderr


def test_features_name_every_hook(runtime: Runtime) -> None:
    assert json.loads(runtime.call("features").stdout)["hooks"][0] == "prestart"


def test_an_error_stands_in_the_log_as_json(runtime: Runtime, tmp_path: Path) -> None:
    runtime.call("--log", str(tmp_path / "log"), "--log-format", "json", "state", "c", code=1)
    assert json.loads((tmp_path / "log").read_text())["msg"] == "container does not exist"
