"""`docker push`: an image to a registry. What is there already is not sent; what another repository there has is mounted.

Blobs go as they came, so digests survive. Layers that came uncompressed (from an archive of `docker save`) are compressed once, at
their first push, and kept so from then on.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import msgspec

from carrack.content import Lease
from carrack.distribution.cancellation import Cancellation
from carrack.distribution.credentials import Credentials
from carrack.distribution.registry import Registries
from carrack.distribution.repository import Repository
from carrack.errors import NotFound
from carrack.images.image import Image, ImageDocument
from carrack.images.index import put_image, put_tag
from carrack.images.oci_layout import Candidate, Tree, choose, read_document
from carrack.images.progress import Progress
from carrack.images.store import ImageStore, write_document
from carrack.images.transcode import recompress
from carrack.images.transfer import Tell
from carrack.oci.descriptor import (
    DOCKER_LAYER,
    MANIFEST_LIMIT_BYTES,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
)
from carrack.oci.digest import Digest
from carrack.oci.platform import Platform
from carrack.oci.reference import Reference

_PIECE_BYTES = 1 << 20
_MOUNT_SOURCES = 3


class Push:
    """One push of one name."""

    def __init__(
        self,
        store: ImageStore,
        registries: Registries,
        name: Reference,
        platform: Platform | None,
        credentials: Credentials,
        tell: Tell,
        cancel: Cancellation,
    ) -> None:
        self._store = store
        self._registries = registries
        self._name = name
        self._platform = platform
        self._credentials = credentials
        self._tell = tell
        self._cancel = cancel

    def run(self) -> None:
        """Have the image there. Raises NotFound, Unauthorized, Forbidden, Unavailable, Cancelled."""
        name = self._name
        image = self._store.index.get(self._store.index.resolve(name.familiar).id)
        self._tell(Progress(f"The push refers to repository [{name.repository}]"))
        repository, _ = self._registries.find(
            name, self._credentials, lambda each: each.has_manifest(name.tag), push=True, cancel=self._cancel
        )
        with self._store.assembling() as lease:
            image = self._compressed(lease, image)
            target, manifests, blobs = self._content(image)
            for digest in (*blobs, *(manifest.name for manifest in manifests)):
                lease.add(digest)
            self._send_blobs(repository, image, blobs)
            for manifest in manifests:
                reference = name.tag if manifest.digest == target.digest else manifest.digest
                raw = self._store.content.read(manifest.name, MANIFEST_LIMIT_BYTES)
                repository.put_manifest(reference, manifest.media_type, raw)
        self._note(image, target, blobs)
        self._tell(Progress(f"{name.tag}: digest: {target.digest} size: {target.size}"))
        self._tell(Progress(aux={"Tag": name.tag, "Digest": target.digest, "Size": target.size}))
        self._store.tell("push", image, name.familiar_repository, actor=name.familiar)

    def _content(self, image: Image) -> tuple[Descriptor, list[Descriptor], dict[Digest, Descriptor]]:
        """What goes out: the target, the manifests (those it refers to first), the blobs they name."""
        target = self._store.index.target(self._name) or image.descriptor
        tree = Tree(self._store.content, target)
        whole = self._platform is None and self._is_whole(target)
        if not whole:
            chosen = choose(tree.candidates, (self._platform,)) if self._platform else [_own(tree, image)]
            target = msgspec.structs.replace(chosen[0].descriptor, platform=None, annotations=None)
        manifests, blobs = self._walk(target)
        return target, manifests, blobs

    def _is_whole(self, descriptor: Descriptor) -> bool:
        """Whether everything that a target names is here."""
        if not self._store.content.has(descriptor.name):
            return False
        document = read_document(self._store.content, descriptor)
        if isinstance(document, Index):
            return all(self._is_whole(child) for child in document.manifests)
        return all(self._store.content.has(part.name) for part in (document.config, *document.layers))

    def _walk(self, descriptor: Descriptor) -> tuple[list[Descriptor], dict[Digest, Descriptor]]:
        document = read_document(self._store.content, descriptor)
        if isinstance(document, Manifest):
            return [descriptor], {part.name: part for part in (*document.layers, document.config)}
        manifests: list[Descriptor] = []
        blobs: dict[Digest, Descriptor] = {}
        for child in document.manifests:
            inner, named = self._walk(child)
            manifests += inner
            blobs |= named
        return [*manifests, descriptor], blobs

    # ── layers that came uncompressed ───────────────────────────────────────────────────────────────────────────────────────────

    def _compressed(self, lease: Lease, image: Image) -> Image:
        """The image with gzip layers only; recorded anew when that changed its manifest."""
        if not any(layer.media_type in (OCI_LAYER, DOCKER_LAYER) for layer in image.layers):
            return image
        layers = tuple(self._compress(lease, layer) for layer in image.layers)
        raw_config = self._store.content.size(image.id)
        config = Descriptor("application/vnd.oci.image.config.v1+json", str(image.id), raw_config)
        manifest = write_document(self._store.content, lease, Manifest(2, config, layers, OCI_MANIFEST), OCI_MANIFEST)
        document = ImageDocument(image.config, manifest, manifest, layers, image.size_bytes)
        names = [name for name in self._store.index.references(image.id) if name.tag]

        def change(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM image_blobs WHERE image = ?", (str(image.id),))
            put_image(connection, image.id, document, parent=image.parent)
            for name in names:
                put_tag(connection, name, image.id, manifest)

        before = self._store.index.blobs_of(image.id)
        self._store.database.write(change).result()
        self._store.content.collect(self._store.index.blobs, only=before)
        return self._store.index.get(image.id)

    def _compress(self, lease: Lease, layer: Descriptor) -> Descriptor:
        if layer.media_type not in (OCI_LAYER, DOCKER_LAYER):
            return layer
        self._cancel.check()
        self._tell(Progress("Compressing", id=layer.name.short))
        fd = self._store.content.open(layer.name)
        try:
            return recompress(self._store.content, lease, fd)
        finally:
            os.close(fd)

    # ── blobs ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _send_blobs(self, repository: Repository, image: Image, blobs: dict[Digest, Descriptor]) -> None:
        shown = _shown(image)
        for digest in blobs:
            if digest in shown:
                self._tell(Progress("Preparing", id=shown[digest]))
        pool = ThreadPoolExecutor(self._store.effort.uploads, thread_name_prefix="upload")
        try:
            sending = [pool.submit(self._send, repository, blob, shown.get(digest, "")) for digest, blob in blobs.items()]
            for future in sending:
                future.result()
        except BaseException:
            self._cancel.set()
            pool.shutdown(cancel_futures=True)
            raise
        pool.shutdown()

    def _send(self, repository: Repository, blob: Descriptor, shown: str) -> None:
        def tell(status: str, current: int = 0) -> None:
            if shown:
                self._tell(Progress(status, shown, current, blob.size if current else 0))

        if repository.has_blob(blob.name):
            tell("Layer already exists")
            return
        for source in self._sources(blob.name):
            if repository.mount(blob.name, source):
                tell(f"Mounted from {source}")
                return
        repository.upload(blob.name, blob.size, lambda offset: self._read(blob.name, offset, lambda done: tell("Pushing", done)))
        tell("Pushed")

    def _sources(self, digest: Digest) -> list[str]:
        """Other repositories of this registry that are known to have a blob."""
        prefix = f"{self._name.domain}/"
        rows = self._store.database.read("SELECT repository FROM blob_origins WHERE digest = ?", (str(digest),))
        mine = [row[0].removeprefix(prefix) for row in rows if row[0].startswith(prefix) and row[0] != self._name.repository]
        return mine[:_MOUNT_SOURCES]

    def _read(self, digest: Digest, offset: int, tell: Callable[[int], None]) -> Iterator[bytes]:
        fd = self._store.content.open(digest)
        try:
            os.lseek(fd, offset, os.SEEK_SET)
            while piece := os.read(fd, _PIECE_BYTES):
                self._cancel.check()
                yield piece
                offset += len(piece)
                tell(offset)
        finally:
            os.close(fd)

    def _note(self, image: Image, target: Descriptor, blobs: dict[Digest, Descriptor]) -> None:
        """Remember the name by digest, and where the blobs are now."""
        by_digest = replace(self._name, tag="", digest=target.name)
        rows = [(str(digest), self._name.repository) for digest in blobs]

        def change(connection: sqlite3.Connection) -> None:
            put_tag(connection, by_digest, image.id, target)
            connection.executemany("INSERT OR IGNORE INTO blob_origins VALUES (?, ?)", rows)

        self._store.database.write(change).result()


def _own(tree: Tree, image: Image) -> Candidate:
    for candidate in tree.candidates:
        if candidate.config_digest == image.id:
            return candidate
    raise NotFound(f"content of image {image.id} is not here")


def _shown(image: Image) -> dict[Digest, str]:
    """What people see of a layer while it is pushed: Docker shows its diff_id."""
    return {layer.name: diff_id.short for layer, diff_id in zip(image.layers, image.config.diff_ids, strict=True)}
