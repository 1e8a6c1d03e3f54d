"""Accepts connections on a listening socket and closes them with grace.

`wrap` is the room for a layer between socket and HTTP (TLS): it gets the factory of HTTP connections and answers with a factory
of its own, whose protocols feed the inner one through a transport they provide.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

from carrack.http.connection import Connection, Limits
from carrack.http.request import Handler, Observer

BACKLOG = 4096
"""Connections the kernel keeps waiting: a full queue refuses a unix socket's client at once (EAGAIN)."""

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


class Server:
    """One listener and its connections."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._accepting: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._all_gone = asyncio.Event()
        self._all_gone.set()
        self.closing = False

    def add(self, connection: Connection) -> None:
        """Keep a connection, to be closed with the server."""
        self._connections.add(connection)
        self._all_gone.clear()

    def discard(self, connection: Connection) -> None:
        """Forget a connection that has ended or was given away."""
        self._connections.discard(connection)
        if not self._connections:
            self._all_gone.set()

    @property
    def connection_count(self) -> int:
        """Connections that are open and were not handed over."""
        return len(self._connections)

    async def accept(self, factory: ProtocolFactory, context: ssl.SSLContext | None = None) -> None:
        """Begin to accept connections; `context` is the loop's own TLS."""
        loop = asyncio.get_running_loop()
        if self._listener.family == socket.AF_UNIX:
            self._accepting = await loop.create_unix_server(factory, sock=self._listener, ssl=context, backlog=BACKLOG)
        else:
            self._accepting = await loop.create_server(factory, sock=self._listener, ssl=context, backlog=BACKLOG)

    async def close(self, grace_seconds: float = 0.0) -> None:
        """Accept no more, close idle connections, let answers be finished for so long, then end what is left."""
        self.closing = True
        if self._accepting is not None:
            self._accepting.close()
        for connection in tuple(self._connections):
            connection.finish()
        try:
            await asyncio.wait_for(self._all_gone.wait(), grace_seconds)
        except TimeoutError:
            left = tuple(self._connections)
            for connection in left:
                connection.abort()
            await asyncio.gather(*(connection.task for connection in left), return_exceptions=True)


async def serve(
    handler: Handler,
    listener: socket.socket,
    *,
    limits: Limits | None = None,
    wrap: Callable[[ProtocolFactory], ProtocolFactory] | None = None,
    tls: ssl.SSLContext | None = None,
    observer: Observer | None = None,
) -> Server:
    """Answer every request on the listener with the handler. The listener, already bound and listening, becomes the server's.

    `tls` is the loop's own TLS: whole requests and answers, as a registry needs; a hijacked stream with half-closes needs `wrap`.
    """
    server = Server(listener)
    bounds = limits or Limits()

    def factory() -> Connection:
        return Connection(handler, bounds, server, observer)

    listener.setblocking(False)
    await server.accept(wrap(factory) if wrap is not None else factory, tls)
    return server
