"""attach over a WebSocket, as a page in a browser does it."""

import pytest
from websockets.sync.client import ClientConnection, unix_connect

from tests.rig.engine import CommandLine


def attach(cli: CommandLine, query: str) -> ClientConnection:
    """A WebSocket joined with the streams of the container called `talk`."""
    return unix_connect(str(cli.engine.socket), f"ws://docker/containers/talk/attach/ws?{query}")


def heard(web: ClientConnection, *wanted: str) -> str:
    """What comes, until all the wanted words have come."""
    text = ""
    while not all(word in text for word in wanted):
        message = web.recv(timeout=20)
        text += message.decode() if isinstance(message, bytes) else message
    return text


@pytest.mark.observes("GET /containers/{id}/attach/ws")
@pytest.mark.parametrize("tty", [False, True])
def test_input_goes_in_and_output_comes_out(cli: CommandLine, tty: bool) -> None:
    flags = ["-t"] if tty else []
    script = "read line; echo got $line; echo err >&2; sleep 1000"
    cli.ok("run", "-d", "-i", *flags, "--name", "talk", "busybox", "sh", "-c", script)
    with attach(cli, "stream=1&stdin=1&stdout=1&stderr=1") as web:
        web.send("hello\n")
        heard(web, "got hello", "err")


@pytest.mark.observes("GET /containers/{id}/attach/ws")
def test_old_output_comes_first_and_the_end_of_the_container_ends_the_stream(cli: CommandLine) -> None:
    script = "echo before; trap 'echo after; exit 0' USR1; while :; do sleep 0.05; done"
    cli.ok("run", "-d", "--name", "talk", "busybox", "sh", "-c", script)
    with cli.pipes("logs", "-f", "talk") as log:
        log.expect("before")
    with attach(cli, "logs=1&stream=1&stdout=1") as web:
        heard(web, "before")
        cli.ok("kill", "-s", "USR1", "talk")
        heard(web, "after")
        assert list(web) == []


@pytest.mark.observes("GET /containers/{id}/attach/ws")
def test_a_client_that_leaves_does_not_end_the_container(cli: CommandLine) -> None:
    cli.ok("run", "-d", "-i", "--name", "talk", "busybox", "cat")
    with attach(cli, "stream=1&stdin=1&stdout=1") as web:
        web.send("one\n")
        heard(web, "one")
    assert cli.ok("inspect", "-f", "{{.State.Running}}", "talk") == "true"
    assert cli.engine.api("GET", "/containers/nobody/attach/ws").status in (400, 404)
