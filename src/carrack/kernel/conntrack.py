"""Forgetting tracked connections, by ctnetlink: a flow that was tracked before its port was published would never be translated,
and one that outlives its container would be led to the next container with that address.

The kernel picks the connections (CTA_FILTER in a dump, Linux 5.8) and each is deleted by its own tuple; a filtered delete would be
one message, but Linux knows that from 6.8 only.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from ipaddress import IPv4Address, IPv6Address

_NETFILTER = 12
_GET, _DELETE = (1 << 8) | 1, (1 << 8) | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET and _DELETE
_REQUEST, _ACK, _DUMP = 0x001, 0x004, 0x300
_ERROR, _DONE = 2, 3
_TUPLE_ORIGINAL, _TUPLE_REPLY, _FILTER = 1, 2, 25
_TUPLE_IP, _TUPLE_PROTOCOL = 1, 2
_FILTER_ORIGINAL_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
# CTA_FILTER_F_… of the kernel's nf_internals.h: which parts of a tuple a filter compares.
_FLAG_SOURCE, _FLAG_PROTOCOL, _FLAG_DESTINATION_PORT = 1 << 0, 1 << 3, 1 << 5
_NESTED = 0x8000


def _attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return struct.pack("=HH", length, kind) + payload + b"\0" * (-length % 4)


def _nest(kind: int, *parts: bytes) -> bytes:
    return _attribute(kind | _NESTED, b"".join(parts))


class Conntrack:
    """The connections of the network namespace in which this was made. Safe to share: requests take turns."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
        self._socket.bind((0, 0))

    def close(self) -> None:
        self._socket.close()

    def forget_address(self, address: IPv4Address | IPv6Address) -> None:
        """Forget the flows that this address began, and those that were translated to it."""
        source = 1 if address.version == 4 else 3
        ip = _nest(_TUPLE_IP, _attribute(source, address.packed))
        self._delete(address.version, _nest(_TUPLE_ORIGINAL, ip), _nest(_FILTER, *_flags(_FLAG_SOURCE, 0)))
        self._delete(address.version, _nest(_TUPLE_REPLY, ip), _nest(_FILTER, *_flags(0, _FLAG_SOURCE)))

    def forget_udp_port(self, port: int, version: int) -> None:
        """Forget the UDP flows that were sent to this port, whatever they were led to."""
        protocol = _nest(_TUPLE_PROTOCOL, _attribute(1, bytes([socket.IPPROTO_UDP])), _attribute(3, struct.pack(">H", port)))
        wanted = _flags(_FLAG_PROTOCOL | _FLAG_DESTINATION_PORT, 0)
        self._delete(version, _nest(_TUPLE_ORIGINAL, protocol), _nest(_FILTER, *wanted))

    def _delete(self, version: int, *attributes: bytes) -> None:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        with self._turn:
            self._delete_each(family, attributes)

    def _delete_each(self, family: int, attributes: tuple[bytes, ...]) -> None:
        for tuple_original in self._find(family, b"".join(attributes)):
            self._send(_DELETE, _REQUEST | _ACK, family, _attribute(_TUPLE_ORIGINAL | _NESTED, tuple_original))
            number = -int(struct.unpack_from("=i", self._socket.recv(4096), 16)[0])
            if number not in (0, errno.ENOENT):
                raise OSError(number, os.strerror(number), "conntrack")

    def _send(self, kind: int, flags: int, family: int, attributes: bytes) -> None:
        payload = struct.pack("=BBH", family, 0, 0) + attributes
        self._socket.send(struct.pack("=IHHII", 16 + len(payload), kind, flags, 1, 0) + payload)

    def _find(self, family: int, attributes: bytes) -> list[bytes]:
        """The original tuples of the connections that a filter picks."""
        self._send(_GET, _REQUEST | _DUMP, family, attributes)
        found: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 18)
            offset = 0
            while offset + 16 <= len(data):
                length, kind = struct.unpack_from("=IH", data, offset)
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    number = -int(struct.unpack_from("=i", data, offset + 16)[0])
                    raise OSError(number, os.strerror(number), "conntrack")
                found.append(_first_attribute(data[offset + 20 : offset + length], _TUPLE_ORIGINAL))
                offset += (length + 3) & ~3


def _first_attribute(data: bytes, wanted: int) -> bytes:
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if kind & 0x3FFF == wanted:
            return data[offset + 4 : offset + length]
        offset += (max(length, 4) + 3) & ~3
    return b""


def _flags(original: int, reply: int) -> tuple[bytes, bytes]:
    return _attribute(_FILTER_ORIGINAL_FLAGS, struct.pack("=I", original)), _attribute(
        _FILTER_REPLY_FLAGS, struct.pack("=I", reply)
    )
