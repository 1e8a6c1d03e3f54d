"""TLS below HTTP, with the half-close that asyncio's own TLS cannot do (RFC 8446 section 6.1).

A Docker client ends its standard input with close_notify and goes on reading; asyncio and uvloop then drop the connection, and
`echo x | docker --tlsverify run -i` loses its output. Here the TLS engine runs on memory buffers between two protocols: after
the client's close_notify the inner one hears `eof_received` and may still write.

A connection cannot be given away as a descriptor, for its keys live here: `get_extra_info("relay")` gives one end of a socket
pair instead, whose other end this layer relays, so such a stream ends with this process.
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, cast

log = logging.getLogger("carrack.http")

HANDSHAKE_SECONDS = 10.0
LINGER_SECONDS = 2.0
"""How long input is read and dropped after the last word, so that a reset does not overtake it."""
_READ_BYTES = 256 << 10
_WRITE_BYTES = 64 << 10
_RELAY_BUFFER_BYTES = 512 << 10
_HANDSHAKE_RECORD = 0x16
_PLAIN_ANSWER = (
    b"HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"Client sent an HTTP request to an HTTPS server.\n"
)

ProtocolFactory = Callable[[], asyncio.BaseProtocol]


def tls_below(context: ssl.SSLContext) -> Callable[[ProtocolFactory], ProtocolFactory]:
    """The `wrap` of `serve`: each connection shakes hands under `context` first; what is loaded into it later serves later ones."""

    def wrap(factory: ProtocolFactory) -> ProtocolFactory:
        return lambda: TlsLayer(context, factory)

    return wrap


class TlsLayer(asyncio.Protocol):
    """The protocol of the socket; the transport of the protocol inside is `Sealed`."""

    def __init__(self, context: ssl.SSLContext, factory: ProtocolFactory) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._factory = factory
        self._inner: asyncio.Protocol | None = None
        self._relay: _Relay | None = None
        self._agreed = False
        self._parting = False
        self._said_goodbye = False
        self._heard_goodbye = False
        self._held = b""
        self.reading = True
        """Whether the protocol inside wants to be fed."""

    # What the socket's transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._loop = asyncio.get_running_loop()
        self.below = cast(asyncio.Transport, transport)
        self._timer = self._loop.call_later(HANDSHAKE_SECONDS, self._fail, "no handshake within 10 s")

    def data_received(self, data: bytes) -> None:
        if self._parting:
            return
        if not self._agreed and data[0] != _HANDSHAKE_RECORD and not self._incoming.pending and self._is_plain(data):
            self._fail("plain HTTP", _PLAIN_ANSWER)
            return
        self._incoming.write(data)
        if self._agreed or self._shake_hands():
            self.feed()

    def eof_received(self) -> bool:
        if self._parting or not self._agreed:
            self.below.close()
            return False
        if not self._heard_goodbye:  # cut off: this is no orderly end, so nothing inside may take it for one
            self.below.abort()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._timer.cancel()
        self._parting = True
        if self._relay is not None:
            self._relay.close()
        elif self._inner is not None:
            self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        if self._relay is not None:
            self._relay.pause()
        elif self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._relay is not None:
            self._relay.resume()
        elif self._inner is not None:
            self._inner.resume_writing()

    # What the transport inside, or the relay, calls.

    def feed(self) -> None:
        """Decrypt what is there and hand it inside, until it wants no more."""
        while self.reading and not self._heard_goodbye and not self._parting:
            try:
                piece = self._next()
            except ssl.SSLWantReadError:
                self.flush()
                return
            except ssl.SSLError as error:
                self._fail(str(error))
                return
            if piece:
                self._hand_inside(piece)
            else:
                self._heard_goodbye = True
                self._end_inside()

    def seal(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._tls.write(view[:_WRITE_BYTES]) :]
        except ssl.SSLError as error:
            self._fail(str(error))
        self.flush()

    def say_goodbye(self) -> None:
        """Send close_notify, once; the client's own may come later or never."""
        if not self._said_goodbye:
            self._said_goodbye = True
            try:
                while piece := self._tls.read(_READ_BYTES):  # OpenSSL's shutdown looks for an answer, and loses what it finds
                    self._held += piece
            except ssl.SSLError:
                pass
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass
            self.flush()

    def flush(self) -> None:
        """Write what the engine has to say."""
        data = self._outgoing.read()
        if data and not self.below.is_closing():
            self.below.write(data)

    def start_relay(self) -> int:
        """Give one end of a socket pair, to be closed by the receiver, and from now on copy between the other and the client."""
        ours, theirs = socket.socketpair()
        self._inner = None
        self.reading = False
        self._relay = _Relay(self, ended=self._heard_goodbye)
        self._relay.task = self._loop.create_task(self._relay.run(ours))
        return theirs.detach()

    def part(self) -> None:
        """Close after the last bytes, reading and dropping for a moment so that they arrive."""
        if self._parting:
            return
        self._parting = True
        self._timer.cancel()
        self.say_goodbye()
        if self.below.is_closing():
            return
        try:
            self.below.write_eof()
        except (OSError, RuntimeError):
            pass
        self.below.resume_reading()
        self._timer = self._loop.call_later(LINGER_SECONDS, self.below.close)

    # Inside.

    def _is_plain(self, data: bytes) -> bool:
        return data[:1].isalpha() or data[:1] in b"\r\n"

    def _shake_hands(self) -> bool:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self.flush()
            return False
        except ssl.SSLError as error:
            self._fail(error.reason or str(error))
            return False
        self._timer.cancel()
        self.flush()
        self._agreed = True
        self._inner = cast(asyncio.Protocol, self._factory())
        self._inner.connection_made(Sealed(self))
        return True

    def _next(self) -> bytes:
        """The next decrypted bytes, empty at the client's close_notify. Raises ssl.SSLError."""
        if self._held:
            piece, self._held = self._held, b""
            return piece
        try:
            return self._tls.read(_READ_BYTES)
        except ssl.SSLZeroReturnError:
            return b""

    def _hand_inside(self, piece: bytes) -> None:
        if self._relay is not None:
            self._relay.give(piece)
        elif self._inner is not None:
            self._inner.data_received(piece)

    def _end_inside(self) -> None:
        if self._relay is not None:
            self._relay.end()
        elif self._inner is not None and not self._inner.eof_received():
            self.part()

    def _fail(self, why: str, answer: bytes = b"") -> None:
        if self._parting:
            return
        address = self.below.get_extra_info("peername")
        log.info("TLS error with %s: %s", f"{address[0]}:{address[1]}" if isinstance(address, tuple) else "a client", why)
        if self._agreed:
            self.flush()
            self.below.abort()
            return
        self._said_goodbye = True
        self.flush()  # the alert that tells the client why
        if answer:
            self.below.write(answer)
        self.part()


class Sealed(asyncio.Transport):
    """The transport of the protocol inside: what it writes leaves encrypted, through the same buffer as the socket's."""

    def __init__(self, layer: TlsLayer) -> None:
        super().__init__()
        self._layer = layer
        self._closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "relay":
            return self._layer.start_relay
        return default if name == "sslcontext" else self._layer.below.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_closing():
            self._layer.seal(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._layer.say_goodbye()

    def pause_reading(self) -> None:
        self._layer.reading = False
        if not self.is_closing():
            self._layer.below.pause_reading()

    def resume_reading(self) -> None:
        self._layer.reading = True
        if not self.is_closing():
            self._layer.below.resume_reading()
            asyncio.get_running_loop().call_soon(self._layer.feed)

    def is_reading(self) -> bool:
        return self._layer.reading

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._layer.below.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return self._layer.below.get_write_buffer_size()

    def is_closing(self) -> bool:
        return self._closing or self._layer.below.is_closing()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._layer.say_goodbye()
            self._layer.below.close()

    def abort(self) -> None:
        self._closing = True
        self._layer.below.abort()


class _Relay(asyncio.Protocol):
    """Our end of the pair whose other end was given away. Each side is held back while the other does not read."""

    task: asyncio.Task[None]

    def __init__(self, layer: TlsLayer, *, ended: bool) -> None:
        self._layer = layer
        self._ended = ended
        self._transport: asyncio.Transport | None = None

    async def run(self, ours: socket.socket) -> None:
        """Join the pair's end to the loop; then let the client's bytes in."""
        ours.setblocking(False)
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)

    # What the pair's transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_RELAY_BUFFER_BYTES)
        if self._layer.below.is_closing():
            self._transport.close()
        elif self._ended:
            self._transport.write_eof()
        else:
            self.resume_writing()

    def data_received(self, data: bytes) -> None:
        if not self._layer.below.is_closing():
            self._layer.seal(data)

    def eof_received(self) -> bool:
        if self._other_end_is_closed():
            self._layer.part()
            return False
        self._layer.say_goodbye()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._layer.part()

    def pause_writing(self) -> None:
        self._layer.reading = False
        self._layer.below.pause_reading()

    def resume_writing(self) -> None:
        self._layer.reading = True
        if not self._layer.below.is_closing():
            self._layer.below.resume_reading()
            self._layer.feed()

    # What the layer calls.

    def give(self, piece: bytes) -> None:
        if self._transport is not None:
            self._transport.write(piece)

    def end(self) -> None:
        self._ended = True
        if self._transport is not None:
            self._transport.write_eof()

    def pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _other_end_is_closed(self) -> bool:
        """An end of a pair that was closed shows POLLHUP; one that only stopped writing does not."""
        assert self._transport is not None
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), 0)
        return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))
