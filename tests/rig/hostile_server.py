"""A server of HTTP that answers as it likes: nonsense, without an end, byte by byte, or not at all."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Answer = Callable[[socket.socket, str, bytes], None]
"""Answers one request, of which it gets the first line and the whole head."""


@contextmanager
def hostile(answer: Answer) -> Iterator[str]:
    """A server that answers as it likes; its host and port."""
    server = socket.create_server(("127.0.0.1", 0))
    open_ones: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with suppress(OSError):
            while head := _head(connection):
                answer(connection, head.partition(b"\r\n")[0].decode(), head)
            connection.close()

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                open_ones.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"localhost:{server.getsockname()[1]}"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()
        for connection in open_ones:
            connection.close()


def _head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65536)
        if not piece:
            return b""
        head += piece
    return head


def plain(status: str, *fields: str, body: bytes = b"") -> Answer:
    head = "\r\n".join((f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}", "", ""))
    return lambda connection, *_: connection.sendall(head.encode("latin-1") + body)


def endless(status: str, *fields: str) -> Answer:
    """A body that never ends, as fast as it is taken."""
    head = "\r\n".join((f"HTTP/1.1 {status}", *fields, "", ""))

    def answer(connection: socket.socket, *_: object) -> None:
        connection.sendall(head.encode())
        while True:
            connection.sendall(b"x" * 65536)

    return answer


def drip(connection: socket.socket, *_: object) -> None:
    """A head that comes byte by byte and has no end: no single wait is long."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        connection.sendall(b"x")
        threading.Event().wait(0.05)


def drip_body(connection: socket.socket, *_: object) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b" ")
        threading.Event().wait(0.05)


def hundreds(connection: socket.socket, *_: object) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        threading.Event().wait(0.05)
