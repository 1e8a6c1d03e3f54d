"""Forgetting tracked connections, by ctnetlink: a flow that was tracked before its port was published would never be translated,
and one that outlives its container would be led to the next container with that address.

The connections are found by a dump, in which the kernel can pick them (CTA_FILTER, Linux 5.8), and each is deleted by its own
tuple; a filtered delete would be one message, but Linux knows that from 6.8 only. Any dump walks the whole hash table, be it empty:
9 ms for the 262144 buckets of a machine with 16 GB. So many addresses are forgotten in one walk, and none where nothing is tracked.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv6Address

_NETFILTER = 12
# NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET, _DELETE and _GET_STATS
_GET, _DELETE, _GET_STATISTICS = (1 << 8) | 1, (1 << 8) | 2, (1 << 8) | 5
_REQUEST, _ACK, _DUMP = 0x001, 0x004, 0x300
_ERROR, _DONE = 2, 3
_TUPLE_ORIGINAL, _TUPLE_REPLY, _FILTER = 1, 2, 25
_TUPLE_IP, _TUPLE_PROTOCOL = 1, 2
_SOURCE = {4: 1, 6: 3}
_ALL_FLOWS = 1
_FLOWS_PER_ADDRESS = 5000
"""With at most so many connections for each address, to be told of all of them costs less than a filtered walk for each."""
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

    def forget_addresses(self, addresses: Collection[IPv4Address | IPv6Address]) -> None:
        """Forget the flows that these addresses began, and those that were translated to them."""
        flows = self.count() if addresses else 0
        for version in (4, 6):
            asked = [address for address in addresses if address.version == version]
            if not flows or not asked:
                continue
            if flows <= _FLOWS_PER_ADDRESS * len(asked):
                packed = {address.packed for address in asked}
                self._delete(version, picks=lambda flow: not packed.isdisjoint(_sources(flow)))  # noqa: B023  called at once
                continue
            for address in asked:
                ip = _nest(_TUPLE_IP, _attribute(_SOURCE[version], address.packed))
                self._delete(version, _nest(_TUPLE_ORIGINAL, ip), _nest(_FILTER, *_flags(_FLAG_SOURCE, 0)))
                self._delete(version, _nest(_TUPLE_REPLY, ip), _nest(_FILTER, *_flags(0, _FLAG_SOURCE)))

    def count(self) -> int:
        """How many connections the namespace tracks."""
        with self._turn:
            self._send(_GET_STATISTICS, _REQUEST, socket.AF_UNSPEC, b"")
            answer = self._socket.recv(4096)
        _raise_if_failed(answer, 0)
        return int.from_bytes(_first_attribute(answer[20:], _ALL_FLOWS), "big")

    def forget_udp_port(self, port: int, version: int) -> None:
        """Forget the UDP flows that were sent to this port, whatever they were led to."""
        protocol = _nest(_TUPLE_PROTOCOL, _attribute(1, bytes([socket.IPPROTO_UDP])), _attribute(3, struct.pack(">H", port)))
        wanted = _flags(_FLAG_PROTOCOL | _FLAG_DESTINATION_PORT, 0)
        self._delete(version, _nest(_TUPLE_ORIGINAL, protocol), _nest(_FILTER, *wanted))

    def _delete(self, version: int, *attributes: bytes, picks: Callable[[bytes], bool] = lambda flow: True) -> None:
        """Delete the connections that the kernel picks by `attributes` and then `picks` by all that is told of each."""
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        with self._turn:
            for tuple_original in self._find(family, b"".join(attributes), picks):
                self._send(_DELETE, _REQUEST | _ACK, family, _attribute(_TUPLE_ORIGINAL | _NESTED, tuple_original))
                answer = self._socket.recv(4096)
                if -int(struct.unpack_from("=i", answer, 16)[0]) != errno.ENOENT:
                    _raise_if_failed(answer, 0)

    def _send(self, kind: int, flags: int, family: int, attributes: bytes) -> None:
        payload = struct.pack("=BBH", family, 0, 0) + attributes
        self._socket.send(struct.pack("=IHHII", 16 + len(payload), kind, flags, 1, 0) + payload)

    def _find(self, family: int, attributes: bytes, picks: Callable[[bytes], bool]) -> list[bytes]:
        """The original tuples of the connections that are picked."""
        self._send(_GET, _REQUEST | _DUMP, family, attributes)
        found: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 18)
            offset = 0
            while offset + 16 <= len(data):
                length, kind = struct.unpack_from("=IH", data, offset)
                if kind == _DONE:
                    return found
                _raise_if_failed(data, offset)
                flow = data[offset + 20 : offset + length]
                if picks(flow):
                    found.append(_first_attribute(flow, _TUPLE_ORIGINAL))
                offset += (length + 3) & ~3


def _raise_if_failed(data: bytes, offset: int) -> None:
    if struct.unpack_from("=H", data, offset + 4)[0] == _ERROR:
        number = -int(struct.unpack_from("=i", data, offset + 16)[0])
        if number:
            raise OSError(number, os.strerror(number), "conntrack")


def _sources(flow: bytes) -> tuple[bytes, bytes]:
    """Who began a connection, and who answers in it, as packed addresses."""
    original, reply = (_first_attribute(_first_attribute(flow, kind), _TUPLE_IP) for kind in (_TUPLE_ORIGINAL, _TUPLE_REPLY))
    return _source(original), _source(reply)


def _source(ip: bytes) -> bytes:
    return _first_attribute(ip, _SOURCE[4]) or _first_attribute(ip, _SOURCE[6])


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
