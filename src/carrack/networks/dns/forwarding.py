"""Questions that the table does not answer, asked of the servers that the host (or the container's `--dns`) names.

A question is handed on as it came, its identifier replaced by a random one from a socket of its own, and the answer is handed back
as it came: only what that server sends to that port with that identifier and that question counts. Servers are tried in order.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import struct
from typing import cast

_TRY_SECONDS = 2.0
_RESOLV_CONF = "/etc/resolv.conf"
PENDING_LIMIT = 1024
"""Questions on their way at once: more are refused, so that no container can make us open sockets without end."""


class HostServers:
    """The nameservers of the host's resolv.conf, read again when the file changes."""

    def __init__(self, path: str = _RESOLV_CONF) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._servers: tuple[str, ...] = ()

    def get(self) -> tuple[str, ...]:
        try:
            status = os.stat(self._path)
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                with open(self._path, encoding="utf-8", errors="replace") as lines:
                    self._servers = tuple(
                        words[1] for words in map(str.split, lines) if len(words) > 1 and words[0] == "nameserver"
                    )
                self._stamp = stamp
        except OSError:
            self._servers = ()
        return self._servers


class _Exchange(asyncio.DatagramProtocol):
    def __init__(self, query: bytes, question: bytes, answer: asyncio.Future[bytes]) -> None:
        self._query = query
        self._question = question.lower()
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.DatagramTransport, transport).sendto(self._query)

    def datagram_received(self, data: bytes, addr: object) -> None:
        # The question that is repeated must be ours too: an identifier alone can be guessed.
        ours = data[:2] == self._query[:2] and data[12 : 12 + len(self._question)].lower() == self._question
        if ours and data[2] & 0x80 and not self._answer.done():
            self._answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc)


class Forwarder:
    """Asks other servers. Bound to the loop that it is used in."""

    def __init__(self, port: int = 53) -> None:
        self._port = port
        self._pending = 0

    async def ask(self, query: bytes, question: bytes, servers: tuple[str, ...]) -> bytes | None:
        """The first server's answer that is not a failure, with the asker's identifier; None when none answers in time."""
        if self._pending >= PENDING_LIMIT:
            return None
        self._pending += 1
        try:
            failure = None
            for server in servers:
                answer = await self._ask_one(query, question, server)
                if answer is not None and answer[3] & 0x0F != 2:  # SERVFAIL: the next may know better
                    return query[:2] + answer[2:]
                failure = failure or answer
            return query[:2] + failure[2:] if failure else None
        finally:
            self._pending -= 1

    async def _ask_one(self, query: bytes, question: bytes, server: str) -> bytes | None:
        loop = asyncio.get_running_loop()
        disguised = secrets.token_bytes(2) + query[2:]
        answer: asyncio.Future[bytes] = loop.create_future()
        try:
            asker = self._socket_to(server, socket.SOCK_DGRAM)
        except OSError:
            return None
        transport, _ = await loop.create_datagram_endpoint(lambda: _Exchange(disguised, question, answer), sock=asker)
        try:
            return await asyncio.wait_for(answer, _TRY_SECONDS)
        except (TimeoutError, OSError):
            return None
        finally:
            transport.close()

    def _socket_to(self, server: str, kind: int) -> socket.socket:
        """A socket that speaks to a server, of whichever IP version, scoped addresses included; one of streams is connecting still.

        The loop would resolve a scoped address in a thread, and the process that forks a spare has but one.
        """
        family, _, _, _, address = socket.getaddrinfo(server, self._port, type=kind, flags=socket.AI_NUMERICHOST)[0]
        asker = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        try:
            asker.connect(address)
        except BlockingIOError:
            pass
        except OSError:
            asker.close()
            raise
        return asker

    async def ask_by_stream(self, query: bytes, servers: tuple[str, ...]) -> bytes | None:
        """The same by TCP: for answers that are too long for a datagram."""
        for server in servers:
            try:
                async with asyncio.timeout(_TRY_SECONDS * 2):
                    reader, writer = await asyncio.open_connection(sock=await self._connected(server))
                    try:
                        writer.write(struct.pack(">H", len(query)) + query)
                        length = struct.unpack(">H", await reader.readexactly(2))[0]
                        return await reader.readexactly(length)
                    finally:
                        writer.close()
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                continue
        return None

    async def _connected(self, server: str) -> socket.socket:
        asker = self._socket_to(server, socket.SOCK_STREAM)
        loop = asyncio.get_running_loop()
        connected = asyncio.Event()
        loop.add_writer(asker, connected.set)
        try:
            try:
                await connected.wait()
            finally:
                loop.remove_writer(asker)
            if error := asker.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(error, os.strerror(error))
        except BaseException:
            asker.close()
            raise
        return asker
