"""ssh agents of a client, lent to its build.

The daemon listens on a socket of its own, which a RUN step finds where its ssh mount says. For each connection that a step makes,
one of those that the client keeps waiting here is taken (or one is made, where the client can be asked), and bytes go both ways. No
key ever comes to this host.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

_WAIT_SECONDS = 20.0
_PIECE_BYTES = 64 << 10


class AgentDoor:
    """One agent: the socket at `path` on this side, the client's waiting connections on the other."""

    def __init__(self, path: Path, reach: Callable[[], Awaitable[int]] | None = None) -> None:
        """`reach` makes a connection when one is needed; without it the client's `offer`s are taken."""
        self.path = path
        self._reach = reach
        self._waiting: asyncio.Queue[int] = asyncio.Queue()
        self._server: asyncio.AbstractServer | None = None
        self._relays: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen. Raises OSError."""
        self.path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, str(self.path))
        self.path.chmod(0o600)

    def offer(self, fd: int) -> None:
        """Take over a connection of the client, for the next one that a step makes."""
        self._waiting.put_nowait(fd)

    async def close(self) -> None:
        """End everything. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for relay in list(self._relays):
            relay.cancel()
        while not self._waiting.empty():
            os.close(self._waiting.get_nowait())
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        try:
            fd = await asyncio.wait_for((self._reach or self._waiting.get)(), _WAIT_SECONDS)
            client = socket.socket(fileno=fd)
            client.setblocking(False)
            their_reader, their_writer = await asyncio.open_connection(sock=client)
            try:
                await asyncio.gather(_copy(reader, their_writer), _copy(their_reader, writer))
            finally:
                their_writer.close()
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            self._relays.discard(task)
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
