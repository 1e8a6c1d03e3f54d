"""One HTTP/1.1 connection: reads requests one after another, answers each before it looks at the next, and can be given away.

Law of this file: bytes past the request being answered stay unparsed in the inbox. So a pipeline is a queue bounded by the
inbox, and a connection can be handed over with every byte that belongs to its stream (all cases of a Docker hijack: with and
without Upgrade, with a body, with client bytes in the same segment, after an early half-close).

A half-close by the client is not its departure: the answer is still written. Departure is a lost connection, or on a unix
socket a peer that closed both directions. The transport below may be a plain socket of asyncio or uvloop, or a TLS layer; such a
layer offers `get_extra_info("relay")`, a function that gives one end of a socket pair whose other end it relays.
"""

from __future__ import annotations

import asyncio
import logging
import os
import select
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from carrack.errors import Cancelled, CarrackError, SystemFailure
from carrack.http.framing import Body, BrokenFraming, HeadTooLarge, Inbox
from carrack.http.head import Head, parse_head
from carrack.http.request import Exchange, HandedOver, Handler, Observer, PeerCredentials, Reply, Request
from carrack.http.response import FileResponse, Response, StreamResponse, date, has_no_body, render_head
from carrack.http.sending import Outgoing, credentials, send_file

log = logging.getLogger("carrack.http")

_SMALL_BYTES, _GATHERED_BYTES = 16 << 10, 128 << 10
DROPPED_BODY_LIMIT = 256 << 10
"""An unread body up to this size is read and dropped so that the connection can go on; beyond, it is closed."""
LINGER_SECONDS = 0.5
"""How long input is read and dropped after the last answer, so that a reset does not overtake it (RFC 9112 section 9.6)."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may take. Seconds of None: no limit."""

    head_bytes: int = 1 << 20
    unread_bytes: int = 1 << 20
    """Reading stops while this much is unread, and goes on below a quarter of it."""
    head_seconds: float | None = 60.0
    """From a request's first byte to the end of its head."""
    idle_seconds: float | None = 300.0
    """Between two requests."""
    body_seconds: float | None = None
    """Between two pieces of a body: None, because an upload may come from a program that thinks."""
    connections: int | None = None
    """How many a server keeps open; a further one is told 503 and closed."""


class Registry(Protocol):
    """Where connections are kept, so that a `Server` can count and close them."""

    closing: bool

    @property
    def connection_count(self) -> int: ...

    def add(self, connection: Connection) -> None:
        """A connection was accepted."""

    def discard(self, connection: Connection) -> None:
        """A connection has ended, or was given away."""


class Connection(asyncio.Protocol):
    """The protocol of one accepted connection, and the `Wire` of its requests."""

    def __init__(self, handler: Handler, limits: Limits, registry: Registry, observer: Observer | None = None) -> None:
        self._handler = handler
        self._observer = observer
        self._limits = limits
        self._registry = registry
        self._inbox = Inbox()
        self._eof = False
        self._lost = False
        self._given_away = False
        self._reading = True
        self._arrival: asyncio.Future[None] | None = None
        self._head: Head | None = None
        self._response_headers: Mapping[str, str] = {}
        self._continue_owed = False
        self._must_close = False
        self._stream: StreamResponse | None = None
        self.idle = True
        """Between two requests: may be closed without harm."""

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport = cast(asyncio.Transport, transport)
        self._out = Outgoing(self._transport, self._loop)
        self.disconnected = asyncio.Event()
        most = self._limits.connections
        self._is_one_too_many = most is not None and self._registry.connection_count >= most
        self._registry.add(self)
        self.task = self._loop.create_task(self._converse())

    def data_received(self, data: bytes) -> None:
        self._inbox.feed(data)
        if self._reading and self._inbox.size_bytes >= self._limits.unread_bytes:
            self._reading = False
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._eof = True
        self.disconnected.set()
        self._wake()
        if self._stream is not None and (self._stream.endless or self._peer_is_gone()):
            self.task.cancel()
        return not self._out.is_loop_encrypted

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = self._eof = True
        self.disconnected.set()
        self._out.lost()
        self._wake()
        if self._stream is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        self._out.pause()

    def resume_writing(self) -> None:
        self._out.resume()

    # What the server calls.

    def finish(self) -> None:
        """Close now when idle or when the answer has no end, else after the answer being given."""
        self._must_close = True
        if self.idle:
            self._transport.close()
        elif self._stream is not None and self._stream.endless:
            self.task.cancel()
        self._wake()

    def abort(self) -> None:
        """End it, whatever is going on."""
        self.task.cancel()
        if not self._given_away:
            self._transport.abort()

    # What requests call (Wire).

    async def read_body(self) -> bytes:
        body = self._current().body
        while True:
            piece = body.next(self._inbox)
            if piece is not None:
                if len(piece) < _SMALL_BYTES:
                    piece = self._gathered(piece, body)
                self._resume_below_mark()
                return piece
            if body.finished:
                return b""
            if self._continue_owed:
                self._continue_owed = False
                self._transport.write(CONTINUE)
            if self._lost:
                raise Cancelled("the client left")
            if self._eof:
                raise BrokenFraming("unexpected EOF")
            try:
                await self._more(self._limits.body_seconds)
            except TimeoutError:
                raise BrokenFraming("the request's body did not come in time") from None

    def _gathered(self, piece: bytes, body: Body) -> bytes:
        """A small piece and what has already come behind it: some clients send a tar in chunks of one block each."""
        pieces, size = [piece], len(piece)
        while size < _GATHERED_BYTES and (more := body.next(self._inbox)) is not None:
            pieces.append(more)
            size += len(more)
        return b"".join(pieces)

    async def hand_over(self, head: bytes) -> HandedOver:
        relay = cast("Callable[[], int] | None", self._transport.get_extra_info("relay"))
        if relay is None and self._out.is_encrypted:
            raise SystemFailure("a connection with the loop's own TLS cannot be handed over")
        if not await self._drop_body(self._limits.unread_bytes):
            raise BrokenFraming("the request's body is too large, or incomplete, for a connection that is to be handed over")
        self._transport.pause_reading()
        self._reading = False
        self._transport.write(head)
        if not await self._out.empty():
            raise Cancelled("the client left")
        fd = os.dup(self._out.fileno()) if relay is None else relay()
        os.set_blocking(fd, False)
        self._given_away = True
        if relay is None:
            self._transport.close()  # closes this descriptor only: the connection lives on in the other
        return HandedOver(fd, self._inbox.rest(), self._eof)

    def peer(self) -> PeerCredentials | None:
        found = credentials(self._transport)
        return None if found is None else PeerCredentials(*found)

    def remote(self) -> str:
        address = self._transport.get_extra_info("peername")
        return f"{address[0]}:{address[1]}" if isinstance(address, tuple) else ""

    # The conversation.

    async def _converse(self) -> None:
        try:
            if self._is_one_too_many:
                self._transport.write(render_head(503, {"Connection": "close", "Retry-After": "1", "Content-Length": "0"}))
                self._must_close = True
            while not self._must_close and (head := await self._next_head()) is not None:
                self.idle = False
                await self._exchange(head)
                if self._given_away:
                    return
                self.idle = True
            await self._part()
        except (HeadTooLarge, BrokenFraming) as error:
            await self._refuse(error)
        except Cancelled:
            self._transport.close()
        except asyncio.CancelledError:
            self._transport.abort()
        except CarrackError as error:
            log.warning("an answer was cut short: %s", error.message)
            self._transport.abort()
        except Exception:  # the task's root; a stream that failed ends here, and the client sees it cut short
            log.exception("a connection failed")
            self._transport.abort()
        finally:
            self._registry.discard(self)

    async def _next_head(self) -> Head | None:
        """The next request's head; None when the client sends no more, or not in time."""
        deadline: float | None = None
        while True:
            text = self._inbox.head(self._limits.head_bytes)
            if text is not None:
                return parse_head(text)
            if self._eof:
                return None
            seconds = self._limits.idle_seconds
            if self._inbox.size_bytes:
                if deadline is None and self._limits.head_seconds is not None:
                    deadline = self._loop.time() + self._limits.head_seconds
                seconds = None if deadline is None else deadline - self._loop.time()
            try:
                await self._more(seconds)
            except TimeoutError:
                return None

    async def _exchange(self, head: Head) -> None:
        started = self._loop.time()
        self._head = head
        request = Request(head, self)
        self._response_headers = request.response_headers
        self._continue_owed = head.expects_continue and not head.body.finished
        if "expect" in head.headers and not head.expects_continue and head.http_version == "1.1":
            reply: Reply = Response(417)
        else:
            reply = await self._ask(request)
        if reply is None:
            if not self._given_away:
                raise SystemFailure("a handler answered nothing and kept the connection")
            return
        if self._given_away:
            raise SystemFailure("a handler answered on a connection it had given away")
        if self._is_last(head):
            self._must_close = True
        complete = False
        try:
            await self._send(head, reply)
            complete = True
        finally:
            if self._observer is not None:
                seconds = self._loop.time() - started
                self._observer(Exchange(request, reply.status, _body_bytes(head, reply), seconds, complete))
        if not self._must_close and not await self._drop_body(DROPPED_BODY_LIMIT):
            self._must_close = True

    def _is_last(self, head: Head) -> bool:
        """Whether the connection cannot, or should not, carry another request after this answer."""
        unread = head.body.remaining_bytes
        return (
            not head.keep_alive
            or self._registry.closing
            or self._continue_owed  # the client may send its body or not: its next bytes cannot be understood
            or unread is None
            or unread > DROPPED_BODY_LIMIT
            or (self._eof and not self._inbox.size_bytes)
        )

    async def _ask(self, request: Request) -> Reply:
        try:
            return await self._handler(request)
        except CarrackError as error:
            if self._given_away:
                raise
            log.warning("%s %s: %s", request.method, request.path, error.message)
            self._must_close = self._must_close or isinstance(error, BrokenFraming)
            return Response(500, b"internal server error\n", {"Content-Type": "text/plain; charset=utf-8"})
        except Exception:  # the root of a request
            if self._given_away:
                raise
            log.exception("%s %s failed", request.method, request.path)
            return Response(500, b"internal server error\n", {"Content-Type": "text/plain; charset=utf-8"})

    async def _send(self, head: Head, reply: Response | StreamResponse | FileResponse) -> None:
        if isinstance(reply, Response):
            await self._send_whole(head, reply)
        elif isinstance(reply, FileResponse):
            try:
                self._write_head(head, reply.status, reply.headers, ("Content-Length", str(reply.length)))
                if head.method != "HEAD":
                    await self._send_file(reply)
            finally:
                os.close(reply.fd)
        else:
            await self._send_stream(head, reply)

    async def _send_file(self, reply: FileResponse) -> None:
        last = 1 if reply.before_last is not None and reply.length else 0
        await send_file(self._out, reply.fd, reply.offset, reply.length - last)
        if reply.before_last is not None:
            await reply.before_last()
        await send_file(self._out, reply.fd, reply.offset + reply.length - last, last)

    async def _send_whole(self, head: Head, reply: Response) -> None:
        framing = () if has_no_body(reply.status) or _has_length(reply.headers) else (("Content-Length", str(len(reply.body))),)
        body = b"" if head.method == "HEAD" or has_no_body(reply.status) else reply.body
        self._write_head(head, reply.status, reply.headers, *framing, body=body)
        await self._out.drain()

    async def _send_stream(self, head: Head, reply: StreamResponse) -> None:
        self._stream = reply
        try:
            if reply.endless and self._eof and self._peer_is_gone():
                raise Cancelled("the client left")
            chunked = head.http_version == "1.1" and not _has_length(reply.headers) and not has_no_body(reply.status)
            if not chunked and not _has_length(reply.headers):
                self._must_close = True
            self._write_head(head, reply.status, reply.headers, *((("Transfer-Encoding", "chunked"),) if chunked else ()))
            if head.method == "HEAD" or has_no_body(reply.status):
                return
            async for piece in reply.content:
                if piece:
                    self._transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n") if chunked else (piece,))
                    await self._out.drain()
            if chunked:
                self._transport.write(b"0\r\n\r\n")
            await self._out.drain()
        finally:
            self._stream = None
            close = getattr(reply.content, "aclose", None)
            if close is not None:
                await close()

    def _write_head(
        self, head: Head, status: int, headers: Mapping[str, str], *framing: tuple[str, str], body: bytes = b""
    ) -> None:
        lines = [("Date", date()), *framing]
        if self._must_close:
            lines.append(("Connection", "close"))
        elif head.http_version == "1.0":
            lines.append(("Connection", "keep-alive"))
        if self._response_headers:
            headers = {**self._response_headers, **headers}
        self._transport.write(render_head(status, headers, *lines) + body)

    async def _refuse(self, error: HeadTooLarge | BrokenFraming) -> None:
        status = 431 if isinstance(error, HeadTooLarge) else 400
        text = "400 Bad Request: " + error.message if isinstance(error, BrokenFraming) else "431 Request Header Fields Too Large"
        self._must_close = True
        body = text.encode("utf-8", "replace")
        headers = {"Content-Type": "text/plain; charset=utf-8", "Connection": "close", "Content-Length": str(len(body))}
        self._transport.write(render_head(status, headers) + body)
        try:
            await self._part()
        except Cancelled:
            self._transport.close()

    async def _part(self) -> None:
        """Close, but not before the client could read the last answer."""
        await self._out.drain()
        if not self._eof and not self._lost and not self._all_is_read():
            self._transport.write_eof()
            deadline = self._loop.time() + LINGER_SECONDS
            while not self._eof and (left := deadline - self._loop.time()) > 0:
                self._inbox.rest()
                try:
                    await self._more(left)
                except TimeoutError:
                    break
        self._transport.close()

    def _all_is_read(self) -> bool:
        """Whether nothing the client sent is unread, so that a plain close cannot reset the last answer."""
        return self._head is None or (self._head.body.finished and self._inbox.size_bytes == 0)

    async def _drop_body(self, limit_bytes: int) -> bool:
        """Read and drop what is left of the body; False when it is more than the limit, broken, or does not come."""
        body = self._current().body
        dropped = 0
        try:
            while not body.finished:
                piece = body.next(self._inbox)
                dropped += len(piece or b"")
                if dropped > limit_bytes or (self._eof and not piece and not body.finished):
                    return False
                if not piece and not body.finished:
                    await self._more(self._limits.head_seconds)
        except (BrokenFraming, TimeoutError):
            return False
        return True

    # Waiting.

    async def _more(self, seconds: float | None) -> None:
        """Wait until something arrived or ended. Raises TimeoutError."""
        if not self._reading and not self._eof:
            self._reading = True
            self._transport.resume_reading()
        self._arrival = self._loop.create_future()
        timer = None if seconds is None else self._loop.call_later(max(0.0, seconds), self._expire, self._arrival)
        try:
            await self._arrival
        finally:
            self._arrival = None
            if timer is not None:
                timer.cancel()

    @staticmethod
    def _expire(arrival: asyncio.Future[None]) -> None:
        if not arrival.done():
            arrival.set_exception(TimeoutError())

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _resume_below_mark(self) -> None:
        if not self._reading and not self._eof and self._inbox.size_bytes < self._limits.unread_bytes // 4:
            self._reading = True
            self._transport.resume_reading()

    def _current(self) -> Head:
        assert self._head is not None
        return self._head

    def _peer_is_gone(self) -> bool:
        """Whether both directions are shut: told by the kernel for unix sockets only."""
        poll = select.poll()
        poll.register(self._out.fileno(), 0)
        return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


def _body_bytes(head: Head, reply: Response | StreamResponse | FileResponse) -> int:
    if head.method == "HEAD":
        return 0
    if isinstance(reply, Response):
        return len(reply.body)
    return reply.length if isinstance(reply, FileResponse) else -1


def _has_length(headers: Mapping[str, str]) -> bool:
    return any(name.lower() == "content-length" for name in headers)
