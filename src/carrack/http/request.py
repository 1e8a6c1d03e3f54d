"""A request as handlers see it: its head, its body as bytes or as a stream, who sent it, whether the client is still there, and
the way to take the connection away from the server for good."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from carrack.errors import InvalidParameter
from carrack.http.head import Head
from carrack.http.response import FileResponse, Response, StreamResponse, render_head


@dataclass(frozen=True, slots=True)
class PeerCredentials:
    """Who connected to a unix socket (unix(7), SO_PEERCRED), as of its connect()."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class HandedOver:
    """A connection that belongs to its receiver now."""

    fd: int
    """A non-blocking descriptor, to be closed by the receiver: the socket itself, or one end of a pair that is relayed (TLS)."""
    head: bytes
    """Bytes of the client that were read already and belong to the stream: they come before what `fd` gives."""
    eof: bool
    """The client has sent all it will (half-close), and this was read already: `fd` need not be asked."""


class Wire(Protocol):
    """What a request needs of its connection."""

    disconnected: asyncio.Event

    async def read_body(self) -> bytes:
        """The next bytes of the body, empty at its end. Raises InvalidParameter, Cancelled."""

    async def hand_over(self, head: bytes) -> HandedOver:
        """Write the head, flush, and leave the connection."""

    def peer(self) -> PeerCredentials | None:
        """Who is on the other end of a unix socket."""

    def remote(self) -> str:
        """The address of the other end."""


class Request:
    """One request on one connection."""

    __slots__ = (
        "_wire", "handed_over", "head", "headers", "method", "params", "path", "query", "raw_target", "response_headers", "version",
    )  # fmt: skip

    def __init__(self, head: Head, wire: Wire) -> None:
        self._wire = wire
        self.head = head
        self.method = head.method
        self.path = head.path
        """Decoded, without the query; a version prefix is still in it."""
        self.raw_target = head.raw_target
        self.query = head.query
        self.headers = head.headers
        self.version = ""
        """The API version it is answered in, set by the router."""
        self.params: dict[str, str] = {}
        """What the route's pattern found in the path, set by the router."""
        self.response_headers: dict[str, str] = {}
        """Fields that whatever answers this request carries, below its own."""
        self.handed_over = False
        """Whether the connection was given away: then nothing can be answered any more."""

    @property
    def disconnected(self) -> asyncio.Event:
        """Set when the client has gone, or has half-closed: for those who would otherwise work for nobody."""
        return self._wire.disconnected

    @property
    def peer(self) -> PeerCredentials | None:
        """Who is on the other end; None when it is not a unix socket."""
        return self._wire.peer()

    @property
    def remote(self) -> str:
        """The client's address, ``192.0.2.1:50000``; empty on a unix socket."""
        return self._wire.remote()

    async def body(self, limit_bytes: int) -> bytes:
        """The whole body. Raises InvalidParameter when it is larger or malformed, Cancelled when the client has gone."""
        pieces: list[bytes] = []
        size = 0
        while piece := await self._wire.read_body():
            size += len(piece)
            if size > limit_bytes:
                raise InvalidParameter("http: request body too large")
            pieces.append(piece)
        return b"".join(pieces)

    async def stream(self) -> AsyncIterator[bytes]:
        """The body piece by piece, as it comes; the client is held back while nobody reads. Raises as `body`."""
        while piece := await self._wire.read_body():
            yield piece

    async def hand_over(self, status: int, reason: str, headers: Mapping[str, str]) -> HandedOver:
        """Answer with this head alone, flush it, and give the connection away; the handler then returns None.

        What is left of the request's own body is read and dropped first. Raises Cancelled when the client has gone.
        """
        given = await self._wire.hand_over(render_head(status, {**self.response_headers, **headers}, reason=reason))
        self.handed_over = True
        return given


Reply = Response | StreamResponse | FileResponse | None
Handler = Callable[[Request], Awaitable[Reply]]
"""None: the connection was handed over."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and what became of it, for logs and metrics."""

    request: Request
    status: int
    body_bytes: int
    """Length of the answer's body; -1 where it was not known beforehand."""
    seconds: float
    complete: bool
    """False when the client was lost, or the answer cut short."""


Observer = Callable[[Exchange], None]
"""Called after each answer that was not handed over; must neither block nor raise."""
