"""Datagrams by the batch, on real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from carrack.kernel.datagrams import DatagramBatch


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """(a server's socket, a client's that is connected to it)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        server.bind(("127.0.0.1", 0))
        client.bind(("127.0.0.1", 0))
        client.connect(server.getsockname())
        client.settimeout(15)
        yield server, client


def test_answers_go_where_the_questions_came_from_and_keep_their_beginning(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    batch = DatagramBatch(3, 64, 2)
    for number in range(5):
        client.send(b"%02d question" % number)
    sizes = []
    while asked := batch.receive(server.fileno()):
        assert batch.whole(0)[2:] == asked[0]
        assert batch.peer(len(asked) - 1) == client.getsockname()
        batch.answer(server.fileno(), [b" an answer longer than" + question for question in asked])
        sizes.append(len(asked))
    assert sizes == [3, 2]
    assert [client.recv(100) for _ in range(5)] == [b"%02d an answer longer than question" % number for number in range(5)]


def test_a_datagram_that_is_too_long_or_too_short_harms_nobody(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    batch = DatagramBatch(4, 8, 2)
    for content in (b"x" * 100, b"", b"a", b"abcd"):
        client.send(content)
    assert batch.receive(server.fileno()) == [b"x" * 6, b"", b"", b"cd"]
    assert [batch.whole(number) for number in range(4)] == [b"x" * 8, b"", b"a", b"abcd"]
    assert batch.receive(server.fileno()) == []
