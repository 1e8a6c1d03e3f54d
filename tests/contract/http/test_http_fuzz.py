"""Bytes that nobody would send: the server answers, refuses or closes, never fails, and goes on serving others."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrack.http import Limits, Request, Response
from tests.contract.http.live_server import LiveServer

PIECES = (
    b"GET / HTTP/1.1\r\n", b"POST /x HTTP/1.1\r\n", b"Host: d\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Connection: Upgrade\r\nUpgrade: tcp\r\n", b"Expect: 100-continue\r\n", b"\r\n", b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n", b"\n",
    b"Connection: close\r\n", b"GET / HTTP/1.0\r\n\r\n", b"HEAD * HTTP/1.1\r\n", b"X: \x00\r\n", b"\xff\xfe",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    async def echo(request: Request) -> Response:
        return Response(200, await request.body(1000) if request.path == "/x" else b"-")

    path: Path = tmp_path_factory.mktemp("fuzz") / "s.sock"
    with LiveServer(echo, path, Limits(head_seconds=0.2, idle_seconds=0.2, body_seconds=0.2), uvloop.new_event_loop) as live:
        yield live


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=20)), max_size=14), half_close=st.booleans())
def test_any_bytes_leave_the_server_whole(
    server: LiveServer, caplog: pytest.LogCaptureFixture, pieces: list[bytes], half_close: bool
) -> None:
    with caplog.at_level(logging.ERROR, "carrack.http"), server.connect() as client:
        try:
            for piece in pieces:
                client.socket.sendall(piece)
            if half_close:
                client.half_close()
            else:
                client.socket.setblocking(False)
                client.rest()
        except (TimeoutError, BlockingIOError, ConnectionError):
            pass
        with server.connect() as other:
            other.send("GET /ok HTTP/1.1", "Host: d")
            assert other.answer()[2] == b"-"
    assert not caplog.records
