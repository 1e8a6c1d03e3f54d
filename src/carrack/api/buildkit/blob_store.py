"""Folders of blobs at the client (OCI image layouts), by containerd's content service: local caches, images to build on.

A blob is what its digest says, or it is refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence

import msgspec

from carrack.api.blocking import BlockingReader, in_own_thread
from carrack.api.build_sessions import pieces
from carrack.api.buildkit.grpc import GRPCError, Status, check_end
from carrack.api.buildkit.session import Session, refused
from carrack.api.buildkit.wire.buildkit_pb2 import Empty, ReadContentRequest, ReadContentResponse, WriteContentRequest
from carrack.archive.writer import END, file_header, padding
from carrack.build.contexts.reception import Reception
from carrack.build.contexts.slots import Slots
from carrack.build.ports import LocalContext, Tree
from carrack.distribution.cancellation import Cancellation
from carrack.errors import Cancelled, DataCorrupt, InvalidParameter, NotFound
from carrack.oci.descriptor import MANIFEST_LIMIT_BYTES, OCI_MANIFEST, Descriptor, Index, decode_manifest
from carrack.oci.digest import Digest

_READ = "/containerd.services.content.v1.Content/Read"
_WRITE = "/containerd.services.content.v1.Content/Write"
_STORE = "buildkit-attachable-store-id"
_MARKER = b'{"imageLayoutVersion":"1.0.0"}'
_PIECE_BYTES = 1 << 20
_MANIFESTS_LIMIT = 1000


class BlobStore:
    """One of them, by the name that the client gave it."""

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name
        self._metadata: Mapping[str, Sequence[str]] = {_STORE: [name]}

    async def read(self, digest: Digest) -> AsyncIterator[bytes]:
        """A blob, piece by piece. Raises NotFound, DataCorrupt at its end, Cancelled."""
        found = hashlib.new(digest.algorithm)
        try:
            async with self._session.peer.open(_READ, ReadContentRequest, ReadContentResponse, self._metadata) as stream:
                await stream.send_message(ReadContentRequest(digest=str(digest)), end=True)
                while (message := await stream.recv_message()) is not None:
                    found.update(message.data)
                    if message.data:
                        yield message.data
        except GRPCError as error:
            if error.status is Status.NOT_FOUND:
                raise NotFound(f"{self._name} at the client has no blob {digest}") from error
            raise refused(error, f"{self._name} at the client") from error
        if found.hexdigest() != digest.encoded:
            raise DataCorrupt(f"{self._name} at the client: what it has as {digest} is something else")

    async def document(self, digest: Digest) -> bytes:
        """A manifest. Raises as `read`, InvalidParameter when it is too large."""
        content = b""
        async for piece in self.read(digest):
            content += piece
            if len(content) > MANIFEST_LIMIT_BYTES:
                raise InvalidParameter(f"the manifest {digest} at the client is too large")
        return content

    async def write(self, digest: str, fd: int, offset: int, size: int) -> None:
        """Give the client a blob, which stands in a file of ours, unless it has it. Raises Unavailable, Cancelled."""
        try:
            async with self._session.peer.open(_WRITE, WriteContentRequest, Empty, self._metadata) as stream:
                sent = 0
                while True:
                    piece = await asyncio.to_thread(os.pread, fd, min(_PIECE_BYTES, size - sent), offset + sent)
                    last = sent + len(piece) == size
                    await stream.send_message(
                        WriteContentRequest(
                            action=WriteContentRequest.COMMIT if last else WriteContentRequest.WRITE,
                            ref=f"carrack-{digest}",
                            total=size,
                            expected=digest,
                            offset=sent,
                            data=piece,
                        ),
                        end=last,
                    )
                    sent += len(piece)
                    if await stream.recv_message() is None:
                        check_end(stream)
                        raise Cancelled("the client broke off taking a blob")
                    if last:
                        break
                while await stream.recv_message() is not None:
                    pass
        except GRPCError as error:
            if error.status is not Status.ALREADY_EXISTS:
                raise refused(error, f"{self._name} at the client does not take a blob") from error


async def send_layout(store: BlobStore, fd: int) -> str:
    """Every blob of a layout's tar, to the client; the descriptor of its manifest, as JSON. Raises Unavailable, Cancelled."""
    members, index = await in_own_thread(_members, fd)
    for name, offset, size in members:
        await store.write(name, fd, offset, size)
    return index


def _members(fd: int) -> tuple[list[tuple[str, int, int]], str]:
    """The blobs of a layout's tar: digest, offset, size; and its manifest's descriptor. Blocking."""
    with os.fdopen(os.dup(fd), "rb") as file:
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as archive:
            found = [
                (":".join(member.name.split("/")[-2:]), member.offset_data, member.size)
                for member in archive
                if member.isreg() and member.name.startswith("blobs/")
            ]
            index = archive.extractfile("index.json")
            assert index is not None
            manifests = msgspec.json.decode(index.read())["manifests"]
    return found, msgspec.json.encode(manifests[0]).decode()


class ClientLayout:
    """`ports.LocalContext` of a cache that the client has as a layout: its blobs are fetched when a step needs them."""

    def __init__(self, store: BlobStore, manifest: Descriptor, slots: Slots, cancel: Cancellation) -> None:
        """Made on the event loop, used in threads."""
        self._store = store
        self._slots = slots
        self._cancel = cancel
        self._loop = asyncio.get_running_loop()
        self._index = msgspec.json.encode(Index(2, (manifest,)))

    @property
    def key(self) -> str:
        """See `ports.LocalContext.key`."""
        return ""

    def tree(self, ignore: Sequence[str] = ()) -> Tree:
        """See `ports.LocalContext.tree`: no step copies from a cache."""
        return ()

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        """See `ports.LocalContext.read`."""
        return self._index if path == "index.json" else None

    def open(self, path: str, limit_bytes: int) -> int | None:
        """See `ports.LocalContext.open`."""
        digest = Digest.parse(":".join(path.split("/")[-2:]))

        def fetch(fd: int) -> None:
            for piece in BlockingReader(self._store.read(digest), self._loop):
                self._cancel.check()
                os.write(fd, piece)

        return self._slots.scratch_copy(fetch)

    def close(self) -> None:
        """See `ports.LocalContext.close`."""


async def receive_layout(store: BlobStore, target: Digest, reception: Reception, cancel: Cancellation) -> LocalContext:
    """An image of the client's, as a layout of our own with nothing else in it. Raises NotFound, DataCorrupt, Cancelled."""
    working = asyncio.ensure_future(in_own_thread(reception.receive_tar, pieces(BlockingReader(_layout(store, target))), cancel))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        cancel.cancel()
        await asyncio.gather(working, return_exceptions=True)
        raise


async def _layout(store: BlobStore, target: Digest) -> AsyncIterator[bytes]:
    """A layout as a tar: the image, those of its platforms that are there, and nothing else."""
    raw = await store.document(target)
    root = Descriptor(decode_manifest(raw).media_type or OCI_MANIFEST, str(target), len(raw))
    index = msgspec.json.encode(Index(2, (root,)))
    yield b"".join((file_header("oci-layout", len(_MARKER)), _MARKER, padding(len(_MARKER))))
    yield b"".join((file_header("index.json", len(index)), index, padding(len(index))))
    waiting, seen = [root], {target}
    while waiting:
        descriptor = waiting.pop(0)
        try:
            raw = await store.document(descriptor.name)
        except NotFound:
            if descriptor is root:
                raise
            continue  # a platform that is not there
        yield b"".join((_named(descriptor.name, len(raw)), raw, padding(len(raw))))
        document = decode_manifest(raw, descriptor.media_type)
        if isinstance(document, Index):
            waiting += [each for each in document.manifests if each.name not in seen]
            seen |= {each.name for each in document.manifests}
            if len(seen) > _MANIFESTS_LIMIT:
                raise InvalidParameter("the image at the client has too many parts")
            continue
        for blob in (document.config, *document.layers):
            if blob.name not in seen:
                seen.add(blob.name)
                async for piece in _member(store, blob):
                    yield piece
    yield END


async def _member(store: BlobStore, blob: Descriptor) -> AsyncIterator[bytes]:
    """A blob as a member of a tar. Raises as `BlobStore.read`, DataCorrupt when it is not as large as it should be."""
    yield _named(blob.name, blob.size)
    size = 0
    async for piece in store.read(blob.name):
        size += len(piece)
        if size > blob.size:
            break
        yield piece
    if size != blob.size:
        raise DataCorrupt(f"the blob {blob.digest} at the client is not as large as it should be")
    if filling := padding(size):
        yield filling


def _named(digest: Digest, size: int) -> bytes:
    return file_header(f"blobs/{digest.algorithm}/{digest.encoded}", size)
