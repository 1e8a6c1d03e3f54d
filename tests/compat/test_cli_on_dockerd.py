"""`carrack` drives a real dockerd (Debian's 20.10): the main commands, each by what it does there. In CI, without `--peer`."""

import json
import os
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from tests.conftest import Images
from tests.rig.dockerd import Dockerd
from tests.rig.engine import CommandLine, carrack_program


@pytest.fixture(scope="module")
def there(images: Images) -> Iterator[CommandLine]:
    engine = Dockerd(f"d{os.getpid():x}")
    try:
        engine.start()
        engine.api("POST", "/images/load?quiet=1", images.base_archive, headers={"Content-Type": "application/x-tar"})
        yield CommandLine(engine, [*engine.host_prefix(), carrack_program()])
    finally:
        engine.close()


@pytest.fixture
def cli(there: CommandLine) -> Iterator[CommandLine]:
    yield there
    there.engine.sweep(keep_images=frozenset(row["Id"] for row in there.engine.api("GET", "/images/json").json))


def test_it_speaks_the_version_that_is_spoken_there(cli: CommandLine) -> None:
    shown = json.loads(cli.ok("version", "--format", "json"))
    assert shown["Server"]["Version"].startswith("20.10.")
    assert shown["Client"]["ApiVersion"] == "1.41"
    assert "Server Version: 20.10." in cli.ok("info")


def test_run_exec_logs_and_exit_codes(cli: CommandLine) -> None:
    assert cli.ok("run", "--rm", "busybox", "echo", "hi") == "hi"
    assert cli("run", "--rm", "busybox", "sh", "-c", "exit 42").code == 42
    assert cli("run", "--rm", "-i", "busybox", "cat", stdin="typed").stdout == "typed"
    cli.ok(
        "run",
        "-d",
        "--name",
        "box",
        "-e",
        "A=b",
        "-p",
        "127.0.0.1::80",
        "busybox",
        "sh",
        "-c",
        "echo out; echo err >&2; sleep 1000",
    )
    assert cli.ok("exec", "-w", "/tmp", "box", "sh", "-c", "pwd; echo $A") == "/tmp\nb"
    assert cli("logs", "box").stdout == "out\n"
    assert cli("logs", "box").stderr == "err\n"
    assert cli.ok("port", "box", "80").startswith("127.0.0.1:")
    assert cli.ok("ps", "--format", "{{.Names}} {{.State}}") == "box running"
    assert "sleep 1000" in cli.ok("top", "box")
    assert cli.ok("stop", "-t", "0", "box") == "box"
    assert cli.ok("wait", "box") == "137"
    assert cli.ok("rm", "-v", "box") == "box"


def test_a_terminal_is_a_conversation(cli: CommandLine) -> None:
    with cli.terminal("run", "--rm", "-it", "busybox", "sh", rows=30, columns=90) as screen:
        screen.expect("#")
        screen.send_line("stty size")
        screen.expect("30 90")
        screen.send_line("exit 3")
        assert screen.wait() == 3


def test_the_life_of_a_container(cli: CommandLine) -> None:
    cli.ok("create", "--name", "one", "busybox", "sleep", "1000")
    for words, state in (
        (("start", "one"), "running"),
        (("pause", "one"), "paused"),
        (("unpause", "one"), "running"),
        (("kill", "one"), "exited"),
        (("restart", "-t", "0", "one"), "running"),
    ):
        assert cli.ok(*words) == "one"
        assert cli.ok("inspect", "-f", "{{.State.Status}}", "one") == state
    cli.ok("update", "--memory", "64m", "--memory-swap", "64m", "one")
    cli.ok("rename", "one", "two")
    assert cli.ok("inspect", "-f", "{{.Name}} {{.HostConfig.Memory}}", "two") == "/two 67108864"
    assert cli.ok("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "two") == "two 1"


def test_files_go_in_and_out(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("content")
    cli.ok("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    cli.ok("cp", str(tmp_path / "in"), "box:/tmp/file")
    cli.ok("cp", "box:/tmp/file", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "content"
    assert "A /tmp/file" in cli.ok("diff", "box")
    with tarfile.open(fileobj=BytesIO(cli.output("export", "box"))) as archive:
        assert "tmp/file" in archive.getnames()


def test_images_are_made_named_saved_and_removed(cli: CommandLine, tmp_path: Path) -> None:
    cli.ok("run", "--name", "maker", "busybox", "touch", "/mark")
    cli.ok("commit", "-m", "by hand", "maker", "made:1")
    cli.ok("tag", "made:1", "other:2")
    cli.ok("save", "-o", str(tmp_path / "made.tar"), "made:1")
    cli.ok("rmi", "made:1", "other:2")
    assert cli.ok("load", "-i", str(tmp_path / "made.tar")).endswith("made:1")
    assert cli.ok("history", "--format", "{{.Comment}}", "made:1").splitlines()[0] == "by hand"
    assert cli.ok("run", "--rm", "made:1", "ls", "/mark") == "/mark"
    cli.ok("rm", "maker")
    cli.ok("rmi", "-f", "made:1")
    assert "made" not in cli.ok("images", "--format", "{{.Repository}}")


def test_networks_and_volumes(cli: CommandLine) -> None:
    cli.ok("network", "create", "--subnet", "10.213.9.0/24", "front")
    cli.ok("volume", "create", "--label", "a=b", "data")
    cli.ok("run", "-d", "--name", "box", "--network", "front", "--ip", "10.213.9.7", "-v", "data:/data", "busybox", "sleep", "1000")
    assert cli.ok("inspect", "-f", "{{.NetworkSettings.Networks.front.IPAddress}}", "box") == "10.213.9.7"
    cli.ok("network", "connect", "bridge", "box")
    cli.ok("network", "disconnect", "front", "box")
    assert cli.ok("inspect", "-f", "{{len .NetworkSettings.Networks}}", "box") == "1"
    cli.ok("rm", "-f", "box")
    assert cli.ok("network", "rm", "front") == "front"
    assert cli.ok("volume", "inspect", "-f", "{{.Labels.a}}", "data") == "b"
    assert "data" in cli.ok("volume", "prune", "-f")


def test_what_happens_is_told_and_what_is_used_is_counted(cli: CommandLine) -> None:
    cli.ok("run", "--rm", "--name", "brief", "busybox", "true")
    said = cli.ok("events", "--since", "1h", "--until", "0s", "--filter", "container=brief", "--format", "{{.Action}}")
    assert {"create", "start", "die", "destroy"} <= set(said.split())
    assert "Images" in cli.ok("system", "df")
    cli.ok("create", "busybox")
    assert "Deleted Containers:" in cli.ok("system", "prune", "-f")


def test_what_that_daemon_lacks_is_refused_before_it_is_asked(cli: CommandLine) -> None:
    for words, version in (
        (("run", "--annotation", "a=b", "busybox"), "1.43"),
        (("image", "inspect", "--platform", "linux/amd64", "busybox"), "1.49"),
        (("volume", "ls", "--cluster"), "1.42"),
    ):
        refused = cli(*words)
        assert refused.code == 1
        assert f"requires API version {version}, but the Docker daemon API version is 1.41" in refused.stderr


def test_an_image_is_built(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY note /note\nCMD cat /note\n")
    (tmp_path / "note").write_text("built here")
    cli.ok("build", "-q", "-t", "built:1", str(tmp_path))
    assert cli.ok("run", "--rm", "built:1") == "built here"
    cli.ok("rmi", "-f", "built:1")
