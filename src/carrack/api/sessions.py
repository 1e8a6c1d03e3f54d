"""From a request to a session: the head that announces a raw or a chunked stream, then the connection itself.

A client of HTTP/1.0 cannot read chunks, so for it the daemon stays in between and takes the framing off.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import socket
import termios
from collections.abc import AsyncIterator

from carrack.engine.streams import Session
from carrack.errors import SystemFailure
from carrack.http import Reply, Request, StreamResponse
from carrack.http.framing import BrokenFraming, ChunkedBody, Inbox

RELAY_BYTES = 64 << 10
HASTY_CLIENT = "docker-sdk-python"
"""docker-py reads the head through a buffer and the stream past it: what comes in one segment with the head, it loses."""
HEAD_READ_SECONDS = 1.0
_POLL_SECONDS = 0.0005


async def give_raw(request: Request, session: Session, content_type: str) -> None:
    """Hand the connection over as a raw stream: 101 UPGRADED when the client asked for an upgrade, else 200."""
    if "upgrade" in request.headers:
        headers = {"Content-Type": content_type, "Connection": "Upgrade", "Upgrade": "tcp"}
        given = await request.hand_over(101, "UPGRADED", headers)
    else:
        given = await request.hand_over(200, "OK", {"Content-Type": "application/vnd.docker.raw-stream"})
    if request.headers.get("user-agent").startswith(HASTY_CLIENT):
        await _until_read(given.fd)
    await session.accept(given.fd, given.head, given.eof)


async def give_chunked(request: Request, session: Session, content_type: str) -> Reply:
    """Hand the connection over to a session that writes HTTP chunks; its head is flushed first."""
    if request.head.http_version == "1.0":
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        await session.accept(theirs.detach(), b"", False)
        return StreamResponse(200, _without_framing(ours), {"Content-Type": content_type}, endless=True)
    given = await request.hand_over(
        200, "OK", {"Content-Type": content_type, "Transfer-Encoding": "chunked", "Connection": "close"}
    )
    await session.accept(given.fd, given.head, given.eof)
    return None


async def _until_read(fd: int) -> None:
    """Wait, not for long, until a client on a unix socket has taken the head (unix(7), SIOCOUTQ); TCP cannot tell."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + HEAD_READ_SECONDS
    unread = array.array("i", [0])
    while loop.time() < deadline:
        fcntl.ioctl(fd, termios.TIOCOUTQ, unread)
        if unread[0] == 0:
            return
        await asyncio.sleep(_POLL_SECONDS)


async def _without_framing(source: socket.socket) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    inbox, body = Inbox(), ChunkedBody()
    try:
        while not body.finished:
            while (piece := body.next(inbox)) is not None:
                yield piece
            if body.finished:
                break
            arrived = await loop.sock_recv(source, RELAY_BYTES)
            if not arrived:
                break  # cut short, as it would be for a client of its own
            inbox.feed(arrived)
    except BrokenFraming as error:
        raise SystemFailure(f"a session wrote no valid chunks: {error.message}") from error
    finally:
        source.close()
