"""A connection given away: every byte and the half-close reach the receiver, in each way a Docker client asks for a raw stream."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import socket
import threading
from collections.abc import Callable

import pytest

from carrack.errors import Cancelled
from carrack.http import HandedOver, Request, Response
from tests.contract.http.live_server import LiveServer

Start = Callable[..., LiveServer]

UPGRADE = ("Connection: Upgrade", "Upgrade: tcp")


class Receiver:
    """Takes each connection it is given and answers, after the client's half-close, with what came before it, in capitals."""

    def __init__(self, status: int = 101, read_body: bool = False) -> None:
        self.status = status
        self.read_body = read_body
        self.body = b""
        self.given: list[HandedOver] = []
        self.threads: list[threading.Thread] = []

    async def __call__(self, request: Request) -> Response | None:
        if request.path == "/plain":
            return Response(200, b"plain")
        if self.read_body:
            self.body = await request.body(1 << 20)
        given = await request.hand_over(self.status, "UPGRADED" if self.status == 101 else "OK", {"Content-Type": "raw"})
        self.given.append(given)
        thread = threading.Thread(target=self._talk, args=(given,))
        self.threads.append(thread)
        thread.start()
        return None

    def _talk(self, given: HandedOver) -> None:
        assert not os.get_blocking(given.fd)
        with socket.socket(fileno=given.fd) as raw:
            raw.settimeout(20)
            raw.sendall(given.head.upper())
            while not given.eof and (piece := raw.recv(1 << 18)):
                raw.sendall(piece.upper())
            raw.sendall(b"<eof>")
            raw.shutdown(socket.SHUT_WR)


def finish(receiver: Receiver) -> None:
    for thread in receiver.threads:
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("status", "head"),
    [
        (101, ("POST /attach HTTP/1.1", "Host: d", *UPGRADE)),
        (101, ("POST /attach HTTP/1.1", "Host: d", *UPGRADE, "Content-Length: 0")),
        (200, ("POST /attach HTTP/1.1", "Host: d")),
        (200, ("POST /attach HTTP/1.1", "Host: d", "Content-Length: 0")),
        (200, ("POST /attach HTTP/1.0",)),
    ],
)
@pytest.mark.parametrize("same_segment", [True, False])
def test_bytes_and_half_close_reach_the_receiver(start: Start, status: int, head: tuple[str, ...], same_segment: bool) -> None:
    receiver = Receiver(status)
    with start(receiver).connect() as client:
        client.send(*head, body=b"early " if same_segment else b"")
        line, headers = client.head()
        assert line == ("HTTP/1.1 101 UPGRADED" if status == 101 else "HTTP/1.1 200 OK")
        assert headers == {"content-type": "raw"}
        client.socket.sendall(b"late")
        client.half_close()
        assert client.rest() == (b"EARLY LATE<eof>" if same_segment else b"LATE<eof>")
    finish(receiver)


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("upgrade", [UPGRADE, ()])
@pytest.mark.parametrize("by_byte", [True, False])
def test_a_body_and_the_stream_after_it_are_kept_apart(
    start: Start, upgrade: tuple[str, ...], chunked: bool, by_byte: bool
) -> None:
    receiver = Receiver(101 if upgrade else 200, read_body=True)
    body = json.dumps({"Detach": False}).encode()
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    sent = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body
    with start(receiver).connect() as client:
        head = "\r\n".join(("POST /exec/x/start HTTP/1.1", "Host: d", *upgrade, framing, "", "")).encode()
        whole = head + sent + b"stdin"
        for piece in (whole[i : i + 1] for i in range(len(whole))) if by_byte else (whole,):
            client.socket.sendall(piece)
        client.half_close()
        client.head()
        assert client.rest() == b"STDIN<eof>"
    finish(receiver)
    assert receiver.body == body


def test_a_body_the_handler_did_not_read_is_not_part_of_the_stream(start: Start) -> None:
    receiver = Receiver()
    with start(receiver).connect() as client:
        client.send("POST /attach HTTP/1.1", "Host: d", *UPGRADE, "Content-Length: 4", body=b"junkreal")
        client.half_close()
        client.head()
        assert client.rest() == b"REAL<eof>"
    finish(receiver)


def test_a_half_close_right_behind_the_request_is_told_or_left_to_be_read(start: Start) -> None:
    receiver = Receiver()
    with start(receiver).connect() as client:
        client.send("POST /attach HTTP/1.1", "Host: d", *UPGRADE)
        client.half_close()
        client.head()
        assert client.rest() == b"<eof>"
    finish(receiver)


def test_a_half_close_read_before_the_hand_over_is_told(start: Start) -> None:
    told: list[bool] = []

    async def patient(request: Request) -> None:
        await request.disconnected.wait()
        given = await request.hand_over(200, "OK", {})
        told.append(given.eof)
        os.close(given.fd)

    with start(patient).connect() as client:
        client.send("POST / HTTP/1.1", "Host: d")
        client.half_close()
        client.head()
        assert client.rest() == b""
    assert told == [True]


def test_pipelined_answers_are_flushed_before_the_hand_over(start: Start) -> None:
    receiver = Receiver()
    with start(receiver).connect() as client:
        requests = b"GET /plain HTTP/1.1\r\nHost: d\r\n\r\n" * 3
        client.socket.sendall(requests + "\r\n".join(("POST /a HTTP/1.1", "Host: d", *UPGRADE, "", "x")).encode())
        assert [client.answer()[2] for _ in range(3)] == [b"plain"] * 3
        client.head()
        client.half_close()
        assert client.rest() == b"X<eof>"
    finish(receiver)


def test_the_head_is_flushed_to_a_client_that_had_not_read_what_came_before(start: Start) -> None:
    big = b"b" * (4 << 20)

    async def answer(request: Request) -> Response | None:
        if request.path == "/big":
            return Response(200, big)
        given = await request.hand_over(200, "OK", {})
        with socket.socket(fileno=given.fd) as raw:
            raw.send(b"raw")
        return None

    server = start(answer)
    with server.connect() as client:
        client.socket.sendall(b"GET /big HTTP/1.1\r\nHost: d\r\n\r\nPOST /raw HTTP/1.1\r\nHost: d\r\n\r\n")
        server.run(asyncio.sleep(0.05))
        assert client.answer()[2] == big
        client.head()
        assert client.rest() == b"raw"


def test_http_2_on_an_upgraded_connection_finds_its_preface(start: Start) -> None:
    given: queue.Queue[HandedOver] = queue.Queue()

    async def take(request: Request) -> None:
        assert request.headers.get("upgrade") == "h2c"
        given.put(await request.hand_over(101, "UPGRADED", {"Connection": "Upgrade", "Upgrade": "h2c"}))

    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    with start(take).connect() as client:
        client.send("POST /grpc HTTP/1.1", "Host: d", "Connection: Upgrade", "Upgrade: h2c", body=preface)
        assert client.head()[1]["upgrade"] == "h2c"
        taken = given.get(timeout=20)
        assert taken.head == preface
        with socket.socket(fileno=taken.fd) as raw:
            raw.settimeout(20)
            client.socket.sendall(b"more")
            assert raw.recv(100) == b"more"


def test_a_receiver_may_frame_a_chunked_answer_itself(start: Start) -> None:
    async def wait(request: Request) -> None:
        given = await request.hand_over(200, "OK", {"Transfer-Encoding": "chunked", "Connection": "close"})
        with socket.socket(fileno=given.fd) as raw:
            raw.send(b"2\r\nok\r\n0\r\n\r\n")

    with start(wait).connect() as client:
        client.send("POST /wait HTTP/1.1", "Host: d")
        assert client.answer()[2] == b"ok"


def test_a_client_that_left_is_not_handed_over(start: Start) -> None:
    outcome: list[str] = []
    tried = threading.Event()

    async def late(request: Request) -> Response | None:
        await request.disconnected.wait()
        try:
            os.close((await request.hand_over(200, "OK", {})).fd)
            outcome.append("given")
        except Cancelled:
            outcome.append("cancelled")
            raise
        finally:
            tried.set()
        return None

    server = start(late)
    with server.connect() as client:
        client.send("POST / HTTP/1.1", "Host: d")
    assert tried.wait(10)
    # over TCP the first write after a close still succeeds: only the kernel's answer to it tells; TLS misses the goodbye
    assert outcome == ["cancelled" if isinstance(server.address, str) or server.is_encrypted else "given"]


def test_the_server_forgets_a_connection_it_gave_away(start: Start) -> None:
    given: queue.Queue[HandedOver] = queue.Queue()

    async def take(request: Request) -> None:
        given.put(await request.hand_over(101, "UPGRADED", {}))

    server = start(take)
    with server.connect() as client:
        client.send("POST / HTTP/1.1", "Host: d", *UPGRADE)
        client.head()
        taken = given.get(timeout=20)
        server.run(server.server.close(0.0))
        assert server.server.connection_count == 0
        with socket.socket(fileno=taken.fd) as raw:
            raw.settimeout(20)
            raw.sendall(b"alive")
            assert client.exactly(5) == b"alive"


def test_300_megabytes_pass_through_the_given_descriptor(start: Start) -> None:
    receiver = Receiver()
    total = 300 << 20
    block = b"x" * (1 << 20)
    with start(receiver).connect() as client:
        client.send("POST /attach HTTP/1.1", "Host: d", *UPGRADE)
        client.head()

        def send() -> None:
            for _ in range(300):
                client.socket.sendall(block)
            client.half_close()

        sender = threading.Thread(target=send)
        sender.start()
        received = len(client.unread)
        while piece := client.socket.recv(1 << 18):
            received += len(piece)
        sender.join()
    assert received == total + len(b"<eof>")
    finish(receiver)
