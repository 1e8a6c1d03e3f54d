"""HTTP/1.1 as the client reads and writes it: framing however the bytes arrive, and the limits."""

import _socket
from collections.abc import Callable, Sequence

import pytest

from carrack.client.connection import Connection
from carrack.client.failure import ConnectionFailed, ProtocolError
from carrack.client.http import Body, encode_query, percent_encode, read_head, render_head

Cut = Callable[[bytes], list[bytes]]


class Script:
    """A byte stream that says what it was given, a piece per read."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = list(pieces)
        self.sent = b""

    def fileno(self) -> int:
        return -1

    def recv(self, size: int, /) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > size:
            self.pieces.insert(0, piece[size:])
        return piece[:size]

    def sendall(self, data: bytes, /) -> None:
        self.sent += data

    def send_some(self, data: bytes, /) -> int:
        self.sent += data
        return len(data)

    def shutdown(self, how: int, /) -> None:
        assert how == _socket.SHUT_WR

    def close(self) -> None:
        self.pieces = []


def whole(text: bytes) -> list[bytes]:
    return [text]


def bytewise(text: bytes) -> list[bytes]:
    return [bytes([byte]) for byte in text]


arrivals = pytest.mark.parametrize("cut", [whole, bytewise])


def answer(pieces: Sequence[bytes], method: str = "GET") -> tuple[int, bytes, Body]:
    connection = Connection(Script(pieces))
    head = read_head(connection)
    body = Body(connection, head, method=method)
    return head.status, body.read_all(), body


@arrivals
def test_a_body_of_known_length_ends_there_and_the_connection_may_be_used_again(cut: Cut) -> None:
    status, content, body = answer(cut(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
    assert (status, content, body.reusable) == (200, b"hello", True)


@arrivals
def test_chunks_are_put_together_whatever_their_sizes_extensions_and_trailers(cut: Cut) -> None:
    chunks = b"5;x=y\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nTrailer: 1\r\n\r\n"
    status, content, body = answer(cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks))
    assert (status, content, body.ended) == (200, b"hello world", True)


@arrivals
def test_a_body_without_length_lasts_until_the_connection_ends(cut: Cut) -> None:
    _, content, body = answer(cut(b"HTTP/1.0 200 OK\r\n\r\nall of it"))
    assert (content, body.reusable) == (b"all of it", False)


def test_an_answer_to_head_has_no_body_whatever_its_length_says() -> None:
    assert answer([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"], method="HEAD")[1] == b""


@pytest.mark.parametrize("status", [204, 304])
def test_these_answers_have_no_body(status: int) -> None:
    assert answer([f"HTTP/1.1 {status} x\r\n\r\n".encode()])[1] == b""


def test_interim_answers_are_skipped() -> None:
    assert answer([b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"])[:2] == (200, b"x")


def test_a_body_cut_short_is_a_broken_connection() -> None:
    with pytest.raises(ConnectionFailed, match="unexpected EOF"):
        answer([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"])


@pytest.mark.parametrize("size", [b"zz", b"-5", b"", b"+5", b"0x5", b"5_0"])
def test_a_malformed_chunk_size_is_refused(size: bytes) -> None:
    with pytest.raises(ProtocolError):
        answer([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\nhello\r\n0\r\n\r\n"])


def test_an_endless_header_line_is_refused() -> None:
    with pytest.raises(ProtocolError, match="64 KiB"):
        answer([b"HTTP/1.1 200 OK\r\nX: "] + [b"a" * 4096] * 40)


def test_endless_headers_are_refused() -> None:
    with pytest.raises(ProtocolError, match="more than 200 headers"):
        answer([b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500])


def test_what_is_no_http_suggests_tls() -> None:
    with pytest.raises(ProtocolError, match="TLS"):
        answer([b"\x15\x03\x01\x00\x02\x02\n"])


def test_a_line_break_in_a_header_is_refused() -> None:
    with pytest.raises(ProtocolError):
        render_head("GET", "/", {"X": "a\r\nEvil: 1"})


def test_a_query_is_sorted_and_escaped() -> None:
    assert encode_query({"t": ["b", "a"], "filters": '{"a":1}'}) == "filters=%7B%22a%22%3A1%7D&t=b&t=a"


def test_a_path_keeps_what_it_is_told_to_keep() -> None:
    assert percent_encode("a/b c:ä", keep="/:") == "a/b%20c:%C3%A4"
