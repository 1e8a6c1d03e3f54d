"""DNS messages (RFC 1035, RFC 6891), as far as a server needs them that answers from a table and hands everything else on as it is.

Every length is checked: what is read here was written by a container. Names are lower-case text with dots, without the last one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

A, PTR, AAAA, ANY = 1, 12, 28, 255
OPT = 41
IN = 1
NO_ERROR, FORMAT_ERROR, SERVER_FAILURE, NOT_IMPLEMENTED = 0, 1, 2, 4

_HEADER = struct.Struct(">HHHHHH")
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION_DESIRED, _RECURSION_AVAILABLE = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
_OPCODE = 0x7800
_SMALLEST_LIMIT = 512
_LIMIT = 4096


class Malformed(ValueError):
    """Not a DNS query that can be read."""


@dataclass(frozen=True, slots=True)
class Query:
    """A question, and the bytes it came in."""

    identifier: int
    flags: int
    name: str
    kind: int
    question: bytes
    """The question section, to be repeated in the answer as it was asked."""
    limit: int
    """The longest answer that the asker can take by UDP."""

    @property
    def is_ordinary(self) -> bool:
        """An ordinary query (opcode 0) of the internet's class."""
        return not self.flags & _OPCODE


def parse(data: bytes) -> Query:
    """Read a query with one question. Raises Malformed."""
    try:
        identifier, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
        if flags & _RESPONSE or questions != 1:
            raise Malformed("not one question")
        name, end = _name(data, _HEADER.size)
        kind, _ = struct.unpack_from(">HH", data, end)
        end += 4
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from error
    limit = _edns_limit(data, end) if additional and not answers and not authorities else _SMALLEST_LIMIT
    return Query(identifier, flags, name, kind, data[_HEADER.size : end], limit)


def _name(data: bytes, offset: int) -> tuple[str, int]:
    """A name without compression, which no question has reason to use."""
    labels: list[str] = []
    while length := data[offset]:
        if length > 63 or len(labels) > 127:
            raise Malformed("a label that is too long")
        label = data[offset + 1 : offset + 1 + length]
        if len(label) != length:
            raise Malformed("a name that ends too early")
        labels.append(label.decode("ascii").lower())
        offset += 1 + length
    return ".".join(labels), offset + 1


def _edns_limit(data: bytes, offset: int) -> int:
    """The asker's UDP size from an OPT record that follows the question at once."""
    try:
        if data[offset] == 0 and struct.unpack_from(">H", data, offset + 1)[0] == OPT:
            return max(_SMALLEST_LIMIT, min(_LIMIT, int(struct.unpack_from(">H", data, offset + 3)[0])))
    except (struct.error, IndexError):
        pass
    return _SMALLEST_LIMIT


def encode_name(name: str) -> bytes:
    """A name in labels. Raises Malformed for one that DNS cannot carry."""
    labels = [label.encode("ascii", "replace") for label in name.split(".") if label]
    if any(len(label) > 63 for label in labels) or sum(len(label) + 1 for label in labels) > 254:
        raise Malformed(name)
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def respond(query: Query, code: int, records: Sequence[tuple[int, bytes]] = (), *, limit: int | None = None) -> bytes:
    """An answer with records of (type, data), all of the question's name; cut and marked so when longer than `limit`.

    Nobody is to keep it (a time to live of 0): a container may come back with another address.
    """
    limit = query.limit if limit is None else limit
    flags = _RESPONSE | _RECURSION_AVAILABLE | (query.flags & (_RECURSION_DESIRED | _OPCODE)) | code
    if code == NO_ERROR:
        flags |= _AUTHORITATIVE
    body = b""
    count = 0
    for kind, data in records:
        record = struct.pack(">HHHIH", 0xC000 | _HEADER.size, kind, IN, 0, len(data)) + data
        if _HEADER.size + len(query.question) + len(body) + len(record) > limit:
            flags |= _TRUNCATED
            break
        body += record
        count += 1
    return _HEADER.pack(query.identifier, flags, 1, count, 0, 0) + query.question + body


def refuse_malformed(data: bytes) -> bytes | None:
    """The answer to what cannot be read: a format error if there is an identifier to answer to, and it is a query at all."""
    if len(data) < _HEADER.size or data[2] & 0x80:
        return None
    return _HEADER.pack(int.from_bytes(data[:2], "big"), _RESPONSE | _RECURSION_AVAILABLE | FORMAT_ERROR, 0, 0, 0, 0)


def pointer_address(name: str) -> IPv4Address | IPv6Address | None:
    """The address that a reverse name (in-addr.arpa, ip6.arpa) asks about; None when it is none."""
    try:
        if name.endswith(".in-addr.arpa"):
            return IPv4Address(".".join(reversed(name.removesuffix(".in-addr.arpa").split("."))))
        if name.endswith(".ip6.arpa"):
            nibbles = name.removesuffix(".ip6.arpa").split(".")
            if len(nibbles) != 32 or any(len(nibble) != 1 for nibble in nibbles):
                return None
            return IPv6Address(int("".join(reversed(nibbles)), 16))
    except ValueError:
        pass
    return None
