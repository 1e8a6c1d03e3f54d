"""The client where the daemon is elsewhere: without anything that only Linux has, it does all that a user of macOS asks of it."""

import sys
from pathlib import Path

import pytest

from tests.rig.conversation import Terminal
from tests.rig.engine import ROOT, CommandLine, Engine

pytestmark = [pytest.mark.root, pytest.mark.peer_lacks("it is about the client")]


@pytest.fixture
def mac(engine: Engine) -> CommandLine:
    return CommandLine(engine, [sys.executable, "-IS", str(ROOT / "tests/rig/like_macos.py"), str(ROOT / "src")])


def test_a_client_like_macos_runs_copies_builds_and_follows(mac: CommandLine, tmp_path: Path) -> None:
    assert "darwin" in mac.ok("version", "--format", "{{.Client.Os}}")
    assert mac("run", "--rm", "-i", "busybox", "sh", "-c", "cat; exit 4", stdin=b"given").stdout == "given"
    mac.ok("run", "-d", "--name", "up", "busybox", "sh", "-c", "echo said; sleep 1000")
    assert mac.ok("exec", "up", "echo", "in") == "in"
    (tmp_path / "file").write_text("content")
    mac.ok("cp", str(tmp_path / "file"), "up:/tmp/file")
    mac.ok("cp", "up:/tmp/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_text() == "content"
    mac.ok("stop", "-t", "0", "up")
    assert mac.ok("logs", "-f", "up") == "said"
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY file /f\n")
    mac.ok("build", "-q", "-t", "made", str(tmp_path))
    mac.ok("save", "-o", str(tmp_path / "made.tar"), "made")
    assert "made" in mac.ok("load", "-i", str(tmp_path / "made.tar"))
    assert mac.ok("run", "--rm", "made", "cat", "/f") == "content"


def test_a_terminal_of_a_client_like_macos(mac: CommandLine) -> None:
    with Terminal([*mac.program, "run", "-it", "--rm", "busybox", "sh"], env=mac.engine.env()) as screen:
        screen.expect("#")
        screen.send_line("echo $((40 + 2)); exit 6")
        screen.expect("42")
        assert screen.wait() == 6
