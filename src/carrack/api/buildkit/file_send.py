"""Outputs to a client (FileSend.DiffCopy): an archive as bytes, or the files of one by fsutil's protocol, this side sending.

The output is a tar on this host, made by a confined worker; of its entries only names and places are looked at here.
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import tarfile
from collections.abc import Callable
from dataclasses import dataclass

from carrack.api.blocking import in_own_thread
from carrack.api.buildkit import go_modes
from carrack.api.buildkit.grpc import ClientStream, GRPCError
from carrack.api.buildkit.session import Session, refused
from carrack.api.buildkit.wire.buildkit_pb2 import BytesMessage, Packet, Stat
from carrack.errors import InvalidParameter, SystemFailure

_DIFF_COPY = "/moby.filesync.v1.FileSend/DiffCopy"
_EXPORTER = "buildkit-attachable-exporter-id"
_MANY_PLATFORMS = "buildkit-exporter-multi-platform"
_PIECE_BYTES = 1 << 20
_PACKET_BYTES = 32 << 10

Tell = Callable[[int, bool], None]
Stream = ClientStream[Packet, Packet]


@dataclass(frozen=True, slots=True)
class _Entry:
    stat: Stat
    offset: int
    size: int


async def send_archive(session: Session, exporter: int, fd: int, tell: Tell) -> None:
    """A file's whole content, to the client's output of that number. Raises Unavailable, Cancelled."""
    sent = 0
    try:
        async with session.peer.open(_DIFF_COPY, BytesMessage, BytesMessage, {_EXPORTER: [str(exporter)]}) as stream:
            while piece := await asyncio.to_thread(os.pread, fd, _PIECE_BYTES, sent):
                await stream.send_message(BytesMessage(data=piece))
                sent += len(piece)
                tell(sent, False)
            await stream.end()
            await stream.recv_message()
    except GRPCError as error:
        raise refused(error, "the client does not take its output") from error
    tell(sent, True)


async def send_tree(session: Session, exporter: int, fd: int, tell: Tell) -> None:
    """The files of a tar, into the client's directory of that number. Raises Unavailable, InvalidParameter, Cancelled."""
    entries = await in_own_thread(_entries, fd)
    metadata = {_EXPORTER: [str(exporter)], _MANY_PLATFORMS: ["1"]}
    try:
        async with session.peer.open(_DIFF_COPY, Packet, Packet, metadata) as stream:
            telling = asyncio.ensure_future(_tell_all(stream, entries))
            try:
                sent = await _answer(stream, entries, fd, tell)
                await telling
            finally:
                telling.cancel()
            await stream.end()
            await stream.recv_message()
    except GRPCError as error:
        raise refused(error, "the client does not take its output") from error
    tell(sent, True)


async def _tell_all(stream: Stream, entries: list[_Entry]) -> None:
    for entry in entries:
        await stream.send_message(Packet(type=Packet.STAT, stat=entry.stat))
    await stream.send_message(Packet(type=Packet.STAT))


async def _answer(stream: Stream, entries: list[_Entry], fd: int, tell: Tell) -> int:
    """Send what the client asks for, until it has all; how many bytes that were."""
    sent = 0
    while (packet := await stream.recv_message()) is not None:
        if packet.type == Packet.FIN:
            await stream.send_message(Packet(type=Packet.FIN))
            return sent
        if packet.type == Packet.ERR:
            raise InvalidParameter(f"error from receiver: {packet.data.decode(errors='replace')}")
        if packet.type != Packet.REQ or len(entries) <= packet.ID:
            raise InvalidParameter("the client asked for a file that it was not told of")
        entry = entries[packet.ID]
        end = entry.offset + entry.size
        for offset in range(entry.offset, end, _PIECE_BYTES):
            piece = await asyncio.to_thread(os.pread, fd, min(_PIECE_BYTES, end - offset), offset)
            for place in range(0, len(piece), _PACKET_BYTES):
                await stream.send_message(Packet(type=Packet.DATA, ID=packet.ID, data=piece[place : place + _PACKET_BYTES]))
            sent += len(piece)
            tell(sent, False)
        await stream.send_message(Packet(type=Packet.DATA, ID=packet.ID))
    raise InvalidParameter("the client broke off taking its output")


def _entries(fd: int) -> list[_Entry]:
    """What is in a tar, in fsutil's order: by the parts of the paths. Blocking."""
    with os.fdopen(os.dup(fd), "rb") as file:
        file.seek(0)
        members: dict[str, tarfile.TarInfo] = {}
        with tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if path := _path(member.name):
                    members[path] = member
    for path in list(members):  # fsutil wants every folder told before what is in it
        while (path := posixpath.dirname(path)) and path not in members:
            members[path] = folder = tarfile.TarInfo(path)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
    entries = []
    first: dict[str, str] = {}
    for path in sorted(members, key=lambda each: each.split("/")):
        member = members[path]
        if member.islnk():  # the file that the archive has first need not be the first in this order
            content = members.get(_path(member.linkname))
            if content is None or not content.isreg():
                raise SystemFailure(f"the output links {path} to what it does not hold")
            member = content
        name = first.setdefault(member.name, path)
        if (stat := _stat(path, member, name if name != path else "")) is not None:
            entries.append(_Entry(stat, member.offset_data, member.size if member.isreg() else 0))
    return entries


def _path(name: str) -> str:
    """A member's path below the root; "" for the root itself."""
    path = posixpath.normpath(f"/{name}").lstrip("/")
    return "" if path == "." else path


def _stat(path: str, member: tarfile.TarInfo, linked: str) -> Stat | None:
    """fsutil's word for a member; None for what is no file of a directory. `linked`: the first name of the same file."""
    owner, group, moment = member.uid, member.gid, int(member.mtime * 10**9)
    if member.isdir():
        return Stat(path=path, mode=go_modes.of(member.mode, go_modes.DIRECTORY), uid=owner, gid=group, modTime=moment)
    if member.issym():
        mode = go_modes.of(0o777, go_modes.SYMLINK)
        return Stat(path=path, mode=mode, linkname=member.linkname, uid=owner, gid=group, modTime=moment)
    if member.isreg():
        size = 0 if linked else member.size
        mode = go_modes.of(member.mode)
        return Stat(path=path, mode=mode, size=size, linkname=linked, uid=owner, gid=group, modTime=moment)
    return None
