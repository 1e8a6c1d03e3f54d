"""What a client may ask of a container's streams, and the sessions that take the client's own connection over.

A session is made before the answer's header is written, so that what cannot be is refused with a status; once the header is out,
`accept` receives the connection itself. For a running container it goes on to the shim, and the daemon has nothing more to do
with it: that is why an open stream survives the daemon's restart.
"""

from __future__ import annotations

import enum
import os
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from carrack.errors import InvalidParameter

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"


class WaitCondition(enum.StrEnum):
    """What `wait` waits for."""

    NOT_RUNNING = "not-running"
    NEXT_EXIT = "next-exit"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class AttachOptions:
    """What a client asks of an attach."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    logs: bool = False
    stream: bool = False
    detach_keys: str = ""
    """Empty: Docker's default."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """`since` and `until` in nanoseconds since 1970, 0: open; `tail` -1: all."""

    stdout: bool = False
    stderr: bool = False
    follow: bool = False
    since_nanoseconds: int = 0
    until_nanoseconds: int = 0
    timestamps: bool = False
    details: bool = False
    tail: int = -1


@dataclass(frozen=True, slots=True)
class ExecStartOptions:
    """What a client asks of the start of an exec."""

    detach: bool = False
    tty: bool = False
    console_size: tuple[int, int] | None = None
    """Rows and columns."""


class Session(Protocol):
    """A stream that waits for its client's connection."""

    content_type: str
    chunked: bool
    """The receiver writes HTTP chunks: the header must say `Transfer-Encoding: chunked`."""

    async def accept(self, fd: int, head: bytes, eof: bool) -> None:
        """Take the client's socket over; it is ours to close, also when this raises."""


class HandedOn:
    """A session that gives the connection to one function."""

    def __init__(self, content_type: str, take: Callable[[int, bytes, bool], Awaitable[None]], *, chunked: bool = False) -> None:
        self.content_type = content_type
        self.chunked = chunked
        self._take = take

    async def accept(self, fd: int, head: bytes, eof: bool) -> None:
        await self._take(fd, head, eof)


def parse_detach_keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` or single letters as the bytes a terminal sends. Raises InvalidParameter in Docker's words."""
    keys = bytearray()
    for key in (text or DEFAULT_DETACH_KEYS).split(","):
        if len(key) == 1 and key.isascii():
            keys.append(ord(key))
            continue
        letter = key.removeprefix("ctrl-")
        if key.startswith("ctrl-") and len(letter) == 1 and (letter in "@[\\]^_" or (letter.isascii() and letter.islower())):
            keys.append(ord(letter.upper()) & 0x1F)
            continue
        raise InvalidParameter(f"Invalid detach keys ({text}) provided")
    return bytes(keys)


def frame(stream: int, content: bytes) -> bytes:
    """One frame of a multiplexed stream: 1 stdout, 2 stderr."""
    return struct.pack(">BxxxL", stream, len(content)) + content


def last_chunk(document: bytes) -> bytes:
    """One HTTP chunk and the end of the body."""
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(document), document)


def finish(fd: int, content: bytes) -> None:
    """Write a few last bytes to a client and close; a client that is gone or does not read loses them."""
    try:
        os.write(fd, content)
    except OSError:
        pass
    finally:
        os.close(fd)
