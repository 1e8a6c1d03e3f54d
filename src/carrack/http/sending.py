"""The way out of a connection: waiting for a slow reader, waiting until all is in the kernel, and files sent by sendfile(2)."""

from __future__ import annotations

import asyncio
import os
import socket
import struct

from carrack.errors import Cancelled

WRITE_BUFFER_BYTES = 256 << 10
"""What one slow reader may keep in our memory."""
SENDFILE_BYTES = 512 << 10
"""One sendfile(2) call: short enough that a cold disk does not stop the loop for long."""


class Outgoing:
    """The writing half of a transport."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._paused = False
        self._is_lost = False
        self._waiter: asyncio.Future[None] | None = None
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        """The transport takes data again."""
        self._paused = False
        self._wake()

    def lost(self) -> None:
        """The transport is gone: nobody waits for it any more."""
        self._is_lost = True
        self._wake()

    @property
    def is_encrypted(self) -> bool:
        """Whether the socket below carries TLS, so that nothing may be written past the transport."""
        return self.is_loop_encrypted or self._transport.get_extra_info("relay") is not None

    @property
    def is_loop_encrypted(self) -> bool:
        """Whether that TLS is the loop's own, which cannot stay half open."""
        return self._transport.get_extra_info("sslcontext") is not None

    def write(self, piece: bytes) -> None:
        self._transport.write(piece)

    async def drain(self) -> None:
        """Wait until there is room to write. Raises Cancelled when the client is gone."""
        if self._is_lost:
            raise Cancelled("the client left")
        if self._paused:
            await self._wait()

    async def empty(self) -> bool:
        """Wait until every byte is in the kernel; False when the connection was lost instead."""
        if not self._is_lost and self._transport.get_write_buffer_size():
            self._transport.set_write_buffer_limits(high=0)
            try:
                self._paused = self._paused or self._transport.get_write_buffer_size() > 0
                while self._transport.get_write_buffer_size() and not self._is_lost:
                    await self._wait()
            except Cancelled:
                return False
            finally:
                if not self._is_lost:
                    self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        # a write that failed closes the transport at once, and tells of it in the next round of the loop
        return not self._is_lost and not self._transport.is_closing()

    def fileno(self) -> int:
        """The descriptor of the socket below."""
        return file_descriptor(self._transport)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if self._is_lost:
            raise Cancelled("the client left")

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def send_file(out: Outgoing, file_fd: int, offset: int, length: int) -> None:
    """Send a stretch of a file past the transport, once that has nothing left. Raises Cancelled; OSError when the file is short."""
    if out.is_encrypted:
        await _send_through(out, file_fd, offset, length)
        return
    if not await out.empty():
        raise Cancelled("the client left")
    loop = asyncio.get_running_loop()
    # A descriptor of our own: the loop refuses to watch one that a transport uses, and the transport may close under us.
    socket_fd = os.dup(out.fileno())
    try:
        end = offset + length
        while offset < end:
            try:
                sent = os.sendfile(socket_fd, file_fd, offset, min(SENDFILE_BYTES, end - offset))
            except BlockingIOError:
                await _writable(loop, socket_fd)
                continue
            except ConnectionError as error:
                raise Cancelled("the client left") from error
            if sent == 0:
                raise OSError(f"file ends {end - offset} bytes before the length that was announced")
            offset += sent
            await asyncio.sleep(0)
    finally:
        os.close(socket_fd)


async def _send_through(out: Outgoing, file_fd: int, offset: int, length: int) -> None:
    """The same where the kernel cannot do it, because the bytes leave encrypted."""
    loop = asyncio.get_running_loop()
    while length:
        piece = await loop.run_in_executor(None, os.pread, file_fd, min(WRITE_BUFFER_BYTES, length), offset)
        if not piece:
            raise OSError(f"file ends {length} bytes before the length that was announced")
        out.write(piece)
        await out.drain()
        offset += len(piece)
        length -= len(piece)


async def _writable(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    ready = asyncio.Event()
    loop.add_writer(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(fd)


def file_descriptor(transport: asyncio.BaseTransport) -> int:
    """The descriptor of a transport's socket; asyncio and uvloop wrap it differently."""
    fd: int = transport.get_extra_info("socket").fileno()
    return fd


_UCRED = struct.Struct("3i")


def credentials(transport: asyncio.BaseTransport) -> tuple[int, int, int] | None:
    """Pid, uid and gid of the peer of a unix socket (SO_PEERCRED); None for other sockets."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family != socket.AF_UNIX:
        return None
    # uvloop's socket object refuses getsockopt
    with socket.socket(fileno=os.dup(sock.fileno())) as own:
        return _UCRED.unpack(own.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
