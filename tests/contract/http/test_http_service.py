"""What a service on its own port needs of the server: exchanges told, clients bounded, a body taken back at its last byte."""

from __future__ import annotations

import asyncio
import os
import queue
from pathlib import Path

import pytest

from carrack.errors import Cancelled
from carrack.http import Exchange, FileResponse, Limits, Reply, Request, Response
from tests.contract.http.live_server import LiveServer


async def hello(request: Request) -> Reply:
    return Response(200, b"hello", {"Content-Length": "5"} if request.method == "HEAD" else {})


def test_each_exchange_is_told_when_it_is_over() -> None:
    seen: queue.Queue[Exchange] = queue.Queue()
    with LiveServer(hello, None, observer=seen.put) as server, server.connect() as client:
        client.send("GET /one HTTP/1.1", "Host: x")
        client.head()
        exchange = seen.get(timeout=10)
        assert (exchange.request.path, exchange.status, exchange.body_bytes, exchange.complete) == ("/one", 200, 5, True)
        assert exchange.request.remote == "{}:{}".format(*client.socket.getsockname())
        client.send("HEAD /two HTTP/1.1", "Host: x")
        assert seen.get(timeout=10).body_bytes == 0


@pytest.mark.parametrize("good", [True, False])
def test_the_last_byte_of_a_file_waits_for_a_verdict(tmp_path: Path, good: bool) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    seen: queue.Queue[Exchange] = queue.Queue()
    judged = asyncio.Event()

    async def judge() -> None:
        await judged.wait()
        if not good:
            raise Cancelled("it is not what it should be")

    async def handler(_request: Request) -> Reply:
        return FileResponse(200, os.open(tmp_path / "file", os.O_RDONLY), 0, 10, {}, judge)

    with LiveServer(handler, None, observer=seen.put) as server, server.connect() as client:
        client.send("GET / HTTP/1.1", "Host: x")
        assert client.head()[1]["content-length"] == "10"
        assert client.exactly(9) == b"012345678"
        server.loop.call_soon_threadsafe(judged.set)
        assert client.exactly(1) == b"9" if good else client.rest() == b""
        assert seen.get(timeout=10).complete is good


def test_a_client_beyond_the_bound_is_told_to_come_back() -> None:
    with LiveServer(hello, None, Limits(connections=1)) as server, server.connect() as first:
        first.send("GET / HTTP/1.1", "Host: x")
        first.head()
        with server.connect() as second:
            status, headers = second.head()
            assert (status, headers["retry-after"]) == ("HTTP/1.1 503 Service Unavailable", "1")
            assert second.rest() == b""


def test_a_tls_client_is_told_at_once_that_this_is_plain() -> None:
    with LiveServer(hello, None) as server, server.connect() as client:
        client.socket.settimeout(5)
        client.socket.sendall(bytes.fromhex("16030102000100") + bytes(100))
        assert client.head()[0] == "HTTP/1.1 400 Bad Request"
