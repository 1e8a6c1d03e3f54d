"""The log drivers `syslog` and `journald`: what arrives there, and that `logs` reads it nevertheless."""

import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import EnginePool
from tests.rig.engine import CommandLine, docker_program
from tests.rig.namespaces import HeldNamespace

TWO = "echo out; sleep 0.05; echo err >&2"


@contextmanager
def listening(kind: socket.SocketKind, path: str) -> Iterator[socket.socket]:
    """A socket that takes what is sent to a path, or with an empty one to a port of this machine."""
    with socket.socket(socket.AF_UNIX if path else socket.AF_INET, kind) as listener:
        listener.bind(path or ("127.0.0.1", 0))
        listener.settimeout(20)
        if kind is socket.SOCK_STREAM:
            listener.listen()
        yield listener


@pytest.fixture
def place() -> Iterator[str]:
    """A path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="ct-log-", dir="/tmp") as folder:
        yield f"{folder}/log"


def syslog(cli: CommandLine, address: str, script: str, *options: str, name: str = "tale") -> str:
    """Run a script whose output goes to a syslog; its id as the tag has it."""
    opts = [word for option in (f"syslog-address={address}", *options) for word in ("--log-opt", option)]
    cli.ok("run", "-d", "--name", name, "--log-driver", "syslog", *opts, "busybox", "sh", "-c", script)
    return cli.ok("inspect", "-f", "{{.Id}}", name)[:12]


@pytest.mark.observes("docker run --log-driver", "docker run --log-opt", "docker logs")
def test_lines_reach_a_local_syslog_and_are_kept(cli: CommandLine, place: str) -> None:
    with listening(socket.SOCK_DGRAM, place) as server:
        tag = syslog(cli, f"unixgram://{place}", TWO)
        stamp = r"[A-Z][a-z]{2} [ 0-9]\d \d\d:\d\d:\d\d"
        assert re.fullmatch(rf"<30>{stamp} {tag}\[\d+\]: out\n", server.recv(9000).decode())
        assert re.fullmatch(rf"<27>{stamp} {tag}\[\d+\]: err\n", server.recv(9000).decode())
        cli.ok("wait", "tale")
        kept = cli("logs", "tale")
        assert (kept.ok(), kept.stderr) == ("out", "err\n")


@pytest.mark.observes("docker run --log-opt")
def test_form_facility_and_tag_are_chosen(cli: CommandLine, place: str) -> None:
    with listening(socket.SOCK_DGRAM, place) as server:
        options = ("syslog-format=rfc5424", "syslog-facility=local0", "tag={{.Name}}/x")
        syslog(cli, f"unixgram://{place}", TWO, *options)
        time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d\d:\d\d)"
        found = server.recv(9000).decode()
        assert re.fullmatch(rf"<134>1 {time} {re.escape(os.uname().nodename)} tale/x \d+ tale/x - out\n", found), found
        assert b" err\n" in server.recv(9000)
        syslog(cli, f"unixgram://{place}", "echo again", "syslog-format=rfc3164", name="second")
        assert f" {os.uname().nodename} " in server.recv(9000).decode()


@pytest.mark.peer_lacks("its loopback is in a namespace of its own")
def test_a_syslog_that_goes_and_comes_back_holds_nobody_up(cli: CommandLine) -> None:
    script = "echo one; read x < /p; echo two; read x < /p; echo lost; read x < /p; i=0; while :; do echo three; sleep 0.1; done"
    with listening(socket.SOCK_STREAM, "") as server:
        port = server.getsockname()[1]
        address = f"tcp://localhost:{port}"
        syslog(cli, address, f"mkfifo /p; {script}")
        maker, _ = server.accept()  # it looks whether anyone is there, and goes
        hand, _ = server.accept()
        with maker, hand, hand.makefile("rb") as lines:
            assert lines.readline().endswith(b": one\n")
            go = ("exec", "tale", "sh", "-c", "until [ -p /p ]; do :; done; echo > /p")
            cli.ok(*go)
            assert lines.readline().endswith(b": two\n")
    cli.ok(*go)
    cli.ok(*go)
    with socket.create_server(("127.0.0.1", port)) as server:
        server.settimeout(20)
        again, _ = server.accept()
        with again, again.makefile("rb") as lines:
            assert lines.readline().endswith(b": three\n")
    assert cli.ok("logs", "tale").split()[:4] == ["one", "two", "lost", "three"]


@pytest.mark.peer_lacks("it starts, and loses the lines")
def test_a_start_without_a_syslog_is_refused(cli: CommandLine, place: str) -> None:
    refused = cli("run", "--log-driver", "syslog", "--log-opt", f"syslog-address=unix://{place}", "busybox", "true")
    assert refused.code == 125
    assert f"failed to initialize logging driver: syslog: unix://{place}: No such file or directory" in refused.stderr


@pytest.mark.parametrize(
    "option", ["syslog-address=nowhere", "syslog-address=http://x", "syslog-facility=none", "syslog-format=x", "max-size=1m"]
)
def test_options_that_mean_nothing_are_refused(cli: CommandLine, option: str) -> None:
    refused = cli("create", "--log-driver", "syslog", "--log-opt", option, "busybox")
    assert refused.code == 1
    assert "syslog" in refused.stderr


@pytest.fixture
def journalling(engine_pool: EnginePool, place: str) -> Iterator[tuple[CommandLine, socket.socket]]:
    """A client of a daemon whose host has a journal: a socket of this test's."""
    journal = Path(place).parent / "journal"
    journal.mkdir()
    Path("/run/systemd").mkdir(exist_ok=True)
    with listening(socket.SOCK_DGRAM, f"{journal}/socket") as server, HeldNamespace(mounts=True) as host:
        host.run("mount", "--bind", str(journal.parent), "/run/systemd").ok()
        engine = engine_pool.build("carrackd", host=host)
        try:
            engine_pool.start(engine)
            yield CommandLine(engine, [docker_program()]), server
        finally:
            engine.close()


@pytest.mark.root
def test_lines_reach_the_journal_with_who_wrote_them(journalling: tuple[CommandLine, socket.socket]) -> None:
    cli, server = journalling
    options = ("--log-opt", "labels=tier", "--label", "tier=web", "--log-opt", "tag={{.ImageName}}")
    cli.ok("run", "-d", "--name", "tale", "--log-driver", "journald", *options, "busybox", "sh", "-c", TWO)
    identity = cli.ok("inspect", "-f", "{{.Id}}", "tale")
    for priority, message in (("6", "out"), ("3", "err")):
        fields = dict(line.split("=", 1) for line in server.recv(9000).decode().splitlines())
        assert fields.pop("SYSLOG_TIMESTAMP").endswith("Z")
        assert fields == {
            "MESSAGE": message,
            "PRIORITY": priority,
            "TIER": "web",
            "CONTAINER_TAG": "busybox",
            "SYSLOG_IDENTIFIER": "busybox",
            "CONTAINER_ID": identity[:12],
            "CONTAINER_ID_FULL": identity,
            "CONTAINER_NAME": "tale",
            "IMAGE_NAME": "busybox",
        }
    cli.ok("wait", "tale")
    assert cli.ok("logs", "tale") == "out"
