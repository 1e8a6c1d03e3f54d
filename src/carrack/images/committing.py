"""`docker commit`: an image of one more layer over the image that a container was made from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from carrack.archive.compression import CHUNK_BYTES
from carrack.content import Lease
from carrack.images.image import Image
from carrack.images.store import ImageStore, NewImage, write_bytes, write_document
from carrack.images.transcode import layer_blob
from carrack.oci.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor, Manifest
from carrack.oci.digest import Digest
from carrack.oci.image_config import ExecutionConfig, History, ImageConfig, RootFS
from carrack.oci.reference import Reference


@dataclass(frozen=True, slots=True)
class Packed:
    """What was packed: the digest of the tar before its compression, and how many entries it has."""

    diff_id: str
    entries: int


Pack = Callable[[int], Callable[[], Packed]]
"""Begins to write a layer, compressed, to a descriptor that stays the caller's; what it gives waits for the end."""


@dataclass(frozen=True, slots=True)
class Commit:
    """What is said of the new image."""

    config: ExecutionConfig
    names: Sequence[Reference] = ()
    author: str = ""
    comment: str = ""
    created_by: str = ""
    """The command whose work is kept."""


def commit_image(store: ImageStore, base: Image, wish: Commit, pack: Pack) -> Image:
    """Make an image of `base` and one more layer, or none when nothing has changed. Blocks.

    Raises InvalidParameter, SystemFailure, and leaves nothing then.
    """
    with store.assembling() as lease:
        blob, packed = _receive(store, lease, pack)
        layers, diff_ids = base.layers, [str(each) for each in base.config.diff_ids]
        if packed.entries:
            layers = (*layers, layer_blob(store.content, lease, blob))
            diff_ids.append(packed.diff_id)
        config = _config(base, wish, diff_ids, empty=not packed.entries)
        config_blob = write_bytes(store.content, lease, msgspec.json.encode(config), OCI_CONFIG)
        manifest = _manifest(store, lease, config_blob, layers)
        store.record([NewImage(config_blob.name, config, manifest, manifest, layers, tuple(wish.names), parent=base.id)])
    image = store.index.get(config_blob.name)
    store.tell("create", image)
    for name in wish.names:
        store.tell("tag", image, name.familiar)
    return image


def _receive(store: ImageStore, lease: Lease, pack: Pack) -> tuple[Digest, Packed]:
    reader, writer_fd = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            finish = pack(writer_fd)
        finally:
            os.close(writer_fd)
        with store.content.writer(lease) as writer:
            for piece in _pieces(reader):
                writer.write(piece)
            packed = finish()  # before the blob appears: a worker that died has packed half a layer
            return writer.commit(), packed
    finally:
        os.close(reader)


def _pieces(fd: int) -> Iterator[bytes]:
    while piece := os.read(fd, CHUNK_BYTES):
        yield piece


def _manifest(store: ImageStore, lease: Lease, config: Descriptor, layers: tuple[Descriptor, ...]) -> Descriptor:
    return write_document(store.content, lease, Manifest(2, config, layers, OCI_MANIFEST), OCI_MANIFEST)


def _config(base: Image, wish: Commit, diff_ids: list[str], *, empty: bool) -> ImageConfig:
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    step = History(created=now, created_by=wish.created_by, author=wish.author, comment=wish.comment, empty_layer=empty)
    return msgspec.structs.replace(
        base.config,
        created=now,
        author=wish.author,
        config=wish.config,
        rootfs=RootFS(diff_ids=diff_ids),
        history=[*(base.config.history or ()), step],
    )
