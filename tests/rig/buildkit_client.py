"""A client of BuildKit's protocol that says exactly what a test wants said, honest or not: gRPC over the daemon's own doors."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from carrack.api.buildkit.grpc import GRPCError, Method, Peer, ServerStream, Serving, Status, conversation, metadata_of
from carrack.api.buildkit.wire import buildkit_pb2 as wire
from carrack.errors import CarrackError
from carrack.http.request import HandedOver

Files = Callable[[ServerStream[wire.Packet, wire.Packet]], Awaitable[None]]
SOLVE = "/moby.buildkit.v1.Control/Solve"
DOCKERFILE = b"FROM scratch\nCOPY . /\n"


def upgraded(path: Path, target: str, fields: Sequence[str] = ()) -> HandedOver:
    """A connection that the daemon has taken over for HTTP/2."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    head = [f"POST {target} HTTP/1.1", "Host: docker", "Connection: Upgrade", "Upgrade: h2c", *fields, "", ""]
    sock.sendall("\r\n".join(head).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = sock.recv(4096)
        assert piece, answer
        answer += piece
    status, _, rest = answer.partition(b"\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 101 "), answer
    sock.setblocking(False)
    return HandedOver(sock.detach(), rest, eof=False)


@asynccontextmanager
async def connected(path: Path, files: Files, name: str = "") -> AsyncIterator[tuple[Peer, str]]:
    """The daemon's methods to be called, and the name of a session that serves `files` as every folder."""
    name = name or os.urandom(8).hex()
    methods: dict[str, Method[wire.Packet, wire.Packet]] = {
        "/moby.filesync.v1.FileSync/DiffCopy": conversation(files, wire.Packet, wire.Packet)
    }
    serving = Serving(methods, _refuse)
    fields = [f"X-Docker-Expose-Session-Uuid: {name}", "X-Docker-Expose-Session-Sharedkey: test"]
    attending = asyncio.ensure_future(serving.serve(upgraded(path, "/session", fields)))
    peer, ready = Peer(), asyncio.Event()
    calling = asyncio.ensure_future(peer.attend(upgraded(path, "/grpc"), ready.set))
    await ready.wait()
    try:
        yield peer, name
    finally:
        for task in (attending, calling):
            task.cancel()
        await asyncio.gather(attending, calling, return_exceptions=True)


async def solve(path: Path, files: Files, **attributes: str) -> wire.SolveResponse:
    """One build of a Dockerfile, asked for at once (without a gateway)."""
    async with connected(path, files) as (peer, session):
        request = wire.SolveRequest(
            Ref=os.urandom(8).hex(),
            Session=session,
            Frontend="dockerfile.v0",
            FrontendAttrs=attributes,
            Exporters=[wire.Exporter(Type="image")],
        )
        return await peer.call(SOLVE, request, wire.SolveResponse)


def asked_for(stream: ServerStream[wire.Packet, wire.Packet]) -> str:
    """Which of the client's folders the daemon wants."""
    return metadata_of(stream.metadata)["dir-name"][0]


def folder(*entries: wire.Stat, content: bytes = b"content") -> Files:
    """A sender like fsutil's, of these entries; for the folder `dockerfile`, of a Dockerfile that copies all."""

    async def serve(stream: ServerStream[wire.Packet, wire.Packet]) -> None:
        is_dockerfile = asked_for(stream) == "dockerfile"
        told = [wire.Stat(path="Dockerfile", mode=0o644, size=len(DOCKERFILE))] if is_dockerfile else entries
        for entry in told:
            await stream.send_message(wire.Packet(type=wire.Packet.STAT, stat=entry))
        await stream.send_message(wire.Packet(type=wire.Packet.STAT))
        while (packet := await stream.recv_message()) is not None:
            if packet.type == wire.Packet.FIN:
                await stream.send_message(wire.Packet(type=wire.Packet.FIN))
                return
            data = DOCKERFILE if is_dockerfile else content
            await stream.send_message(wire.Packet(type=wire.Packet.DATA, ID=packet.ID, data=data))
            await stream.send_message(wire.Packet(type=wire.Packet.DATA, ID=packet.ID))

    return serve


def _refuse(error: CarrackError) -> GRPCError:
    return GRPCError(Status.UNKNOWN, error.message)
