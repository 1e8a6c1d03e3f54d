"""Files of a client, by fsutil's protocol (FileSync.DiffCopy): it tells what it has, we ask for what is not here, it sends that.

    client: STAT STAT … STAT (empty)      we: REQ n, REQ m, …      client: DATA n …, DATA n (empty), …      we: FIN      client: FIN

A whole folder becomes a mirror like the one that `carrack build` keeps up to date (`build/contexts/incremental.py`), of which a
confined worker makes a tree. A file counts as unchanged while kind, mode, size and time of the last write are: the protocol tells
no more. Nothing that a client says is believed: paths are the manifest's affair, sizes are counted, and what nobody asked for is
refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, ParamSpec, TypeVar
from urllib.parse import quote_plus

from carrack.api.blocking import BlockingReader, in_own_thread
from carrack.api.build_sessions import pieces
from carrack.api.buildkit import go_modes
from carrack.api.buildkit.grpc import ClientStream, GRPCError, check_end, interrupt
from carrack.api.buildkit.session import Session, refused
from carrack.api.buildkit.wire.buildkit_pb2 import BytesMessage, Packet, Stat
from carrack.archive import header
from carrack.archive.header import Entry
from carrack.archive.manifest import ENTRIES_LIMIT
from carrack.archive.writer import END, encode, padding
from carrack.build.contexts.incremental import Mirror
from carrack.build.contexts.reception import Reception
from carrack.build.ports import LocalContext
from carrack.distribution.cancellation import Cancellation
from carrack.errors import InvalidParameter, NotFound

_DIFF_COPY = "/moby.filesync.v1.FileSync/DiffCopy"
_PULL = "/moby.upload.v1.Upload/Pull"
_MANIFEST_LIMIT_BYTES = 512 << 20
_WHOLE_BYTES = 1 << 20
"""A file up to this size is taken whole before it goes on, so that it may have changed its size since it was told of."""
_AHEAD_BYTES = 4 << 20
_AHEAD_FILES = 256
"""How much is asked for ahead of what is needed next."""
_GATHERED_BYTES = 256 << 10
_LINKS_LIMIT = 16

P = ParamSpec("P")
T = TypeVar("T")
Tell = Callable[[int, bool], None]
"""Bytes received so far; whether that is all."""
Stream = ClientStream[Packet, Packet]


class _Told(NamedTuple):
    """One thing that the client has. `number` is what it is asked for by."""

    number: int
    stat: Stat
    kind: str
    """In the words of `archive.manifest`."""
    size: int

    @property
    def path(self) -> str:
        return self.stat.path


async def receive_folder(
    session: Session, name: str, key: str, ignore: Sequence[str], reception: Reception, tell: Tell, cancel: Cancellation
) -> LocalContext:
    """A folder of the client, without what ignore patterns name, as a context for one build.

    `key` names the folder among the client's. Raises InvalidParameter, NotFound, Cancelled.
    """
    async with _conversation(session, name, exclude=ignore) as stream:
        told = await _told(stream)
        manifest = _manifest(told)
        mirror = await in_own_thread(
            Mirror, reception.slots, reception.trees, f"session:{key}", manifest, reception.free_bytes, is_exact=False
        )
        try:
            if mirror.missing:
                body = pieces(BlockingReader(_gathered(_archive(stream, told, mirror.missing, tell))))
                await _to_its_end(stream, cancel, mirror.receive, body, cancel)
            else:
                tell(0, True)
            await _part(stream)
            return await in_own_thread(mirror.context, cancel)
        except BaseException:
            await in_own_thread(mirror.close)
            raise


async def read_files(session: Session, name: str, wanted: Sequence[str], limit_bytes: int, tell: Tell) -> dict[str, bytes]:
    """Those of some files of a client's folder that are there, links followed inside. Raises InvalidParameter, NotFound."""
    found: dict[str, bytes] = {}
    async with _conversation(session, name, follow=wanted) as stream:
        told = {each.path: each for each in await _told(stream)}
        meant = {path: entry for path, entry in ((path, _followed(path, told)) for path in wanted) if entry is not None}
        for path, entry in meant.items():
            if entry.size > limit_bytes:
                raise InvalidParameter(f"{path} is larger than {limit_bytes} bytes")
        files = _Files(stream, {each.number: each for each in meant.values()}.values(), tell)
        content: dict[int, bytes] = {}
        while len(content) < len({each.number for each in meant.values()}):
            file = await files.next()
            while not file.complete:
                await files.take()
            content[file.told.number] = b"".join(file.pieces)
            files.forget(file)
        await _part(stream)
    for path, entry in meant.items():
        found[path] = content[entry.number]
    tell(files.received_bytes, True)
    return found


async def receive_upload(session: Session, path: str, host: str, reception: Reception, cancel: Cancellation) -> LocalContext:
    """A context that the client has as an archive (`docker build -`). Raises InvalidParameter, Cancelled."""
    try:
        metadata = {"urlpath": [path], "urlhost": [host]}
        async with session.peer.open(_PULL, BytesMessage, BytesMessage, metadata) as stream:
            await stream.end()

            async def archive() -> AsyncIterator[bytes]:
                while (message := await stream.recv_message()) is not None:
                    if message.data:
                        yield message.data

            return await _to_its_end(stream, cancel, reception.receive_tar, pieces(BlockingReader(archive())), cancel)
    except GRPCError as error:
        raise refused(error, "the build context") from error


async def _to_its_end(
    stream: ClientStream[Any, Any], cancel: Cancellation, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Work in a thread that reads a conversation. Who is cancelled takes it back, and waits until it has ended."""
    working = asyncio.ensure_future(in_own_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        cancel.cancel()
        interrupt(stream)
        await asyncio.gather(working, return_exceptions=True)
        raise


# ── the conversation ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def _conversation(
    session: Session, name: str, *, exclude: Sequence[str] = (), follow: Sequence[str] = ()
) -> AsyncIterator[Stream]:
    options = {"dir-name": [name], "exclude-patterns": list(exclude), "followpaths": list(follow)}
    try:
        async with session.peer.open(_DIFF_COPY, Packet, Packet, _encoded(options)) as stream:
            yield stream
    except GRPCError as error:
        raise refused(error, f"folder {name!r} of the client") from error


def _encoded(options: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """As header fields; values with other characters than theirs are escaped, which a field beside them says."""
    fields: dict[str, list[str]] = {}
    for name, values in options.items():
        if not values:
            continue
        if all(" " <= character <= "~" for value in values for character in value):
            fields[name] = values
        else:
            fields[name] = [quote_plus(value) for value in values]
            fields[f"{name}-encoded"] = ["1"]
    return fields


async def _told(stream: Stream) -> list[_Told]:
    """Everything that the client says it has, but for sockets and devices, which no context holds."""
    told: list[_Told] = []
    first: dict[str, int] = {}
    number = size = 0
    while True:
        packet = await _packet(stream)
        if packet.type != Packet.STAT:
            raise InvalidParameter("the client sent files before it had told of them all")
        if not packet.HasField("stat"):
            return told
        entry = packet.stat
        if kind := go_modes.kind(entry.mode):
            # a second name of a file says no size of its own: it holds what the first does
            first[entry.path] = first.get(entry.linkname, entry.size) if kind == "f" and entry.linkname else entry.size
            told.append(_Told(number, entry, kind, max(0, first[entry.path])))
        number += 1
        size += len(entry.path) + len(entry.linkname) + 64
        if number > ENTRIES_LIMIT or size > _MANIFEST_LIMIT_BYTES:
            raise InvalidParameter("the client's folder has too many files")


async def _packet(stream: Stream) -> Packet:
    packet = await stream.recv_message()
    if packet is None:
        check_end(stream)
        raise InvalidParameter("the client broke off sending its files")
    if packet.type == Packet.ERR:
        raise InvalidParameter(f"error from sender: {packet.data.decode(errors='replace')}")
    return packet


async def _part(stream: Stream) -> None:
    """Say that all is here, and hear the client say so."""
    await stream.send_message(Packet(type=Packet.FIN), end=True)
    while await stream.recv_message() is not None:
        pass


# ── a tar of what is missing ─────────────────────────────────────────────────────────────────────────────────────────────────


class _Coming:
    """A file that was asked for."""

    def __init__(self, told: _Told) -> None:
        self.told = told
        self.pieces: deque[bytes] = deque()
        self.size = 0
        self.complete = False


class _Files:
    """The content of files, asked for in an order. The client sends several at a time: what is early waits, within bounds."""

    def __init__(self, stream: Stream, wanted: Iterable[_Told], tell: Tell) -> None:
        self._stream = stream
        self._wanted = deque(wanted)
        self._tell = tell
        self._coming: dict[int, _Coming] = {}
        self._ahead_bytes = 0
        self.received_bytes = 0

    async def next(self) -> _Coming:
        """The next file, which is asked for at least."""
        while self._wanted and len(self._coming) < _AHEAD_FILES:
            told = self._wanted[0]
            if self._coming and self._ahead_bytes + told.size > _AHEAD_BYTES:
                break
            self._wanted.popleft()
            self._coming[told.number] = _Coming(told)
            self._ahead_bytes += told.size
            await self._stream.send_message(Packet(type=Packet.REQ, ID=told.number))
        return next(iter(self._coming.values()))

    async def take(self) -> None:
        """Take a piece of whatever file the client sends."""
        packet = await _packet(self._stream)
        file = self._coming.get(packet.ID)
        if packet.type != Packet.DATA or file is None or file.complete:
            raise InvalidParameter("the client sent what it was not asked for")
        if not packet.data:
            file.complete = True
            return
        file.pieces.append(packet.data)
        file.size += len(packet.data)
        self.received_bytes += len(packet.data)
        if file.size > max(file.told.size, _WHOLE_BYTES):
            raise InvalidParameter(f"{file.told.path} grew while it was sent")
        self._tell(self.received_bytes, False)

    def forget(self, file: _Coming) -> None:
        """A file that is done with."""
        del self._coming[file.told.number]
        self._ahead_bytes -= file.told.size


async def _gathered(small: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pieces put together: each that goes to a thread costs a round of both, and most files are small."""
    gathered: list[bytes] = []
    size = 0
    async for piece in small:
        gathered.append(piece)
        size += len(piece)
        if size >= _GATHERED_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


async def _archive(stream: Stream, told: Sequence[_Told], missing: Sequence[int], tell: Tell) -> AsyncIterator[bytes]:
    """The missing entries in their order, as a tar."""
    entries = [told[place] for place in missing]
    files = _Files(stream, (each for each in entries if each.kind == "f"), tell)
    for entry in entries:
        if entry.kind != "f":
            yield encode(_entry(entry, 0))
            continue
        file = await files.next()
        if entry.size <= _WHOLE_BYTES:
            while not file.complete:
                await files.take()
            yield encode(_entry(entry, file.size)) + b"".join(file.pieces) + padding(file.size)
        else:
            yield encode(_entry(entry, entry.size))
            while file.pieces or not file.complete:
                while file.pieces:
                    yield file.pieces.popleft()
                if not file.complete:
                    await files.take()
            if file.size != entry.size:
                raise InvalidParameter(f"{entry.path} changed while it was sent")
            yield padding(file.size)
        files.forget(file)
    yield END
    tell(files.received_bytes, True)


def _manifest(told: Sequence[_Told]) -> bytes:
    """What was told, in the form of `archive.manifest`."""
    lines: list[bytes] = []
    for each in told:
        target = each.stat.linkname if each.kind == "l" else ""
        if "\0" in each.path or "\0" in target:
            raise InvalidParameter("a path with a NUL in it")
        size = each.size if each.kind == "f" else 0
        lines.append(
            f"{each.kind} {go_modes.permissions(each.stat.mode):o} {size} {each.stat.modTime} 0\0{each.path}\0{target}\0".encode()
        )
    return b"".join(lines)


def _entry(told: _Told, size: int) -> Entry:
    kind = header.REGULAR if told.kind == "f" else header.FIFO
    mode = go_modes.permissions(told.stat.mode)
    return Entry(told.path.encode(), kind, mode, 0, 0, size, told.stat.modTime, real_size=size)


def _followed(path: str, told: Mapping[str, _Told]) -> _Told | None:
    """Which file a path means, links on the way followed as far as they stay inside."""
    path = posixpath.normpath(path).lstrip("/")
    entry: _Told | None
    for _ in range(_LINKS_LIMIT):
        parts = path.split("/")
        for length in range(1, len(parts) + 1):
            entry = told.get("/".join(parts[:length]))
            if entry is None:
                return None
            if entry.kind == "l":
                target = entry.stat.linkname
                base = "" if target.startswith("/") else "/".join(parts[: length - 1])
                path = posixpath.normpath(posixpath.join("/", base, target.lstrip("/"), *parts[length:])).lstrip("/")
                break
        else:
            return entry if entry is not None and entry.kind == "f" else None
    raise NotFound(f"{path}: too many levels of symbolic links")


def folder_key(session: Session, name: str, hint: str) -> str:
    """What a client's folder is called from build to build."""
    return hashlib.sha256("\0".join((hint or session.shared_key or session.name, name)).encode()).hexdigest()
