"""The conversation between carrackd and the names process: the closed list of its messages, and how they travel.

    carrackd ── Put · Serve (+ sockets) · Drop · Relay (+ socket) · Unrelay · Retain · Guard · Stop ──▶ names
             ◀────────────────────────────── Done | Refused ───────────────────────────────
    names    ── the same orders, as it obeyed them ──▶ its spare (spare.py)

Each message is a length and JSON on a unix stream socket; descriptors travel beside the first byte. Each is answered, so that a
name can be looked up when the order that gave it has returned. Fields are only ever added, with defaults.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence

import msgspec

from carrack.networks.dns.table import ContainerNames

VERSION = 2
RESOLVER = "127.0.0.11"
"""The nameserver that belongs into the resolv.conf of every container that is in a user-defined network."""
_LENGTH = struct.Struct(">I")
_LIMIT_BYTES = 64 << 20
_DESCRIPTORS = 3


class _Message(msgspec.Struct, frozen=True, tag_field="type"):
    pass


class Hello(_Message, frozen=True, tag="hello"):
    """The first message of a conversation. Refused by a names process of another version."""

    version: int = VERSION


class Put(_Message, frozen=True, tag="put"):
    """Add a container's names, or replace them."""

    container: ContainerNames


class Serve(_Message, frozen=True, tag="serve"):
    """Answer a container. Descriptors: a UDP socket and a listening TCP socket of its namespace; perhaps its init's pidfd."""

    container_id: str


class Drop(_Message, frozen=True, tag="drop"):
    """Forget a container and close its sockets."""

    container_id: str


class RelaySpec(msgspec.Struct, frozen=True):
    """One port of the host that a process has to serve, because the kernel translates nothing there, and where it leads."""

    protocol: str
    host_ip: str
    host_port: int
    target_ip: str
    target_port: int

    @property
    def key(self) -> tuple[str, str, int]:
        return self.protocol, self.host_ip, self.host_port


class Relay(_Message, frozen=True, tag="relay"):
    """Serve a published port. Descriptors: its socket; perhaps the init's pidfd. Without them: the port leads elsewhere now."""

    container_id: str
    relay: RelaySpec


class Unrelay(_Message, frozen=True, tag="unrelay"):
    """Close a container's published ports."""

    container_id: str


class Retain(_Message, frozen=True, tag="retain"):
    """Forget every container but these: after all of them were put. `relayed`: those that have ports."""

    container_ids: tuple[str, ...]
    relayed: tuple[str, ...] = ()


class Guard(_Message, frozen=True, tag="guard"):
    """Put this firewall table back when it is flushed while no carrackd is there."""

    table: str


class Stop(_Message, frozen=True, tag="stop"):
    """End the process."""


class Done(_Message, frozen=True, tag="done"):
    """Done. To `Retain`: which containers are answered, and which have ports."""

    served: tuple[str, ...] = ()
    relayed: tuple[str, ...] = ()


class Refused(_Message, frozen=True, tag="refused"):
    """The order before was not carried out, and why."""

    message: str


Order = Hello | Put | Serve | Drop | Relay | Unrelay | Retain | Guard | Stop
Answer = Done | Refused
# Made here, before the zygote's first fork: what they know of the types is a megabyte that every child would make for itself.
_encoder = msgspec.json.Encoder()
_orders: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)
_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


def send(connection: socket.socket, message: Order | Answer, fds: Sequence[int] = ()) -> None:
    """Send one message. Raises OSError."""
    body = _encoder.encode(message)
    data = _LENGTH.pack(len(body)) + body
    sent = socket.send_fds(connection, [data], list(fds)) if fds else connection.send(data)
    connection.sendall(data[sent:])


def receive_order(connection: socket.socket) -> tuple[Order, list[int]]:
    """The next order and its descriptors. Raises EOFError when the other side has gone, OSError, msgspec.DecodeError."""
    head, fds, _, _ = socket.recv_fds(connection, _LENGTH.size, _DESCRIPTORS)
    try:
        return _orders.decode(_body(connection, head)), list(fds)
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def receive_answer(connection: socket.socket) -> Answer:
    """The answer to what was sent. Raises EOFError, OSError, msgspec.DecodeError."""
    return _answers.decode(_body(connection, connection.recv(_LENGTH.size)))


def _body(connection: socket.socket, head: bytes) -> bytes:
    head += _exactly(connection, _LENGTH.size - len(head)) if head else b""
    if not head:
        raise EOFError
    length = _LENGTH.unpack(head)[0]
    if length > _LIMIT_BYTES:
        raise OSError(f"a message of {length} bytes")
    return _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    pieces = []
    while count:
        piece = connection.recv(min(count, 1 << 16))
        if not piece:
            raise EOFError
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)
