"""`docker import`: an image of one layer out of a file system's archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec

from carrack.content import Lease
from carrack.errors import DataCorrupt, InvalidParameter
from carrack.images.changes import apply_changes
from carrack.images.image import Image
from carrack.images.index import canonical
from carrack.images.store import ImageStore, NewImage, write_bytes, write_document
from carrack.images.transcode import layer_blob
from carrack.oci.descriptor import OCI_CONFIG, OCI_MANIFEST, Manifest
from carrack.oci.digest import Digest
from carrack.oci.image_config import ExecutionConfig, History, ImageConfig, RootFS
from carrack.oci.platform import Platform, machine
from carrack.oci.reference import Reference

_DEFAULT_MESSAGE = "Imported from -"


def import_image(
    store: ImageStore,
    stream: Iterator[bytes],
    *,
    name: str = "",
    message: str = "",
    changes: Sequence[str] = (),
    platform: Platform | None = None,
) -> Image:
    """Make an image of an archive, compressed or not, that holds a root file system.

    The archive is kept as it came, so that a push sends these very bytes. Raises InvalidParameter, SystemFailure, and leaves
    nothing then.
    """
    platform = platform or machine()
    if platform.os != "linux":
        raise InvalidParameter(f"operating system is not supported: {platform.os}")
    execution = apply_changes(ExecutionConfig(), changes)
    names = (_name(name),) if name else ()
    with store.assembling() as lease:
        layer = layer_blob(store.content, lease, _receive(store, stream, lease))
        try:
            staging, report = store.builder.unpack(layer.name)
        except DataCorrupt as error:  # the client's archive, not our disk
            raise InvalidParameter(error.message) from error
        diff_id = Digest.parse(report.diff_id)
        try:
            made = store.snapshots.commit_layer(None, diff_id, staging, report.size_bytes)
        except BaseException:
            store.snapshots.abandon(staging)
            raise
        config = _config(platform, execution, diff_id, message or _DEFAULT_MESSAGE)
        encoded = msgspec.json.encode(config)
        config_blob = write_bytes(store.content, lease, encoded, OCI_CONFIG)
        manifest = write_document(store.content, lease, Manifest(2, config_blob, (layer,), OCI_MANIFEST), OCI_MANIFEST)
        try:
            store.record([NewImage(config_blob.name, config, manifest, manifest, (layer,), names)])
        except BaseException:
            store.release([made.chain_id])
            raise
    image = store.index.get(config_blob.name)
    store.tell("import", image, str(image.id))
    return image


def _receive(store: ImageStore, stream: Iterator[bytes], lease: Lease) -> Digest:
    with store.content.writer(lease) as writer:
        for piece in stream:
            writer.write(piece)
        return writer.commit()


def _config(platform: Platform, execution: ExecutionConfig, diff_id: Digest, message: str) -> ImageConfig:
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    return ImageConfig(
        architecture=platform.architecture,
        os=platform.os,
        variant=platform.variant,
        created=now,
        config=execution,
        rootfs=RootFS(diff_ids=[str(diff_id)]),
        history=[History(created=now, comment=message)],
    )


def _name(text: str) -> Reference:
    reference = Reference.parse(text)
    if reference.digest is not None:
        raise InvalidParameter("cannot import digest reference")
    return canonical(reference)
