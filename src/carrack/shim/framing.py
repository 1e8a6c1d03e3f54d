"""The two framings of output: Docker's multiplexed stream (8-byte header) and HTTP/1.1 chunks (RFC 9112, 7.1)."""

from __future__ import annotations

import struct

STDIN, STDOUT, STDERR = 0, 1, 2
FINAL_CHUNK = b"0\r\n\r\n"

_header = struct.Struct(">BxxxI").pack


def frame_header(stream: int, length: int) -> bytes:
    """The header before `length` bytes of `stream` (1 output, 2 errors): one byte, three zero bytes, the length, big-endian."""
    return _header(stream, length)


def chunk(content: bytes) -> bytes:
    """`content` as one HTTP chunk; empty content gives nothing, because an empty chunk would end the body."""
    return b"%x\r\n%b\r\n" % (len(content), content) if content else b""
