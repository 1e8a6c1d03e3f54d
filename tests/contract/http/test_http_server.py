"""Requests and responses on one connection: order, framing, limits, bodies both ways, and the end."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from carrack.errors import InvalidParameter
from carrack.http import FileResponse, Limits, Request, Response, StreamResponse
from tests.contract.http.live_server import LiveServer

Start = Callable[..., LiveServer]


async def echo(request: Request) -> Response:
    return Response(200, await request.body(1 << 20), {"X-Target": request.path})


async def greet(request: Request) -> Response:
    return Response(200, request.path.encode())


def test_a_connection_serves_one_request_after_another(start: Start) -> None:
    with start(greet).connect() as client:
        for name in ("/one", "/two"):
            client.send(f"GET {name} HTTP/1.1", "Host: d")
            assert client.answer()[2] == name.encode()


def test_pipelined_requests_are_answered_in_their_order(start: Start) -> None:
    with start(echo).connect() as client:
        requests = "".join(f"POST /{n} HTTP/1.1\r\nHost: d\r\nContent-Length: 1\r\n\r\n{n}" for n in range(9))
        client.socket.sendall(requests.encode())
        assert [client.answer()[2] for _ in range(9)] == [b"%d" % n for n in range(9)]


def test_a_request_may_arrive_one_byte_at_a_time(start: Start) -> None:
    with start(echo).connect() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        for (
            byte
        ) in b"POST /x HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n":
            client.socket.sendall(bytes([byte]))
        assert client.answer()[2] == b"abcde"


def test_http_1_0_is_answered_and_closed(start: Start) -> None:
    with start(greet).connect() as client:
        client.send("GET /old HTTP/1.0")
        status, headers, body = client.answer()
        assert (status, headers["connection"], body) == (200, "close", b"/old")
        assert client.rest() == b""


def test_http_1_0_with_keep_alive_goes_on(start: Start) -> None:
    with start(greet).connect() as client:
        client.send("GET /1 HTTP/1.0", "Connection: keep-alive")
        assert client.answer()[1]["connection"] == "keep-alive"
        client.send("GET /2 HTTP/1.0")
        assert client.answer()[2] == b"/2"


def test_a_stream_to_http_1_0_ends_with_the_connection(start: Start) -> None:
    async def count(_: Request) -> StreamResponse:
        return StreamResponse(200, pieces(b"a", b"b"))

    with start(count).connect() as client:
        client.send("GET / HTTP/1.0", "Connection: keep-alive")
        _, headers = client.head()
        assert "transfer-encoding" not in headers
        assert client.rest() == b"ab"


def test_head_gives_the_length_and_no_body(start: Start) -> None:
    with start(greet).connect() as client:
        client.send("HEAD /four HTTP/1.1", "Host: d")
        client.send("GET / HTTP/1.1", "Host: d")
        _, headers = client.head()
        assert headers["content-length"] == "5"
        assert client.answer()[2] == b"/"


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body_have_no_length(start: Start, status: int) -> None:
    async def empty(_: Request) -> Response:
        return Response(status, b"never sent")

    with start(empty).connect() as client:
        client.send("GET / HTTP/1.1", "Host: d")
        assert "content-length" not in client.head()[1]
        client.send("GET / HTTP/1.1", "Host: d")
        assert client.head()[0].split()[1] == str(status)


def test_expect_100_continue_is_answered_when_the_body_is_wanted(start: Start) -> None:
    with start(echo).connect() as client:
        client.send("POST / HTTP/1.1", "Host: d", "Content-Length: 2", "Expect: 100-continue")
        assert client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.socket.sendall(b"ok")
        assert client.answer()[2] == b"ok"


def test_a_body_that_was_announced_and_not_wanted_closes_the_connection(start: Start) -> None:
    with start(greet).connect() as client:
        client.send("POST / HTTP/1.1", "Host: d", "Content-Length: 2", "Expect: 100-continue")
        status, headers, _ = client.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert client.rest() == b""


def test_an_unknown_expectation_is_refused(start: Start) -> None:
    with start(greet).connect() as client:
        client.send("GET / HTTP/1.1", "Host: d", "Expect: tea")
        assert client.answer()[0] == 417


def test_an_unread_body_is_dropped_and_the_connection_goes_on(start: Start) -> None:
    with start(greet).connect() as client:
        client.send("POST /1 HTTP/1.1", "Host: d", "Content-Length: 70000")
        assert client.answer()[2] == b"/1"
        client.socket.sendall(b"x" * 70000)
        client.send("GET /2 HTTP/1.1", "Host: d")
        assert client.answer()[2] == b"/2"


def test_the_answer_to_a_huge_unread_body_is_not_lost_to_a_reset(start: Start) -> None:
    with start(greet).connect() as client:
        client.send("POST /1 HTTP/1.1", "Host: d", "Content-Length: 7000000")
        sent = threading.Thread(target=_send_quietly, args=(client.socket, b"x" * 7000000))
        sent.start()
        status, headers, body = client.answer()
        assert (status, headers["connection"], body) == (200, "close", b"/1")
        client.socket.shutdown(socket.SHUT_RDWR)
        sent.join()


def _send_quietly(sock: socket.socket, body: bytes) -> None:
    try:
        sock.sendall(body)
    except OSError:
        pass


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /%zz HTTP/1.1\r\nHost: d\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: d\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: d\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: d\r\nContent-Length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: gzip\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: d\r\nBad Name: x\r\n\r\n",
        "GET / HTTP/3.7\r\nHost: d\r\n\r\n",
        "GET / HTTP/1.1\nHost: d\n\n",
        "nonsense\r\n\r\n",
        "\x16\x03\x01\x02\r\n\r\n",
    ],
)
def test_a_malformed_request_gets_400_and_a_close(start: Start, head: str) -> None:
    with start(greet).connect() as client:
        client.socket.sendall(head.encode())
        status, headers, body = client.answer()
        assert (status, headers["connection"]) == (400, "close")
        assert body.startswith(b"400 Bad Request")
        assert client.rest() == b""


def test_a_head_beyond_the_limit_gets_431(start: Start) -> None:
    with start(greet, Limits(head_bytes=1000)).connect() as client:
        client.send("GET / HTTP/1.1", "Host: d", "X: " + "x" * 2000)
        assert client.answer()[0] == 431


def test_a_head_that_does_not_come_ends_the_connection(start: Start) -> None:
    with start(greet, Limits(head_seconds=0.05)).connect() as client:
        client.socket.sendall(b"GET / HTTP/1.1\r\n")
        assert client.rest() == b""


def test_an_idle_connection_is_closed(start: Start) -> None:
    with start(greet, Limits(idle_seconds=0.05)).connect() as client:
        client.send("GET / HTTP/1.1", "Host: d")
        assert client.answer()[0] == 200
        assert client.rest() == b""


@pytest.mark.parametrize("broken", [b"zz\r\n", b"1\r\nabc\r\n", b"-1\r\n", b"1 1\r\na\r\n", b"\r\n", b"0x1\r\na\r\n"])
def test_a_malformed_chunk_is_the_handlers_invalid_parameter(start: Start, broken: bytes) -> None:
    async def read(request: Request) -> Response:
        try:
            await request.body(100)
        except InvalidParameter as error:
            return Response(400, error.message.encode())
        return Response(200)

    with start(read).connect() as client:
        client.send("POST / HTTP/1.1", "Host: d", "Transfer-Encoding: chunked", body=broken)
        status, headers, body = client.answer()
        assert (status, headers["connection"]) == (400, "close")
        assert body.startswith(b"malformed chunked encoding")


def test_a_body_that_does_not_come_is_an_invalid_parameter(start: Start) -> None:
    async def read(request: Request) -> Response:
        with pytest.raises(InvalidParameter, match="did not come in time"):
            await request.body(10)
        return Response(408)

    with start(read, Limits(body_seconds=0.05)).connect() as client:
        client.send("POST / HTTP/1.1", "Host: d", "Content-Length: 5", body=b"abc")
        assert client.answer()[0] == 408


def test_a_body_that_ends_early_is_an_invalid_parameter(start: Start) -> None:
    async def read(request: Request) -> Response:
        with pytest.raises(InvalidParameter, match="unexpected EOF"):
            await request.body(10)
        return Response(400)

    with start(read).connect() as client:
        client.send("POST / HTTP/1.1", "Host: d", "Content-Length: 5", body=b"abc")
        client.half_close()
        assert client.answer()[0] == 400


def test_a_body_beyond_the_handlers_limit_is_an_invalid_parameter(start: Start) -> None:
    async def read(request: Request) -> Response:
        with pytest.raises(InvalidParameter, match="http: request body too large"):
            await request.body(10)
        return Response(400)

    with start(read).connect() as client:
        client.send("POST / HTTP/1.1", "Host: d", "Content-Length: 11", body=b"x" * 11)
        assert client.answer()[0] == 400


def test_a_stream_flushes_its_head_before_its_first_piece_and_each_piece_when_made(start: Start) -> None:
    go = [threading.Event(), threading.Event()]

    async def two(_: Request) -> StreamResponse:
        async def make() -> AsyncIterator[bytes]:
            for name, event in zip((b"one", b"two"), go, strict=True):
                await asyncio.to_thread(event.wait)
                yield name

        return StreamResponse(200, make(), {"Content-Type": "text/plain"})

    with start(two).connect() as client:
        client.send("GET / HTTP/1.1", "Host: d")
        assert client.head()[1]["transfer-encoding"] == "chunked"
        go[0].set()
        assert client.chunk() == b"one"
        go[1].set()
        assert client.chunk() == b"two"
        assert client.chunk() == b""
        client.send("GET / HTTP/1.1", "Host: d")
        assert client.answer()[2] == b"onetwo"


def test_a_chunked_request_is_read_while_the_chunked_response_is_written(start: Start) -> None:
    async def louder(request: Request) -> StreamResponse:
        async def make() -> AsyncIterator[bytes]:
            async for piece in request.stream():
                yield piece.upper()

        return StreamResponse(200, make())

    with start(louder).connect() as client:
        client.send("POST / HTTP/1.1", "Host: d", "Transfer-Encoding: chunked")
        assert client.head()[1]["transfer-encoding"] == "chunked"
        for word in (b"to", b"and", b"fro"):
            client.socket.sendall(b"%x\r\n%s\r\n" % (len(word), word))
            assert client.chunk() == word.upper()
        client.socket.sendall(b"0\r\n\r\n")
        assert client.chunk() == b""


def test_the_client_of_an_unread_body_is_held_back(start: Start) -> None:
    go = asyncio.Event()

    async def later(request: Request) -> Response:
        await go.wait()
        size = 0
        async for piece in request.stream():
            size += len(piece)
        return Response(200, str(size).encode())

    server = start(later)
    with server.connect() as client:
        room = sum(int(Path(f"/proc/sys/net/ipv4/{each}").read_text().split()[2]) for each in ("tcp_rmem", "tcp_wmem"))
        room += 2 << 20  # the kernel's buffers grow to that, as the machine is set; ours do not grow
        total = 2 * room
        client.send("POST / HTTP/1.1", "Host: d", f"Content-Length: {total}")
        client.socket.setblocking(False)
        sent = 0
        idle = 0
        while idle < 3:
            try:
                sent += client.socket.send(b"x" * 65536)
                idle = 0
            except BlockingIOError:
                server.run(asyncio.sleep(0.05))
                idle += 1
        assert sent < room
        server.loop.call_soon_threadsafe(go.set)
        client.socket.settimeout(20)
        while sent < total:
            sent += client.socket.send(b"x" * min(65536, total - sent))
        assert client.answer()[2] == str(total).encode()


def test_a_slow_reader_holds_the_stream_back(start: Start) -> None:
    made = [0]

    async def flood(_: Request) -> StreamResponse:
        async def make() -> AsyncIterator[bytes]:
            for _ in range(1024):
                made[0] += 1
                yield b"x" * 65536

        return StreamResponse(200, make())

    server = start(flood)
    with server.connect() as client:
        client.send("GET / HTTP/1.1", "Host: d")
        client.head()
        before = -1
        while before != made[0]:
            before = made[0]
            server.run(asyncio.sleep(0.05))
        assert made[0] * 65536 < 12 << 20
        pieces = 0
        while client.chunk():
            pieces += 1
        assert pieces == 1024


def test_a_stream_is_closed_when_the_client_is_lost(start: Start) -> None:
    closed = threading.Event()

    async def endless(_: Request) -> StreamResponse:
        async def make() -> AsyncIterator[bytes]:
            try:
                yield b"first"
                await asyncio.Event().wait()
            finally:
                closed.set()

        return StreamResponse(200, make(), endless=True)

    with start(endless).connect() as client:
        client.send("GET / HTTP/1.1", "Host: d")
        client.head()
        assert client.chunk() == b"first"
    assert closed.wait(10)


def test_a_finite_stream_survives_a_half_close(start: Start) -> None:
    async def slow(request: Request) -> StreamResponse:
        async def make() -> AsyncIterator[bytes]:
            await request.disconnected.wait()
            yield b"still here"

        return StreamResponse(200, make())

    with start(slow).connect() as client:
        client.send("GET / HTTP/1.1", "Host: d")
        client.half_close()
        assert client.answer()[2] == b"still here"
        assert client.rest() == b""


def test_a_stream_that_fails_is_cut_short(start: Start) -> None:
    async def failing(_: Request) -> StreamResponse:
        async def make() -> AsyncIterator[bytes]:
            yield b"half"
            raise ValueError("torn")

        return StreamResponse(200, make())

    with start(failing).connect() as client:
        client.send("GET / HTTP/1.1", "Host: d")
        client.head()
        try:
            rest = client.rest()
        except ConnectionResetError:
            rest = b""
        assert not rest.endswith(b"0\r\n\r\n")


def test_a_request_followed_by_an_immediate_half_close_is_answered(start: Start) -> None:
    with start(greet).connect() as client:
        client.send("GET /late HTTP/1.1", "Host: d")
        client.half_close()
        status, _, body = client.answer()
        assert (status, body) == (200, b"/late")
        assert client.rest() == b""


def test_a_handlers_failure_is_a_500_without_its_text(start: Start) -> None:
    async def fail(_: Request) -> Response:
        raise ValueError("secret")

    with start(fail).connect() as client:
        client.send("GET / HTTP/1.1", "Host: d")
        status, _, body = client.answer()
        assert status == 500
        assert b"secret" not in body


def test_an_upgrade_nobody_takes_is_an_ordinary_request_with_its_body(start: Start) -> None:
    with start(echo).connect() as client:
        upgrade = ("Host: d", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "Content-Length: 4")
        client.send("POST /1 HTTP/1.1", *upgrade, body=b"body")
        assert client.answer()[2] == b"body"
        client.send("POST /2 HTTP/1.1", "Host: d", "Content-Length: 0")
        assert client.answer()[1]["x-target"] == "/2"


def test_a_header_with_a_line_break_is_never_sent(start: Start) -> None:
    async def split(_: Request) -> Response:
        return Response(200, b"", {"X-Name": "a\r\nX-Injected: b"})

    with start(split).connect() as client:
        client.send("GET / HTTP/1.1", "Host: d")
        try:
            assert b"Injected" not in client.rest()
        except ConnectionResetError:
            pass


def test_a_stretch_of_a_file_is_sent_by_the_kernel(start: Start, tmp_path: Path) -> None:
    blob = os.urandom(3 << 20)
    (tmp_path / "blob").write_bytes(blob)

    async def give(_: Request) -> FileResponse:
        fd = os.open(tmp_path / "blob", os.O_RDONLY | os.O_CLOEXEC)
        return FileResponse(206, fd, 1000, 2 << 20, {"Content-Type": "application/octet-stream"})

    server = start(give)
    with server.connect() as client:
        for _ in range(2):
            client.send("GET / HTTP/1.1", "Host: d")
            assert client.answer()[2] == blob[1000 : 1000 + (2 << 20)]
        client.send("HEAD / HTTP/1.1", "Host: d")
        assert client.head()[1]["content-length"] == str(2 << 20)
    server.run(server.server.close(10))
    assert str(tmp_path / "blob") not in {os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()}


def test_the_peer_of_a_unix_socket_is_known(start: Start) -> None:
    async def who(request: Request) -> Response:
        return Response(200, repr(request.peer and (request.peer.pid, request.peer.uid)).encode())

    server = start(who)
    with server.connect() as client:
        client.send("GET / HTTP/1.1", "Host: d")
        expected = (os.getpid(), os.getuid()) if isinstance(server.address, str) else None
        assert client.answer()[2] == repr(expected).encode()


def test_an_absolute_target_is_read_as_its_path(start: Start) -> None:
    with start(greet).connect() as client:
        client.send("GET http://docker/v1.43/info?x=1 HTTP/1.1", "Host: docker")
        assert client.answer()[2] == b"/v1.43/info"


def test_closing_lets_the_answer_be_finished_and_drops_idle_connections(start: Start) -> None:
    entered = threading.Event()
    go = asyncio.Event()

    async def slow(request: Request) -> Response:
        if request.path == "/slow":
            entered.set()
            await go.wait()
        return Response(200, b"done")

    server = start(slow)
    with server.connect() as idle, server.connect() as busy:
        idle.send("GET / HTTP/1.1", "Host: d")
        assert idle.answer()[2] == b"done"
        busy.send("GET /slow HTTP/1.1", "Host: d")
        assert entered.wait(10)
        closing = asyncio.run_coroutine_threadsafe(server.server.close(10), server.loop)
        assert idle.rest() == b""
        server.loop.call_soon_threadsafe(go.set)
        status, headers, body = busy.answer()
        assert (status, headers["connection"], body) == (200, "close", b"done")
        closing.result(10)


def test_closing_does_not_wait_for_a_stream_without_end(start: Start) -> None:
    async def endless(_: Request) -> StreamResponse:
        async def make() -> AsyncIterator[bytes]:
            yield b"first"
            await asyncio.Event().wait()

        return StreamResponse(200, make(), endless=True)

    server = start(endless)
    with server.connect() as client:
        client.send("GET / HTTP/1.1", "Host: d")
        client.head()
        assert client.chunk() == b"first"
        server.run(server.server.close(1000))


def test_closing_ends_what_does_not_finish_in_time(start: Start) -> None:
    entered = threading.Event()

    async def forever(_: Request) -> Response:
        entered.set()
        await asyncio.Event().wait()
        return Response(200)

    server = start(forever)
    with server.connect() as client:
        client.send("GET / HTTP/1.1", "Host: d")
        assert entered.wait(10)
        server.run(server.server.close(0.01))
        try:
            assert client.rest() == b""
        except ConnectionResetError:
            pass
        assert server.server.connection_count == 0


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def test_hundreds_of_connections_at_once_are_all_served(start: Start) -> None:
    server = start(greet)
    server.run(asyncio.sleep(0))
    clients = []
    held = threading.Event()
    if not server.is_encrypted:  # a handshake cannot wait in the queue
        server.loop.call_soon_threadsafe(held.wait, 20)  # nobody accepts meanwhile: the queue has to hold them
    try:
        for number in range(300):
            clients.append(server.connect())
            clients[-1].send(f"GET /{number} HTTP/1.1", "Host: d")
        held.set()
        assert [client.answer()[2] for client in clients] == [b"/%d" % number for number in range(300)]
    finally:
        held.set()
        for client in clients:
            client.socket.close()
