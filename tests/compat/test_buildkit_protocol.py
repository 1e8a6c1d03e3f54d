"""Clients of BuildKit's protocol that mean harm, or break off: what they say is refused, and nothing of it stays."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from carrack.api.buildkit.grpc import GRPCError, ServerStream, Status
from carrack.api.buildkit.wire import buildkit_pb2 as wire
from tests.rig import buildkit_client as client
from tests.rig.engine import Engine
from tests.rig.waiting import until

pytestmark = pytest.mark.observes("POST /grpc", "POST /session")

FILE, FOLDER, LINK = 0o644, 0o755 | 1 << 31, 0o777 | 1 << 27


def contexts(engine: Engine) -> set[str]:
    place = engine.data_root / "contexts"
    return {path.name for path in place.iterdir()} if place.is_dir() else set()


def refused(engine: Engine, files: client.Files, **attributes: str) -> str:
    """The message of a build that is refused, with nothing left of it."""
    before = contexts(engine)
    with pytest.raises(GRPCError) as caught:
        asyncio.run(client.solve(engine.socket, files, **attributes))
    until(lambda: contexts(engine) <= before, "what came of the context is gone")
    return str(caught.value.message)


def test_an_honest_client_is_served(engine: Engine) -> None:
    files = client.folder(
        wire.Stat(path="d", mode=FOLDER), wire.Stat(path="d/f", mode=FILE, size=7), wire.Stat(path="l", mode=LINK, linkname="d/f")
    )
    response = asyncio.run(client.solve(engine.socket, files))
    image = response.ExporterResponse["containerimage.config.digest"]
    assert engine.api("GET", f"/images/{image}/json").status == 200


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([wire.Stat(path="..", mode=FOLDER), wire.Stat(path="../out", mode=FILE, size=7)], "not a path inside the context"),
        ([wire.Stat(path="/x", mode=FILE, size=7)], "not a path inside the context"),
        ([wire.Stat(path="a/../../x", mode=FILE, size=7)], "invalid manifest"),
        ([wire.Stat(path="no/folder/told", mode=FILE, size=7)], "its folder is not told before it"),
        (
            [wire.Stat(path="l", mode=LINK, linkname="/tmp"), wire.Stat(path="l/f", mode=FILE, size=7)],
            "its folder is not told before it",
        ),
        ([wire.Stat(path="f", mode=FILE, size=7), wire.Stat(path="f", mode=FILE, size=7)], "a path is given twice"),
        ([wire.Stat(path="f\0g", mode=FILE, size=7)], "a path with a NUL in it"),
        ([wire.Stat(path="l", mode=LINK)], "malformed"),
        ([wire.Stat(path="x" * 5000, mode=FILE)], "malformed"),
    ],
)
def test_paths_that_lead_elsewhere_are_refused(engine: Engine, entries: list[wire.Stat], said: str) -> None:
    assert said in refused(engine, client.folder(*entries))


def test_links_in_a_context_lead_nowhere_else(engine: Engine, tmp_path: Path) -> None:
    """A link may point where it likes; a file of the same name that comes later is never written through it."""
    target = tmp_path / "target"
    entries = [wire.Stat(path="l", mode=LINK, linkname=str(target), modTime=1)]
    asyncio.run(client.solve(engine.socket, client.folder(*entries)))
    asyncio.run(client.solve(engine.socket, client.folder(wire.Stat(path="l", mode=FILE, size=7, modTime=2))))
    assert not target.exists()


def broken(*packets: wire.Packet) -> client.Files:
    """A sender that tells of one file, and then sends these."""
    honest = client.folder()

    async def serve(stream: ServerStream[wire.Packet, wire.Packet]) -> None:
        if client.asked_for(stream) == "dockerfile":
            await honest(stream)
            return
        await stream.send_message(wire.Packet(type=wire.Packet.STAT, stat=wire.Stat(path="f", mode=FILE, size=7)))
        for packet in packets:
            await stream.send_message(packet)
        async for _ in stream:
            pass

    return serve


END = wire.Packet(type=wire.Packet.STAT)


@pytest.mark.parametrize(
    ("packets", "said"),
    [
        ([wire.Packet(type=wire.Packet.DATA, ID=0, data=b"x")], "before it had told of them all"),
        ([END, wire.Packet(type=wire.Packet.DATA, ID=9, data=b"x")], "what it was not asked for"),
        ([END, wire.Packet(type=wire.Packet.STAT, stat=wire.Stat(path="g", mode=FILE))], "what it was not asked for"),
        ([END, *[wire.Packet(type=wire.Packet.DATA, ID=0, data=bytes(1 << 16))] * 40], "grew while it was sent"),
        ([wire.Packet(type=wire.Packet.ERR, data=b"disk on fire")], "error from sender: disk on fire"),
    ],
)
def test_a_sender_that_does_not_keep_to_the_protocol_is_refused(engine: Engine, packets: list[wire.Packet], said: str) -> None:
    assert said in refused(engine, broken(*packets))


def test_a_sender_that_goes_away_ends_its_build(engine: Engine) -> None:
    gone = asyncio.Event()

    async def serve(stream: ServerStream[wire.Packet, wire.Packet]) -> None:
        if client.asked_for(stream) == "dockerfile":
            await client.folder()(stream)
            return
        await stream.send_message(wire.Packet(type=wire.Packet.STAT, stat=wire.Stat(path="f", mode=FILE, size=1 << 30)))
        await stream.send_message(END)
        await stream.recv_message()
        gone.set()
        await asyncio.Event().wait()

    async def leave() -> None:
        building = asyncio.ensure_future(client.solve(engine.socket, serve))
        await gone.wait()
        building.cancel()
        await asyncio.gather(building, return_exceptions=True)

    before = contexts(engine)
    asyncio.run(leave())
    until(lambda: contexts(engine) <= before, "what came of the context is gone")


def test_a_message_that_is_too_large_or_none_is_refused(engine: Engine) -> None:
    async def ask(message: wire.SolveRequest) -> GRPCError:
        async with client.connected(engine.socket, client.folder()) as (peer, _):
            with pytest.raises(GRPCError) as caught:
                await peer.call(client.SOLVE, message, wire.SolveResponse)
            assert (await peer.call("/moby.buildkit.v1.Control/Info", wire.Empty(), wire.InfoResponse)).buildkitVersion.version
            return caught.value

    error = asyncio.run(ask(wire.SolveRequest(Ref="x" * (17 << 20))))
    assert error.status is Status.RESOURCE_EXHAUSTED
    assert "needs a reference" in str(asyncio.run(ask(wire.SolveRequest())).message)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"no-such": "thing"}, "does not know the attribute 'no-such'"),
        ({"context:x": "oci-layout://y:tag"}, "needs a digest"),
        ({"context:x": "oci-layout://y@sha256:" + "0" * 64}, "oci:y at the client"),
        ({"context:x": "input:y"}, "there is no input y"),
        ({"force-network-mode": "mine"}, "invalid netmode mine"),
        ({"ulimit": "nofile"}, "invalid ulimit argument"),
        ({"shm-size": "much"}, "shm-size is no number"),
        ({"cache-imports": "{"}, "failed to unmarshal cache-imports"),
        ({"platform": "a/b/c/d/e"}, "a/b/c/d/e"),
        ({"requestid": "frontend.other"}, "unsupported request frontend.other"),
    ],
)
def test_attributes_are_read_strictly(engine: Engine, attributes: dict[str, str], said: str) -> None:
    assert said in refused(engine, client.folder(), **attributes)


def test_a_session_is_one_clients(engine: Engine) -> None:
    async def twice() -> int:
        async with client.connected(engine.socket, client.folder(), "same"):
            return engine.api(
                "POST", "/session", headers={"Upgrade": "h2c", "Connection": "Upgrade", "X-Docker-Expose-Session-Uuid": "same"}
            ).status

    assert asyncio.run(twice()) == 409
    assert engine.api("POST", "/session", headers={"Upgrade": "h2c", "Connection": "Upgrade"}).status == 400
    assert engine.api("POST", "/grpc").status == 400


def test_garbage_in_place_of_http2_is_the_end_of_its_connection_only(engine: Engine) -> None:
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", bytes(1000), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\1" + bytes(6) + b"x"):
        given = client.upgraded(engine.socket, "/grpc")
        with socket.socket(fileno=given.fd) as sock:
            sock.setblocking(True)
            sock.settimeout(10)
            sock.sendall(garbage)
            while sock.recv(4096):
                pass
    assert engine.api("GET", "/_ping").status == 200
