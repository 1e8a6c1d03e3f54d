"""The values of flags that have several: kinds of IPC, streams to attach, how binds propagate and are read-only."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.commands import run
from tests.rig.engine import CommandLine, Engine
from tests.rig.waiting import until


@pytest.mark.observes("docker run --ipc")
def test_ipc_none_has_no_shared_memory_and_private_is_not_shared(docker_cli: CommandLine) -> None:
    assert docker_cli.shell("grep -c ' /dev/shm ' /proc/mounts || true", "--ipc", "none").ok() == "0"
    docker_cli.ok("run", "-d", "--name", "own", "--ipc", "private", "busybox", "sleep", "1000")
    refused = docker_cli("run", "--rm", "--ipc", "container:own", "busybox", "true")
    assert refused.code == 125
    assert "non-shareable IPC" in refused.stderr


@pytest.mark.observes("docker run --attach")
@pytest.mark.parametrize(
    ("streams", "seen"),
    [("stdout", ["out", ""]), ("stderr", ["", "err"]), ("stdout stderr", ["out", "err"]), ("STDOUT", ["out", ""])],
)
def test_only_the_streams_that_are_attached_are_shown(docker_cli: CommandLine, streams: str, seen: list[str]) -> None:
    flags = [word for stream in streams.split() for word in ("-a", stream)]
    ended = docker_cli("run", "--rm", *flags, "busybox", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert [ended.stdout.strip(), ended.stderr.strip(), ended.code] == [*seen, 3]


@pytest.mark.observes("docker run --attach", "docker run --interactive")
def test_standard_input_alone_may_be_attached(docker_cli: CommandLine) -> None:
    docker_cli.ok("run", "--name", "reader", "-a", "stdin", "-i", "busybox", "cat", stdin="given")
    until(lambda: docker_cli.ok("inspect", "-f", "{{.State.Status}}", "reader") == "exited", "the end")
    assert docker_cli.ok("logs", "reader") == "given"


@pytest.mark.observes("docker run --publish-all", "docker run --expose")
def test_publish_all_opens_every_exposed_port(docker_cli: CommandLine) -> None:
    flags = ("-P", "--expose", "8080", "--expose", "9000-9001/udp")
    docker_cli.ok("run", "-d", "--name", "web", *flags, "busybox", "httpd", "-f", "-p", "8080", "-h", "/var/www")
    bound = json.loads(docker_cli.ok("inspect", "-f", "{{json .NetworkSettings.Ports}}", "web"))
    assert set(bound) == {"8080/tcp", "9000/udp", "9001/udp"}
    port = bound["8080/tcp"][0]["HostPort"]
    page = ("curl", "-sS", f"http://127.0.0.1:{port}/")
    until(lambda: docker_cli.engine.on_host(*page).stdout == "it works\n", "the page")


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Path]:
    """A shared mount with another below it."""
    run(["mount", "-t", "tmpfs", "none", str(tmp_path)]).ok()
    run(["mount", "--make-shared", str(tmp_path)]).ok()
    (tmp_path / "below").mkdir()
    run(["mount", "-t", "tmpfs", "none", str(tmp_path / "below")]).ok()
    yield tmp_path
    run(["umount", "-R", "-l", str(tmp_path)]).ok()


@pytest.mark.peer_lacks("it runs in a mount namespace of its own, which these mounts do not reach")
@pytest.mark.observes("docker run --mount", "docker run --volume")
def test_a_bind_propagates_as_it_is_asked_to(docker_cli: CommandLine, shared: Path) -> None:
    admin = ("--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined")
    script = "mkdir /b/made; mount -t tmpfs none /b/made && touch /b/made/inside; sleep 1000"
    docker_cli.ok("run", "-d", "--name", "giver", *admin, "-v", f"{shared}:/b:rshared", "busybox", "sh", "-c", script)
    until((shared / "made/inside").exists, "what the container mounted to be seen outside")
    mount = f"type=bind,source={shared},target=/b,bind-propagation=rslave"
    docker_cli.ok("run", "-d", "--name", "taker", *admin, "--mount", mount, "busybox", "sleep", "1000")
    (shared / "later").mkdir()
    run(["mount", "-t", "tmpfs", "none", str(shared / "later")]).ok()
    (shared / "later/file").touch()
    docker_cli.ok("exec", "taker", "test", "-e", "/b/later/file")
    docker_cli.ok("exec", "taker", "sh", "-c", "mkdir -p /b/own && mount -t tmpfs none /b/own && touch /b/own/mine")
    assert not (shared / "own/mine").exists()
    private = docker_cli.ok("run", "-d", "-v", f"{shared}:/b", "busybox", "sleep", "1000")
    (shared / "last").mkdir()
    run(["mount", "-t", "tmpfs", "none", str(shared / "last")]).ok()
    (shared / "last/file").touch()
    assert docker_cli("exec", private, "test", "-e", "/b/last/file").code == 1


@pytest.mark.docker_since(25)
@pytest.mark.peer_lacks("it knows no recursive read-only")
@pytest.mark.observes("docker run --mount")
@pytest.mark.parametrize(
    ("option", "below"),
    [
        ("", "closed"),
        (",bind-recursive=readonly,bind-propagation=rprivate", "closed"),
        (",bind-recursive=writable", "open"),
        (",bind-recursive=disabled", "gone"),
    ],
)
def test_a_read_only_bind_is_so_below_too_unless_told_otherwise(
    docker_cli: CommandLine, shared: Path, option: str, below: str
) -> None:
    (shared / "below/there").touch()
    script = """touch /b/x 2>/dev/null && echo top
        if [ ! -e /b/below/there ]; then echo gone; elif touch /b/below/x 2>/dev/null; then echo open; else echo closed; fi"""
    mount = f"type=bind,source={shared},target=/b,readonly{option}"
    assert docker_cli.ok("run", "--rm", "--mount", mount, "busybox", "sh", "-c", script) == below


@pytest.mark.observes("docker run --volume")
def test_labels_of_selinux_are_taken_and_nocopy_leaves_a_volume_empty(docker_cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("here")
    assert docker_cli.shell("cat /b/given", "-v", f"{tmp_path}:/b:z,ro").ok() == "here"
    assert docker_cli.shell("ls /var/www | wc -l", "-v", "empty:/var/www:nocopy").ok() == "0"
    assert docker_cli.shell("ls /var/www | wc -l", "-v", "full:/var/www").ok() != "0"


@pytest.mark.peer_lacks("20.10 makes no source for a mount")
@pytest.mark.observes("POST /containers/create")
def test_the_source_of_a_mount_is_made_when_that_is_asked(engine: Engine, docker_cli: CommandLine, tmp_path: Path) -> None:
    mount = {"Type": "bind", "Source": f"{tmp_path}/new", "Target": "/b", "BindOptions": {"CreateMountpoint": True}}
    wish = {"Image": "busybox", "Cmd": ["touch", "/b/x"], "HostConfig": {"Mounts": [mount]}}
    container = engine.api("POST", "/containers/create", wish).json["Id"]
    docker_cli.ok("start", "-a", container)
    assert (tmp_path / "new/x").exists()


@pytest.mark.observes("docker run --memory", "GET /events")
def test_a_kill_for_want_of_memory_is_an_event_and_stays_in_the_record(docker_cli: CommandLine) -> None:
    docker_cli.ok("run", "-d", "--name", "host", "--memory", "20m", "busybox", "sleep", "1000")
    with docker_cli.pipes("events", "--filter", "container=host", "--filter", "event=oom", "--format", "{{.Action}}") as told:
        docker_cli("exec", "host", "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")
        told.expect("oom")
    assert docker_cli.ok("inspect", "-f", "{{.State.Status}}", "host") == "running"  # an exec was killed, not the container
