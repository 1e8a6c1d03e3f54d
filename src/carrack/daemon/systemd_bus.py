"""Talks with systemd's own socket: the three calls of org.freedesktop.systemd1 that carrackd needs.

D-Bus between two processes, without a bus daemon: minimal hosts have none. The wire format is that of the D-Bus Specification,
little-endian, and only the types that these calls use.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from carrack.errors import Conflict, SystemFailure

SOCKET = "/run/systemd/private"
_SERVICE = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_SECONDS = 20.0
_CALL, _RETURN, _ERROR = 1, 2, 3
_FIELD_PATH, _FIELD_INTERFACE, _FIELD_MEMBER, _FIELD_ERROR, _FIELD_REPLY, _FIELD_DESTINATION, _FIELD_SIGNATURE = 1, 2, 3, 4, 5, 6, 8


class SystemdBus:
    """A conversation with systemd. Raises SystemFailure when it cannot be had, or is refused."""

    def __init__(self) -> None:
        self._serial = 0
        self._unread = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(_SECONDS)
        try:
            self._socket.connect(SOCKET)
            self._socket.sendall(b"\0AUTH EXTERNAL " + str(os.geteuid()).encode().hex().encode() + b"\r\nBEGIN\r\n")
            while b"\r\n" not in self._unread:
                self._more()
        except OSError as error:
            self._socket.close()
            raise SystemFailure(f"cannot speak with systemd: {error.strerror or error}") from error
        answer, _, self._unread = self._unread.partition(b"\r\n")
        if not answer.startswith(b"OK"):
            self._socket.close()
            raise SystemFailure(f"systemd refuses to speak with us: {answer.decode(errors='replace')}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def system_state(self) -> str:
        """``running``, ``degraded``, ``stopping``, …"""
        body = Writer().string(_MANAGER).string("SystemState")
        answer = Reader(self._call("org.freedesktop.DBus.Properties", "Get", "ss", body))
        answer.signature()
        return answer.string()

    def start_scope(self, name: str, pid: int, description: str, *, before: str, slice_name: str = "") -> None:
        """Put a process into a new scope whose cgroups are ours alone. Raises Conflict when there is a scope of that name.

        At shutdown systemd stops the unit `before` first, and then what is left here. Without `slice_name`: system.slice.
        """
        body = Writer().string(name).string("fail")
        with body.array(8):
            body.property("Description", "s", lambda: body.string(description))
            body.property("PIDs", "au", lambda: body.numbers([pid]))
            body.property("Delegate", "b", lambda: body.number(1))
            body.property("TasksMax", "t", lambda: body.long(2**64 - 1))
            body.property("Before", "as", lambda: body.strings([before]))
            body.property("CollectMode", "s", lambda: body.string("inactive-or-failed"))
            if slice_name:
                body.property("Slice", "s", lambda: body.string(slice_name))
        with body.array(8):
            pass
        self._call(_MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", body)

    def _call(self, interface: str, member: str, signature: str, body: Writer) -> bytes:
        self._serial += 1
        head = Writer()
        head.raw(struct.pack("<cBBBII", b"l", _CALL, 0, 1, len(body.content), self._serial))
        with head.array(8):
            for code, kind, text in (
                (_FIELD_PATH, "o", _PATH),
                (_FIELD_INTERFACE, "s", interface),
                (_FIELD_MEMBER, "s", member),
                (_FIELD_DESTINATION, "s", _SERVICE),
            ):
                head.pad(8).raw(bytes([code])).signature(kind).string(text)
            head.pad(8).raw(bytes([_FIELD_SIGNATURE])).signature("g").signature(signature)
        head.pad(8)
        try:
            self._socket.sendall(bytes(head.content + body.content))
            return self._answer(member)
        except OSError as error:
            raise SystemFailure(f"systemd does not answer {member}: {error.strerror or error}") from error

    def _answer(self, member: str) -> bytes:
        """The body of the answer to the last call; signals in between are dropped."""
        while True:
            head = self._take(16)
            kind, body_bytes, fields_bytes = head[1], struct.unpack_from("<I", head, 4)[0], struct.unpack_from("<I", head, 12)[0]
            fields = Reader(self._take(fields_bytes + -fields_bytes % 8)[:fields_bytes])
            body = self._take(body_bytes)
            reply, error = 0, ""
            while fields.left:
                fields.pad(8)
                code = fields.byte()
                what = fields.signature()
                if what == "u":
                    number = fields.number()
                    reply = number if code == _FIELD_REPLY else reply
                else:
                    text = fields.signature() if what == "g" else fields.string()
                    error = text if code == _FIELD_ERROR else error
            if reply != self._serial:
                continue
            if kind == _RETURN:
                return body
            if kind == _ERROR:
                said = Reader(body).string() if body else error
                if error.endswith(".UnitExists"):
                    raise Conflict(said)
                raise SystemFailure(f"systemd refuses {member}: {said}")

    def _take(self, size: int) -> bytes:
        while len(self._unread) < size:
            self._more()
        taken, self._unread = self._unread[:size], self._unread[size:]
        return taken

    def _more(self) -> None:
        piece = self._socket.recv(65536)
        if not piece:
            raise ConnectionResetError("systemd closed the connection")
        self._unread += piece


class Writer:
    """Marshals values one after another, each at its alignment."""

    def __init__(self) -> None:
        self.content = bytearray()

    def pad(self, alignment: int) -> Writer:
        """Zeros up to the next multiple of an alignment."""
        self.content += bytes(-len(self.content) % alignment)
        return self

    def raw(self, content: bytes) -> Writer:
        """Bytes as they are."""
        self.content += content
        return self

    def number(self, value: int) -> Writer:
        return self.pad(4).raw(struct.pack("<I", value))

    def long(self, value: int) -> Writer:
        return self.pad(8).raw(struct.pack("<Q", value))

    def string(self, text: str) -> Writer:
        """A string: its length, its UTF-8, a zero."""
        content = text.encode()
        return self.number(len(content)).raw(content + b"\0")

    def signature(self, text: str) -> Writer:
        return self.raw(bytes([len(text)]) + text.encode() + b"\0")

    def numbers(self, values: list[int]) -> Writer:
        """An array of uint32."""
        with self.array(4):
            for value in values:
                self.number(value)
        return self

    def strings(self, values: list[str]) -> Writer:
        """An array of strings."""
        with self.array(4):
            for value in values:
                self.string(value)
        return self

    def property(self, name: str, signature: str, value: Callable[[], object]) -> Writer:
        """One ``(sv)``."""
        self.pad(8).string(name).signature(signature)
        value()
        return self

    @contextmanager
    def array(self, alignment: int) -> Iterator[None]:
        """Elements of that alignment; the length goes in front of them, without the padding before the first."""
        self.number(0)
        place = len(self.content) - 4
        self.pad(alignment)
        start = len(self.content)
        yield
        struct.pack_into("<I", self.content, place, len(self.content) - start)


class Reader:
    """Takes values off a message."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    @property
    def left(self) -> bool:
        return self._at < len(self._content)

    def pad(self, alignment: int) -> None:
        self._at += -self._at % alignment

    def byte(self) -> int:
        """The next byte."""
        self._at += 1
        return self._content[self._at - 1]

    def number(self) -> int:
        """The next uint32, at its alignment."""
        self.pad(4)
        self._at += 4
        found: int = struct.unpack_from("<I", self._content, self._at - 4)[0]
        return found

    def string(self) -> str:
        return self._text(self.number())

    def signature(self) -> str:
        return self._text(self.byte())

    def _text(self, size: int) -> str:
        start, self._at = self._at, self._at + size + 1
        return self._content[start : start + size].decode(errors="replace")
