"""Using a cache that came from elsewhere: its records are known at once, its layers are fetched when a step needs their files."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from carrack.build.cache import BuildCache
from carrack.build.cache_export import CacheRegistry
from carrack.build.cache_key import Key
from carrack.build.exchange import MEDIA_TYPE, CacheDocument, TravellingRecord, combined, decode, inline_of
from carrack.build.ports import LocalContext
from carrack.build.request import CacheReference
from carrack.content import Lease
from carrack.distribution.cancellation import Cancellation
from carrack.errors import CarrackError, DataCorrupt, InvalidParameter, NotFound
from carrack.images.images import Images
from carrack.images.registries import small_blob
from carrack.oci.descriptor import Descriptor, Index, Manifest, decode_manifest
from carrack.oci.digest import Digest
from carrack.oci.image_config import ImageConfig
from carrack.oci.reference import Reference

log = logging.getLogger("carrack.build")

_DOCUMENT_LIMIT_BYTES = 256 << 20
_BLOB_LIMIT_BYTES = 64 << 30
_PLATFORMS = 50
"""How many images of an index are looked through."""


@dataclass(frozen=True, slots=True)
class Imported:
    """One cache: what it says, and how its blobs are read."""

    document: CacheDocument
    read: Callable[[Digest], Iterator[bytes]]
    source: str


class CacheImporter:
    """Opens caches. Blocking."""

    def __init__(self, images: Images, registry: CacheRegistry) -> None:
        self._images = images
        self._registry = registry

    def open(
        self, reference: CacheReference, contexts: Mapping[str, LocalContext], credentials: Mapping[str, str]
    ) -> Imported | None:
        """The cache a reference means; None when there is an image, but no cache in it. Raises NotFound, Unavailable, …"""
        attributes = reference.attributes
        if reference.type in ("local", "oci"):
            context = contexts.get(attributes.get("context", ""))
            if context is None:
                raise NotFound(f"the cache of {attributes.get('src', 'type local')} was not sent")
            return _from_layout(context, attributes.get("tag", ""))
        if reference.type not in ("registry", "inline"):
            raise InvalidParameter(f"unsupported cache type {reference.type!r}: want registry, local, oci or inline")
        name = attributes.get("ref", "")
        if not name:
            raise InvalidParameter("cache of type registry needs ref=NAME")
        return self._from_image(name) or self._from_registry(name, credentials)

    def _from_image(self, name: str) -> Imported | None:
        """An image that is here, with a cache of its own."""
        try:
            image = self._images.get(name)
        except NotFound:
            return None
        content = self._images.store.content
        try:
            config = content.read(image.id, _DOCUMENT_LIMIT_BYTES)
        except NotFound:
            return None
        document = inline_of(config, tuple(map(str, image.config.rootfs.diff_ids)), image.layers)
        return None if document is None else Imported(document, lambda digest: _pieces(content.open(digest)), name)

    def _from_registry(self, name: str, credentials: Mapping[str, str]) -> Imported | None:
        registry = self._registry
        descriptor, raw = registry.read(name, credentials)
        manifest = decode_manifest(raw, descriptor.media_type)
        manifests = [manifest] if isinstance(manifest, Manifest) else self._images_of(manifest, name, credentials)
        documents = [self._document_of(each, name, credentials) for each in manifests]
        document = combined([each for each in documents if each is not None])
        return None if document is None else Imported(document, lambda digest: registry.blob(name, credentials, digest), name)

    def _images_of(self, index: Index, name: str, credentials: Mapping[str, str]) -> list[Manifest]:
        """The manifests of an index, of every platform: a build may be for several."""
        found = []
        for each in index.manifests[:_PLATFORMS]:
            if each.platform is not None and each.platform.os == "unknown":
                continue  # a statement on another one
            parsed = Reference.parse(name)
            _, raw = self._registry.read(str(Reference(parsed.domain, parsed.path, "", each.name)), credentials)
            if Digest.of(raw) != each.name:
                raise DataCorrupt(f"manifest {each.digest} is not what its name says")
            manifest = decode_manifest(raw, each.media_type)
            if isinstance(manifest, Manifest):
                found.append(manifest)
        return found

    def _document_of(self, manifest: Manifest, name: str, credentials: Mapping[str, str]) -> CacheDocument | None:
        """The cache that a manifest is, or that its image has inline."""
        blob = self._registry.blob(name, credentials, manifest.config.name)
        config = small_blob(blob, manifest.config, _DOCUMENT_LIMIT_BYTES)
        if manifest.config.media_type == MEDIA_TYPE:
            return decode(config)
        image = ImageConfig.decode(config)
        return inline_of(config, tuple(image.rootfs.diff_ids), manifest.layers)


class Imports:
    """The caches of one build, looked through in their order."""

    def __init__(self, images: Images, cache: BuildCache, caches: Sequence[Imported]) -> None:
        self._images = images
        self._cache = cache
        self._caches = caches
        self._lock = threading.Lock()
        self._records: dict[str, tuple[TravellingRecord, Imported]] = {}
        self._chains: dict[str, tuple[TravellingRecord, Imported]] = {}
        self._sums: dict[tuple[str, str], str] = {}
        for imported in caches:
            for record in imported.document.records:
                self._records.setdefault(record.key, (record, imported))
                self._chains.setdefault(str(record.chain_id), (record, imported))
            for each in imported.document.sums:
                self._sums.setdefault((each.chain_id, each.selection), each.digest)

    def find(self, key: Key) -> TravellingRecord | None:
        """A record of that key."""
        found = self._records.get(key.digest)
        return found[0] if found is not None else None

    def sum_of(self, chain_id: Digest, selection: str) -> str | None:
        """What a selection reads of a stack, when a cache says so."""
        return self._sums.get((str(chain_id), selection))

    def mount(self, id: str, beginning: str) -> tuple[Descriptor, Imported] | None:
        """The content of a cache mount."""
        for imported in self._caches:
            for mount in imported.document.mounts:
                if (mount.id, mount.beginning) == (id, beginning):
                    return mount.blob, imported
        return None

    def need(self, chain_id: Digest | None, cancel: Cancellation) -> str:
        """Have a stack here: fetched, unpacked, and recorded like one that was made here. The key of its record, "" for none."""
        if chain_id is None or self._images.store.snapshots.has(chain_id):
            return ""
        found = self._chains.get(str(chain_id))
        if found is None:
            raise NotFound(f"layer {chain_id} does not exist")
        record, imported = found
        with self._lock:
            if self._images.store.snapshots.has(chain_id):
                return record.key
            self._fetch(record, imported, cancel)
        return record.key

    def _fetch(self, record: TravellingRecord, imported: Imported, cancel: Cancellation) -> None:
        store = self._images.store
        made: list[Digest] = []
        diff_ids = [Digest.parse(diff_id) for diff_id in record.diff_ids]
        with store.assembling() as lease:
            blobs = [self._blob(imported, diff_id, lease, cancel) for diff_id in record.diff_ids]
            try:
                store.builder.ensure(diff_ids, [blob.name for blob in blobs], made)
                self._cache.put(
                    Key(record.parts),
                    chain_id=record.chain_id,
                    place=record.place,
                    description=record.description,
                    size_bytes=record.size_bytes,
                    created=record.created,
                )
            except BaseException:
                store.release(made)
                raise

    def _blob(self, imported: Imported, diff_id: str, lease: Lease, cancel: Cancellation) -> Descriptor:
        descriptor = imported.document.blobs.get(diff_id)
        if descriptor is None:
            raise DataCorrupt(f"the build cache of {imported.source} names layer {diff_id} and no blob of it")
        return fetched(self._images, imported, descriptor, lease, cancel)


def fetched(images: Images, imported: Imported, descriptor: Descriptor, lease: Lease, cancel: Cancellation) -> Descriptor:
    """A cache's blob, in the content store."""
    content = images.store.content
    lease.add(descriptor.name)
    if not content.has(descriptor.name):
        with content.writer(lease, expected=descriptor.name) as writer:
            for piece in imported.read(descriptor.name):
                cancel.check()
                writer.write(piece)
            writer.commit(descriptor.name, descriptor.size)
    return descriptor


def _from_layout(context: LocalContext, tag: str) -> Imported:
    def read(digest: Digest) -> Iterator[bytes]:
        fd = context.open(f"blobs/{digest.algorithm}/{digest.encoded}", _BLOB_LIMIT_BYTES)
        if fd is None:
            raise NotFound(f"the build cache lacks {digest}")
        yield from _pieces(fd)

    raw = context.read("index.json", _DOCUMENT_LIMIT_BYTES)
    if raw is None:
        raise NotFound("the build cache is no OCI image layout: it has no index.json")
    index = decode_manifest(raw)
    if not isinstance(index, Index):
        raise InvalidParameter("the build cache's index.json is no index")
    for descriptor in index.manifests:
        named = (descriptor.annotations or {}).get("org.opencontainers.image.ref.name", "")
        if tag and named != tag:
            continue
        manifest = decode_manifest(small_blob(read(descriptor.name), descriptor, _DOCUMENT_LIMIT_BYTES), descriptor.media_type)
        if isinstance(manifest, Manifest) and manifest.config.media_type == MEDIA_TYPE:
            return Imported(
                decode(small_blob(read(manifest.config.name), manifest.config, _DOCUMENT_LIMIT_BYTES)), read, "a layout"
            )
    raise NotFound("the layout holds no build cache of this kind")


def _pieces(fd: int) -> Iterator[bytes]:
    with os.fdopen(fd, "rb") as file:
        while piece := file.read(1 << 20):
            yield piece


def opened(
    importer: CacheImporter,
    references: Sequence[CacheReference],
    contexts: Mapping[str, LocalContext],
    credentials: Mapping[str, str],
    tell: Callable[[str], None],
) -> list[Imported]:
    """Every cache that can be opened; one that cannot is told of, and the build goes on without it."""
    found: list[Imported] = []
    for reference in references:
        named = reference.attributes.get("ref") or reference.attributes.get("src", reference.type)
        try:
            imported = importer.open(reference, contexts, credentials)
        except InvalidParameter:
            raise
        except CarrackError as error:
            tell(f"[Warning] cannot use the cache of {named}: {error.message}")
            continue
        if imported is None:
            tell(f"[Warning] there is no build cache in {named}")
        else:
            found.append(imported)
    return found
