"""GET /containers/{id}/attach/ws: a container's streams for a page in a browser, both outputs in one, without frames.

The daemon stays in between, for a shim does not speak WebSocket: such a stream ends with the daemon, and the container does not.
"""

from __future__ import annotations

import asyncio
import socket

from carrack.api.versions import at_least
from carrack.engine.streams import MULTIPLEXED, AttachOptions, Session
from carrack.http import Request
from carrack.http.websocket import READ_BYTES, WebSocket, accept

_HEADER_BYTES = 8
_relays: set[asyncio.Task[None]] = set()


def options(request: Request) -> AttachOptions:
    """What is attached: before 1.42 everything, since then what the query names."""
    query = request.query
    named = at_least(request.version, "1.42")
    return AttachOptions(
        stdin=query.flag("stdin") or not named,
        stdout=query.flag("stdout") or not named,
        stderr=query.flag("stderr") or not named,
        logs=query.flag("logs"),
        stream=query.flag("stream"),
        detach_keys=query.get("detachKeys"),
    )


async def serve(request: Request, session: Session) -> None:
    """Take the connection as a WebSocket and join it with the session; returns while they talk."""
    web = await accept(request, binary=at_least(request.version, "1.28"))
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    relay = asyncio.create_task(_relay(web, ours, Unframed() if session.content_type == MULTIPLEXED else None))
    _relays.add(relay)
    relay.add_done_callback(_relays.discard)
    await session.accept(theirs.detach(), b"", False)


class Unframed:
    """Takes the frames off a multiplexed stream, however the bytes arrive."""

    def __init__(self) -> None:
        self._header = b""
        self._remaining = 0

    def feed(self, arrived: bytes) -> bytes:
        """What was inside."""
        found = []
        while arrived:
            if self._remaining:
                found.append(arrived[: self._remaining])
                arrived = arrived[self._remaining :]
                self._remaining -= len(found[-1])
                continue
            missing = _HEADER_BYTES - len(self._header)
            self._header, arrived = self._header + arrived[:missing], arrived[missing:]
            if len(self._header) == _HEADER_BYTES:
                self._remaining = int.from_bytes(self._header[4:], "big")
                self._header = b""
        return b"".join(found)


async def _relay(web: WebSocket, stream: socket.socket, frames: Unframed | None) -> None:
    """Until the container's side ends, or the client's does."""
    inward = asyncio.create_task(_inward(web, stream))
    outward = asyncio.create_task(_outward(web, stream, frames))
    try:
        # a websocket has no half-close: a client that closed reads no more
        await asyncio.wait((inward, outward), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (inward, outward):
            task.cancel()
        await asyncio.gather(inward, outward, return_exceptions=True)
        stream.close()
        await web.close()


async def _inward(web: WebSocket, stream: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        while (content := await web.receive()) is not None:
            await loop.sock_sendall(stream, content)
        stream.shutdown(socket.SHUT_WR)
    except OSError:
        pass


async def _outward(web: WebSocket, stream: socket.socket, frames: Unframed | None) -> None:
    loop = asyncio.get_running_loop()
    try:
        while arrived := await loop.sock_recv(stream, READ_BYTES):
            content = arrived if frames is None else frames.feed(arrived)
            if content:
                await web.send(content)
    except OSError:
        pass
