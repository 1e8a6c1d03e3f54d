"""What every operation on images shares: the index, the content, the layers, and the one way in which images are recorded.

New images come in three steps: their blobs are written under a lease, their layers are unpacked, and one transaction makes them,
with all their names, exist. Whatever fails before that leaves nothing behind: the lease's blobs and the layers made on the way
are given back, save what something else uses.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec

from carrack.content import ContentStore, Lease
from carrack.errors import Cancelled, Conflict
from carrack.images.image import ContainerUse, Image, ImageDocument, Uses
from carrack.images.index import ImageIndex, put_image, put_tag
from carrack.images.layers import LayerBuilder
from carrack.oci.descriptor import Descriptor
from carrack.oci.digest import Digest, chain_id
from carrack.oci.image_config import ImageConfig
from carrack.oci.reference import Reference
from carrack.snapshots import Snapshotter
from carrack.state import Database

Emit = Callable[[str, str, str, dict[str, str]], None]
"""Tells an event: type, action, actor's id, attributes. Thread-safe."""

CONFIG_LIMIT_BYTES = 8 << 20
"""The largest image configuration that is read."""
_ATTEMPTS = 5
_LOOK_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard a transfer tries: blobs at once, and attempts at each."""

    downloads: int = 3
    uploads: int = 5
    attempts: int = 5


@dataclass(frozen=True, slots=True)
class NewImage:
    """An image about to be recorded. Its blobs are in the content store."""

    config_digest: Digest
    config: ImageConfig
    manifest: Descriptor
    target: Descriptor
    layers: tuple[Descriptor, ...]
    names: tuple[Reference, ...] = ()
    attachments: tuple[Digest, ...] = ()
    """Further content that came with it: other platforms of its index, attestations."""
    parent: Digest | None = None


class _Fetch:
    """A blob that is being fetched, and how many wait for it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0


class _LayerGone(Exception):
    """A layer was removed between its unpacking and the record that needs it."""


class ImageStore:
    """The shared parts, handed to each operation."""

    def __init__(
        self, database: Database, content: ContentStore, snapshots: Snapshotter, builder: LayerBuilder, emit: Emit
    ) -> None:
        self.database = database
        self.content = content
        self.snapshots = snapshots
        self.builder = builder
        self.emit = emit
        self.index = ImageIndex(database)
        self.uses: Uses = tuple
        self.effort = Effort()
        self._lock = threading.Lock()
        self._fetching: dict[Digest, _Fetch] = {}

    def in_use(self, image: Digest) -> Sequence[ContainerUse]:
        """The containers that were made from an image."""
        wanted = str(image)
        return [use for of, use in self.uses() if of == wanted]

    @contextmanager
    def assembling(self) -> Iterator[Lease]:
        """A lease for the blobs of new images. At its end, what no image came to need is removed."""
        lease = self.content.lease()
        try:
            yield lease
        finally:
            digests = lease.digests
            lease.end()
            self.content.collect(self.index.blobs, only=digests)

    def record(self, images: Sequence[NewImage]) -> None:
        """Unpack what is missing and make images and names exist, all in one transaction or none.

        Raises InvalidParameter, DataCorrupt, SystemFailure, and leaves no layer of a failed record.
        """
        made: list[Digest] = []
        try:
            for _ in range(_ATTEMPTS):
                for image in images:
                    self.builder.ensure(image.config.diff_ids, [layer.name for layer in image.layers], made)
                try:
                    return self._insert(images)
                except _LayerGone:
                    continue
            raise Conflict("images are being removed while they are loaded; try again")
        except BaseException:
            self.release(made)
            raise

    def release(self, chains: Sequence[Digest]) -> None:
        """Give back layers that were made for nothing, as far as nothing else has come to use them."""
        released = self.database.write(
            lambda connection: [layer for chain in reversed(chains) for layer in self.snapshots.release_layers(connection, chain)]
        ).result()
        self.snapshots.discard(released)

    @contextmanager
    def alone(self, digest: Digest, cancel: threading.Event) -> Iterator[None]:
        """Be the only one who fetches a blob; who comes second waits, and then finds it there. Raises Cancelled."""
        with self._lock:
            entry = self._fetching.setdefault(digest, _Fetch())
            entry.users += 1
        try:
            while not entry.lock.acquire(timeout=_LOOK_SECONDS):
                if cancel.is_set():
                    raise Cancelled("the transfer was cancelled")
            try:
                yield
            finally:
                entry.lock.release()
        finally:
            with self._lock:
                entry.users -= 1
                if not entry.users:
                    del self._fetching[digest]

    def tell(self, action: str, image: Image, name: str = "", *, actor: str = "") -> None:
        """An image's event, with its labels, as Docker's attributes have it. The actor is the image's id unless given."""
        self.emit("image", action, actor or str(image.id), {**image.labels, **({"name": name} if name else {})})

    def _insert(self, images: Sequence[NewImage]) -> None:
        documents = [self._document(image) for image in images]
        self.database.write(lambda connection: _insert(connection, images, documents)).result()

    def _document(self, image: NewImage) -> ImageDocument:
        chain = chain_id(image.config.diff_ids)
        size_bytes = sum(layer.size_bytes for layer in self.snapshots.chain(chain)) if chain else 0
        return ImageDocument(image.config, image.manifest, image.target, image.layers, size_bytes)


def _insert(connection: sqlite3.Connection, images: Sequence[NewImage], documents: Sequence[ImageDocument]) -> None:
    for image, document in zip(images, documents, strict=True):
        chain = chain_id(image.config.diff_ids)
        if chain is not None and not connection.execute("SELECT 1 FROM layers WHERE chain_id = ?", (str(chain),)).fetchone():
            raise _LayerGone
        put_image(connection, image.config_digest, document, attachments=image.attachments, parent=image.parent)
        for name in image.names:
            put_tag(connection, name, image.config_digest, image.target)


def write_document(
    content: ContentStore, lease: Lease, document: msgspec.Struct | dict[str, object], media_type: str
) -> Descriptor:
    """Keep a JSON document as a blob."""
    encoded = msgspec.json.encode(document)
    return write_bytes(content, lease, encoded, media_type)


def write_bytes(content: ContentStore, lease: Lease, encoded: bytes, media_type: str) -> Descriptor:
    """Keep some bytes as a blob."""
    with content.writer(lease) as writer:
        writer.write(encoded)
        digest = writer.commit()
    return Descriptor(media_type, str(digest), len(encoded))
