"""A WebSocket (RFC 6455) on a connection that the server gave away: the handshake is ours, the frames are wsproto's.

Imported by the first request that wants one. A page in a browser may connect to any address it can reach, with the user's own
rights: a handshake whose Origin is another host than the one asked is therefore refused.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import socket
from urllib.parse import urlsplit

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from carrack.errors import Forbidden, InvalidParameter
from carrack.http.request import Request

READ_BYTES = 64 << 10
GOODBYE_SECONDS = 2.0
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CLOSE_NORMAL = 1000


class WebSocket:
    """One open WebSocket. Messages are bytes both ways; what a message was cut into does not show."""

    def __init__(self, connection: socket.socket, head: bytes, *, binary: bool) -> None:
        self._socket = connection
        self._frames = Connection(ConnectionType.SERVER, trailing_data=head)
        self._binary = binary
        self._loop = asyncio.get_running_loop()
        self._sending = asyncio.Lock()
        self._pending: list[bytes] = []
        self._over = False

    async def receive(self) -> bytes | None:
        """The next bytes from the client; None when it has closed, or left. Pings are answered on the way."""
        while not self._pending and not self._over:
            await self._digest()
            if self._pending or self._over:
                break
            try:
                arrived = await self._loop.sock_recv(self._socket, READ_BYTES)
            except OSError:
                arrived = b""
            if not arrived:
                self._over = True
                break
            self._frames.receive_data(arrived)
        return self._pending.pop(0) if self._pending else None

    async def send(self, content: bytes) -> None:
        """One message to the client; waits while it does not read. Raises OSError when it has gone."""
        event = BytesMessage(data=content) if self._binary else TextMessage(data=content.decode("utf-8", "replace"))
        try:
            await self._write(self._frames.send(event))
        except LocalProtocolError as error:
            raise ConnectionResetError("the websocket is closed") from error

    async def close(self) -> None:
        """Say goodbye, wait a moment for the other's, and close the connection (RFC 6455 section 7.1.1)."""
        try:
            is_first = self._frames.state is ConnectionState.OPEN
            if is_first or self._frames.state is ConnectionState.REMOTE_CLOSING:
                await self._write(self._frames.send(CloseConnection(code=_CLOSE_NORMAL)))
            if is_first:
                await asyncio.wait_for(self._until_their_goodbye(), GOODBYE_SECONDS)
        except (OSError, LocalProtocolError, TimeoutError):
            pass
        finally:
            self._socket.close()

    async def _until_their_goodbye(self) -> None:
        while not self._over:
            self._pending.clear()
            if await self.receive() is None:
                return

    async def _digest(self) -> None:
        try:
            for event in self._frames.events():
                if isinstance(event, BytesMessage):
                    self._pending.append(bytes(event.data))
                elif isinstance(event, TextMessage):
                    self._pending.append(event.data.encode())
                elif isinstance(event, Ping):
                    await self._write(self._frames.send(event.response()))
                elif isinstance(event, CloseConnection):
                    self._over = True
                    return
        except (RemoteProtocolError, LocalProtocolError, OSError):
            self._over = True

    async def _write(self, content: bytes) -> None:
        async with self._sending:
            await self._loop.sock_sendall(self._socket, content)


async def accept(request: Request, *, binary: bool = True) -> WebSocket:
    """Answer the handshake and take the connection. Raises InvalidParameter, Forbidden, Cancelled."""
    key = _check(request)
    token = base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()  # noqa: S324  # RFC 6455
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Accept": token}
    given = await request.hand_over(101, "Switching Protocols", headers)
    return WebSocket(socket.socket(fileno=given.fd), given.head, binary=binary)


def _check(request: Request) -> str:
    """The handshake's key (RFC 6455 section 4.2.1)."""
    headers = request.headers
    if "websocket" not in headers.tokens("upgrade") or "upgrade" not in headers.tokens("connection"):
        raise InvalidParameter("not a websocket handshake: want Connection: Upgrade and Upgrade: websocket")
    if headers.get("sec-websocket-version") != "13":
        raise InvalidParameter("unsupported websocket version: want 13")
    key = headers.get("sec-websocket-key")
    try:
        if len(base64.b64decode(key, validate=True)) != 16:
            raise binascii.Error
    except binascii.Error:
        raise InvalidParameter("missing or malformed Sec-WebSocket-Key") from None
    origin = headers.get("origin")
    if origin and urlsplit(origin).netloc.lower() != headers.get("host").lower():
        raise Forbidden(f"websocket from another origin: {origin}")
    return key
