"""Sending the cache of a build away: to a registry, into an OCI layout (a tar for the client), or inline in the image itself."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Protocol

import msgspec

from carrack.build.cache import CACHE_MOUNT, BuildCache, Record
from carrack.build.exchange import MEDIA_TYPE, CacheDocument, TravellingMount, TravellingRecord, TravellingSum
from carrack.build.image_export import ImageExporter, ImageWish
from carrack.build.plan import Plan
from carrack.build.ports import FileTrees, Packed, PackOptions, Tree
from carrack.build.request import CacheReference
from carrack.build.solver import Result
from carrack.build.stacks import tree_of
from carrack.content import ContentStore, Lease
from carrack.distribution.cancellation import Cancellation
from carrack.errors import InvalidParameter
from carrack.images.store import ImageStore, write_bytes
from carrack.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor, Index, Manifest
from carrack.oci.digest import Digest
from carrack.snapshots import Snapshotter

_PIECE_BYTES = 1 << 20


class CacheRegistry(Protocol):
    """Where caches are kept by name (wiring joins the registry client)."""

    def read(self, reference: str, credentials: Mapping[str, str]) -> tuple[Descriptor, bytes]:
        """The manifest or index of a name. Raises NotFound, Unauthorized, Unavailable."""

    def blob(self, reference: str, credentials: Mapping[str, str], digest: Digest) -> Iterator[bytes]:
        """A blob, piece by piece, not verified."""

    def write(self, reference: str, credentials: Mapping[str, str], blobs: Iterable[Descriptor], manifest: bytes) -> None:
        """Send what is missing of the blobs (from the content store), then the manifest under the name."""


class CacheExporter:
    """Makes documents of records and sends them. Blocking."""

    def __init__(
        self, store: ImageStore, cache: BuildCache, files: FileTrees, exporter: ImageExporter, registry: CacheRegistry
    ) -> None:
        self._store = store
        self._cache = cache
        self._files = files
        self._exporter = exporter
        self._registry = registry

    def inline(self, plan: Plan, results: Mapping[str, Result]) -> bytes:
        """The document that goes into the image's own configuration: the steps of its last stage."""
        keys = {results[vertex.digest].key for vertex in plan.target.made}
        return CacheDocument(tuple(_travelling(self._store.snapshots, each) for each in self._records(keys))).encoded()

    def export(
        self,
        reference: CacheReference,
        plans: Sequence[Plan],
        results: Mapping[str, Result],
        credentials: Mapping[str, str],
        cancel: Cancellation,
        target_fd: int = -1,
    ) -> None:
        """Send the cache where the reference says. Raises InvalidParameter, Unauthorized, Unavailable, Cancelled."""
        attributes = reference.attributes
        level = attributes.get("compression-level", "")
        wish = ImageWish(
            compression=attributes.get("compression", "gzip"),
            level=int(level) if level else None,
            force_compression=_is_true(attributes, "force-compression"),
        )
        with self._store.assembling() as lease:
            document = self._document(plans, results, wish, attributes, lease, cancel)
            content = self._store.content
            config = write_bytes(content, lease, document.encoded(), MEDIA_TYPE)
            manifest = msgspec.json.encode(Manifest(2, config, document.all_blobs(), OCI_MANIFEST))
            blobs = (config, *document.all_blobs())
            if reference.type == "registry":
                self._registry.write(attributes["ref"], credentials, blobs, manifest)
            elif target_fd >= 0:
                write_layout(content, blobs, manifest, target_fd, attributes.get("tag", "latest"), cancel)
            else:
                raise InvalidParameter(f"cache of type {reference.type!r} needs somebody to take it")

    def _document(
        self,
        plans: Sequence[Plan],
        results: Mapping[str, Result],
        wish: ImageWish,
        attributes: Mapping[str, str],
        lease: Lease,
        cancel: Cancellation,
    ) -> CacheDocument:
        everything = attributes.get("mode") == "max"
        of_target = {results[vertex.digest].key for plan in plans for vertex in plan.target.made}
        keys = {result.key for result in results.values() if result.key} if everything else of_target
        records = self._records(keys)
        blobs: dict[str, Descriptor] = {}
        sums: list[TravellingSum] = []
        for chain in dict.fromkeys(record.chain_id for record in records if record.chain_id is not None):
            cancel.check()
            sums += [TravellingSum(str(chain), selection, digest) for selection, digest in self._cache.sums_of(chain)]
            for layer in self._exporter.layers(plans, chain, wish, lease, cancel):
                blobs[str(layer.diff_id)] = layer.blob
        mounts = tuple(self._mounts(lease, wish, cancel)) if attributes.get("mounts") == "true" else ()
        travelling = tuple(_travelling(self._store.snapshots, record) for record in records)
        return CacheDocument(travelling, tuple(sums), blobs, mounts)

    def _records(self, keys: Iterable[str]) -> list[Record]:
        return [record for key in sorted(keys) if (record := self._cache.find(key)) is not None]

    def _mounts(self, lease: Lease, wish: ImageWish, cancel: Cancellation) -> Iterator[TravellingMount]:
        for record in self._cache.all():
            if record.kind != CACHE_MOUNT:
                continue
            note = record.note or {}
            options = PackOptions(wish.compression, wish.level)
            tree = tree_of(self._cache.root / record.directory)
            pack = partial(self._pack, tree, options, cancel)
            blob = self._exporter.packed(pack, wish.compression, lease)[1]
            yield TravellingMount(note.get("id", ""), note.get("beginning", ""), note.get("sharing", "shared"), blob)

    def _pack(self, tree: Tree, options: PackOptions, cancel: Cancellation, target_fd: int) -> Packed:
        return self._files.pack_tree(tree, target_fd, options, cancel)


def check_target(reference: CacheReference) -> None:
    """Raises InvalidParameter for what no cache can be sent to, before anything is built for it."""
    attributes = reference.attributes
    if reference.type not in _TARGETS:
        raise InvalidParameter(f"unsupported cache type {reference.type!r}: want one of {', '.join(_TARGETS)}")
    if reference.type == "registry" and not attributes.get("ref"):
        raise InvalidParameter("cache of type registry needs ref=NAME")
    for name, known in _VALUES.items():
        if attributes.get(name, known[0]) not in known:
            raise InvalidParameter(f"invalid value {attributes[name]!r} of the cache's {name}: want {' or '.join(known)}")
    if attributes.get("compression-level", "0").lstrip("-").isdigit() is False:
        raise InvalidParameter(f"invalid compression-level {attributes['compression-level']!r} of the cache")
    for name in ("image-manifest", "oci-mediatypes"):
        if attributes.get(name, "true") != "true":
            raise InvalidParameter(f"a cache with {name}=false cannot be made: it is an OCI image manifest, which registries take")


def forgives(reference: CacheReference) -> bool:
    """Whether the build goes on when its cache cannot be sent (``ignore-error=true``)."""
    return _is_true(reference.attributes, "ignore-error")


_TARGETS = ("registry", "local", "oci", "inline")
_VALUES = {
    "mode": ("min", "max"),
    "compression": ("gzip", "zstd", "uncompressed"),
    "force-compression": ("false", "true"),
    "ignore-error": ("false", "true"),
    "mounts": ("false", "true"),
}


def _is_true(attributes: Mapping[str, str], name: str) -> bool:
    return attributes.get(name) == "true"


def write_layout(
    content: ContentStore, blobs: Iterable[Descriptor], manifest: bytes, target_fd: int, tag: str, cancel: Cancellation
) -> None:
    """An OCI image layout as a tar: its marker, the index, the manifest and every blob."""
    named = Descriptor(
        OCI_MANIFEST, str(Digest.of(manifest)), len(manifest), annotations={"org.opencontainers.image.ref.name": tag}
    )
    index = msgspec.json.encode(Index(2, (named,), OCI_INDEX))
    with os.fdopen(os.dup(target_fd), "wb") as file, tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(archive, "index.json", index)
        _add(archive, _place(named.name), manifest)
        for blob in blobs:
            cancel.check()
            member = tarfile.TarInfo(_place(blob.name))
            member.size = blob.size
            with os.fdopen(content.open(blob.name), "rb") as stream:
                archive.addfile(member, stream)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _place(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.encoded}"


def _travelling(snapshots: Snapshotter, record: Record) -> TravellingRecord:
    stack = reversed(snapshots.chain(record.chain_id))
    return TravellingRecord(
        record.key,
        tuple(str(layer.diff_id) for layer in stack),
        record.parts,
        record.place,
        record.description,
        record.created,
        record.size_bytes,
    )
