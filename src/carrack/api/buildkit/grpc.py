"""gRPC on a connection that was handed over: this side serves (`/grpc`), or calls what the client serves (`/session`).

The only file that knows grpclib, and the only one that touches names of it that are not public: it has no public way to take over a
connection. What a peer sends is bounded here: a message by `MESSAGE_LIMIT_BYTES`, what is unread by HTTP/2's windows.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from google.protobuf.message import DecodeError, Message
from grpclib.client import Channel
from grpclib.client import Stream as ClientStream
from grpclib.const import Cardinality, Handler, Status
from grpclib.encoding.base import StatusDetailsCodecBase
from grpclib.encoding.proto import ProtoCodec
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from grpclib.protocol import H2Protocol
from grpclib.server import Server
from grpclib.server import Stream as ServerStream
from multidict import MultiDict

from carrack.api.buildkit.wire.buildkit_pb2 import Failure
from carrack.errors import Cancelled, CarrackError, Unavailable
from carrack.http.request import HandedOver

__all__ = [
    "Call",
    "ClientStream",
    "GRPCError",
    "Method",
    "Peer",
    "ServerStream",
    "Serving",
    "Status",
    "check_end",
    "conversation",
    "interrupt",
    "metadata_of",
    "unary",
    "updates",
]

log = logging.getLogger("carrack.buildkit")
for _name in ("hpack", "h2", "grpclib"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # every header of every call, otherwise

MESSAGE_LIMIT_BYTES = 16 << 20
"""What Go's side takes at most, too (containerd's default)."""

Sent = TypeVar("Sent", bound=Message)
Received = TypeVar("Received", bound=Message)
Call = Mapping[str, Sequence[str]]
"""A call's metadata."""


class Method(Generic[Received, Sent]):
    """One method that is served: with `serve(stream)` the whole conversation, in protobuf messages of these types."""

    def __init__(
        self,
        serve: Callable[[ServerStream[Received, Sent]], Awaitable[None]],
        received: type[Received],
        sent: type[Sent],
        cardinality: Cardinality,
    ) -> None:
        self.serve = serve
        self.received = received
        self.sent = sent
        self.cardinality = cardinality


def unary(
    answer: Callable[[Received, Call], Awaitable[Sent]], received: type[Received], sent: type[Sent]
) -> Method[Received, Sent]:
    """A method of one message and one answer."""

    async def serve(stream: ServerStream[Received, Sent]) -> None:
        message = await stream.recv_message()
        if message is None:
            raise GRPCError(Status.INVALID_ARGUMENT, "a message is missing")
        await stream.send_message(await answer(message, metadata_of(stream.metadata)))

    return Method(serve, received, sent, Cardinality.UNARY_UNARY)


def updates(
    answer: Callable[[Received, Call], AsyncIterator[Sent]], received: type[Received], sent: type[Sent]
) -> Method[Received, Sent]:
    """A method of one message and many answers."""

    async def serve(stream: ServerStream[Received, Sent]) -> None:
        message = await stream.recv_message()
        if message is None:
            raise GRPCError(Status.INVALID_ARGUMENT, "a message is missing")
        async for each in answer(message, metadata_of(stream.metadata)):
            await stream.send_message(each)

    return Method(serve, received, sent, Cardinality.UNARY_STREAM)


def conversation(
    serve: Callable[[ServerStream[Received, Sent]], Awaitable[None]], received: type[Received], sent: type[Sent]
) -> Method[Received, Sent]:
    """A method in which both sides send as they like."""
    return Method(serve, received, sent, Cardinality.STREAM_STREAM)


class Serving:
    """The methods that a client may call, on as many connections as come."""

    def __init__(self, methods: Mapping[str, Method[Any, Any]], failure: Callable[[CarrackError], GRPCError]) -> None:
        """`methods` by path; `failure` says what a client is told of one."""
        self._failure = failure
        handlers = {
            path: Handler(self._guarded(method), method.cardinality, method.received, method.sent)
            for path, method in methods.items()
        }
        self._server = Server([], codec=ProtoCodec(), status_details_codec=_Details())
        self._server._mapping = _Methods(handlers)

    async def serve(self, given: HandedOver) -> None:
        """Answer on a connection until it ends; what goes on then is cancelled, and waited for."""
        protocol = self._server._protocol_factory()
        try:
            await _on(given, protocol)
        finally:
            handler: Any = protocol.handler
            handler.close()
            await handler.wait_closed()

    def _guarded(self, method: Method[Any, Any]) -> Callable[[ServerStream[Any, Any]], Awaitable[None]]:
        async def serve(stream: ServerStream[Any, Any]) -> None:
            _bound(stream._stream)
            try:
                await method.serve(stream)
            except CarrackError as error:
                raise self._failure(error) from error
            except DecodeError as error:
                raise GRPCError(Status.INVALID_ARGUMENT, "malformed message") from error

        return serve


class Peer:
    """What a client serves on a connection of its own."""

    def __init__(self) -> None:
        self._channel = _Channel(codec=ProtoCodec())
        self.gone = asyncio.Event()
        self.is_ready = False

    async def attend(self, given: HandedOver, ready: Callable[[], None]) -> None:
        """Speak on a connection until it ends, `ready` being called when calls can be made."""
        protocol = self._channel._protocol_factory()

        def made() -> None:
            self._channel._protocol = protocol
            self.is_ready = True
            ready()

        try:
            await _on(given, protocol, made)
        finally:
            self.is_ready = False
            self.gone.set()
            self._channel.close()

    async def call(
        self, path: str, message: Message, answer: type[Received], metadata: Mapping[str, Sequence[str]] | None = None
    ) -> Received:
        """One message, one answer. Raises GRPCError, Cancelled when the client has gone."""
        async with self.open(path, type(message), answer, metadata, Cardinality.UNARY_UNARY) as stream:
            await stream.send_message(message, end=True)
            received = await stream.recv_message()
        if received is None:
            raise Unavailable(f"the client gave no answer to {path}")
        return received

    @asynccontextmanager
    async def open(
        self,
        path: str,
        sent: type[Sent],
        received: type[Received],
        metadata: Mapping[str, Sequence[str]] | None = None,
        cardinality: Cardinality = Cardinality.STREAM_STREAM,
    ) -> AsyncIterator[ClientStream[Sent, Received]]:
        """A conversation. Raises GRPCError, Cancelled when the client has gone."""
        if self.gone.is_set():
            raise Cancelled("the client has left its session")
        fields: MultiDict[str] = MultiDict([(name, value) for name, values in (metadata or {}).items() for value in values])
        try:
            async with self._channel.request(path, cardinality, sent, received, metadata=fields) as stream:
                await stream.send_request()
                _bound(stream._stream)
                try:
                    yield stream
                except BaseException:
                    interrupt(stream)  # whoever else waits in it must not wait for ever
                    raise
        except (StreamTerminatedError, ProtocolError, ConnectionError, AssertionError) as error:
            raise Cancelled(f"the client has left its session: {error}") from error
        except DecodeError as error:
            raise Unavailable(f"the client sent a malformed message in {path}") from error


class _Channel(Channel):
    async def _create_connection(self) -> H2Protocol:
        raise ConnectionError("a session has one connection")


class _Methods(dict[str, Handler]):
    """Methods by path; one that there is not is refused in a form that Go's side understands, unlike grpclib's own."""

    def get(self, path: str, default: Any = None) -> Any:
        return super().get(path, _NO_SUCH_METHOD)


async def _refuse(stream: ServerStream[Any, Any]) -> None:
    raise GRPCError(Status.UNIMPLEMENTED, "this builder has no such method")


_NO_SUCH_METHOD = Handler(_refuse, Cardinality.UNARY_STREAM, Message, Message)


class _Details(StatusDetailsCodecBase):
    """BuildKit's details of a failure; those that a client sends are not read."""

    def encode(self, status: Status, message: str | None, details: Any) -> bytes:
        return Failure(code=status.value, message=message or "", details=details or ()).SerializeToString()

    def decode(self, status: Status, message: str | None, data: bytes) -> Any:
        return None


class _Lifetime(asyncio.Protocol):
    """grpclib's protocol, fed first with what had come with the request's head; `ended` is set when the connection is."""

    def __init__(self, inner: H2Protocol, head: bytes, made: Callable[[], None]) -> None:
        self._inner = inner
        self._head = head
        self._made = made
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._inner.connection_made(transport)
        if self._head:
            self.data_received(self._head)
        self._made()

    def data_received(self, data: bytes) -> None:
        try:
            self._inner.data_received(data)
        except Exception as error:  # noqa: BLE001 (a frame that grpclib does not know: this connection's end, and nobody else's)
            log.warning("a client's HTTP/2 cannot be understood: %s: %s", type(error).__name__, error)
            self.transport.close()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._inner.connection_lost(error)
        self.ended.set()


async def _on(given: HandedOver, protocol: H2Protocol, made: Callable[[], None] = lambda: None) -> None:
    """Have a protocol speak on a connection until that ends; whoever is cancelled ends it."""
    sock = socket.socket(fileno=given.fd)
    lifetime = _Lifetime(protocol, given.head, made)
    try:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: lifetime, sock)
    except BaseException:
        sock.close()
        raise
    try:
        if not given.eof:
            await lifetime.ended.wait()
    finally:
        lifetime.transport.close()


def check_end(stream: ClientStream[Any, Any]) -> None:
    """Raises GRPCError when a peer that sends no more has ended a conversation for a failure."""
    stream._maybe_raise()


def interrupt(stream: ClientStream[Any, Any]) -> None:
    """Have everybody who waits in a conversation wait no longer: StreamTerminatedError is raised there."""
    stream._wrapper.cancel(StreamTerminatedError("the conversation has ended"))


def _bound(stream: Any) -> None:
    """Refuse to read a message that is larger than `MESSAGE_LIMIT_BYTES` (grpclib would collect four gigabytes)."""
    read = stream.recv_data

    async def recv_data(size: int) -> bytes:
        if size > MESSAGE_LIMIT_BYTES:
            raise GRPCError(
                Status.RESOURCE_EXHAUSTED, f"a message of {size} bytes is larger than the limit of {MESSAGE_LIMIT_BYTES}"
            )
        content: bytes = await read(size)
        return content

    stream.recv_data = recv_data


def metadata_of(fields: Any) -> Call:
    """A call's metadata, as values by name."""
    return {name: fields.getall(name) for name in fields or ()}
