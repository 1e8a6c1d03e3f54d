"""Attach over a WebSocket, with the websockets library on the other side."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, unix_connect

from carrack.engine.streams import AttachOptions
from tests.contract.api.conftest import Daemon
from tests.contract.api.engine_double import container

DaemonOf = Callable[..., Daemon]
QUERY = "stream=1&stdin=1&stdout=1&stderr=1"


def connect(daemon: Daemon, version: str = "1.43", query: str = QUERY) -> ClientConnection:
    uri = f"ws://docker/v{version}/containers/web/attach/ws?{query}"
    return unix_connect(str(daemon.server.address), uri, compression=None)


def everything(web: ClientConnection) -> bytes:
    pieces = []
    try:
        while True:
            piece = web.recv(timeout=20)
            pieces.append(piece if isinstance(piece, bytes) else piece.encode())
    except ConnectionClosed:
        return b"".join(pieces)


@pytest.mark.parametrize("tty", [True, False])
def test_output_comes_without_frames_and_then_the_end(daemon_of: DaemonOf, tty: bool) -> None:
    daemon = daemon_of(container("web", tty=tty))
    daemon.engine.greeting = b"hello" * 50_000
    with connect(daemon) as web:
        assert everything(web) == b"hello" * 50_000
        assert web.close_code == 1000


def test_messages_reach_the_container_and_pings_are_answered(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web"))
    with connect(daemon) as web:
        assert web.ping().wait(20)
        web.send("text ")
        web.send(b"x" * 200_000)
    assert daemon.engine.ended.wait(20)
    assert daemon.engine.heard == b"text " + b"x" * 200_000


@pytest.mark.parametrize(
    ("version", "query", "options"),
    [
        ("1.43", "stream=1&stdout=1", AttachOptions(stdout=True, stream=True)),
        ("1.41", "logs=1", AttachOptions(True, True, True, True, False)),
    ],
)
def test_streams_are_chosen_by_the_query_since_1_42(daemon_of: DaemonOf, version: str, query: str, options: AttachOptions) -> None:
    daemon = daemon_of(container("web"))
    with connect(daemon, version, query):
        assert daemon.engine.asked == [("attach", options)]


def test_before_1_28_messages_are_text(daemon_of: DaemonOf) -> None:
    daemon = daemon_of(container("web"))
    daemon.engine.greeting = b"hello"
    with connect(daemon, "1.27") as web:
        assert web.recv(timeout=20) == "hello"


GOOD = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"Upgrade": "tcp"}, 400),
        ({"Sec-WebSocket-Version": "8"}, 400),
        ({"Sec-WebSocket-Key": "short"}, 400),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_a_bad_handshake_is_refused(daemon_of: DaemonOf, changed: dict[str, str], status: int) -> None:
    lines = [f"{name}: {value}" for name, value in (GOOD | changed).items()]
    answer = daemon_of(container("web")).ask("GET", f"/containers/web/attach/ws?{QUERY}", b"", *lines)
    assert answer[0] == status
    assert json.loads(answer[2])["message"]


def test_an_unknown_container_is_told_before_the_handshake(daemon_of: DaemonOf) -> None:
    lines = [f"{name}: {value}" for name, value in GOOD.items()]
    assert daemon_of().ask("GET", "/containers/nope/attach/ws", b"", *lines)[0] == 404
