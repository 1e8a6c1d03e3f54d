"""`docker save`: images as one archive that is both an OCI image layout and Docker's own format, as Docker writes since version 25.

The blobs are the ones that were pulled or loaded, byte for byte, so every digest survives the journey. Nothing is kept in memory
but the documents.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from carrack.archive.writer import CHUNK_BYTES, END, directory_header, file_header, padding
from carrack.content import ContentStore
from carrack.errors import DataCorrupt, NotFound
from carrack.images.image import Image
from carrack.images.index import canonical
from carrack.images.oci_layout import CONTAINERD_NAME, REF_NAME, Candidate, Tree, choose
from carrack.images.platforms import blobs_of
from carrack.images.store import ImageStore
from carrack.oci.descriptor import OCI_INDEX, Descriptor, Index
from carrack.oci.digest import Digest
from carrack.oci.platform import Platform
from carrack.oci.reference import Reference


@dataclass(slots=True)
class _Part:
    """One image of the archive."""

    image: Image
    target: Descriptor
    chosen: Candidate
    blobs: list[Digest]
    names: list[Reference] = field(default_factory=list)


def save(store: ImageStore, refs: Sequence[str], platforms: Sequence[Platform] = ()) -> Iterator[bytes]:
    """The archive of some images in pieces. Everything is looked up before this returns: NotFound, InvalidParameter.

    A repository without a tag stands for all its tags, an id for the image without a name. Without `platforms` an image that
    came for several goes out whole, as far as its blobs are here. A blob that is corrupt on disk breaks the archive
    off with DataCorrupt.
    """
    parts = _parts(store, refs, platforms)
    for part in parts:
        store.tell("save", part.image, str(part.image.id))
    return _protected(store.content, parts)


def save_image(
    store: ImageStore, image: Image, names: Sequence[Reference], annotations: Mapping[str, str] | None = None
) -> Iterator[bytes]:
    """The archive of one image, called in it whatever the caller says; `annotations` are for its index.json. Raises NotFound."""
    parts = [
        _Part(image, msgspec.structs.replace(target, annotations=dict(annotations or {}) or None), chosen, blobs, list(names))
        for target, chosen, blobs in _targets(store, image, None, ())
    ]
    return _protected(store.content, parts)


def _protected(content: ContentStore, parts: Sequence[_Part]) -> Iterator[bytes]:
    with content.lease() as lease:
        for part in parts:
            for digest in part.blobs:
                lease.add(digest)
        yield from _stream(content, parts)


def _parts(store: ImageStore, refs: Sequence[str], platforms: Sequence[Platform]) -> list[_Part]:
    parts: dict[str, _Part] = {}
    for ref in refs:
        for image, name in _wanted(store, ref):
            for target, chosen, blobs in _targets(store, image, name, platforms):
                part = parts.setdefault(target.digest, _Part(image, target, chosen, blobs))
                if name is not None and name not in part.names:
                    part.names.append(name)
    return list(parts.values())


def _wanted(store: ImageStore, ref: str) -> list[tuple[Image, Reference | None]]:
    """What one argument stands for: (image, the name to save it under)."""
    resolved = store.index.resolve(ref) if not _is_repository(ref) else None
    if resolved is None:
        tagged = [(name, image) for name, image in store.index.repository(Reference.parse(ref).repository) if name.tag]
        if tagged:
            return [(store.index.get(image), name) for name, image in tagged]
        resolved = store.index.resolve(ref)
    name = resolved.name if resolved.name is not None and resolved.name.tag else None
    return [(store.index.get(resolved.id), name)]


def _is_repository(ref: str) -> bool:
    """Whether a name was given without tag and digest."""
    if len(ref.removeprefix("sha256:")) == 64:
        return False
    reference = Reference.parse(ref)
    return not reference.tag and reference.digest is None


def _targets(
    store: ImageStore, image: Image, name: Reference | None, platforms: Sequence[Platform]
) -> Iterator[tuple[Descriptor, Candidate, list[Digest]]]:
    target = (store.index.target(canonical(name)) if name is not None else None) or image.descriptor
    tree = Tree(store.content, target)
    if platforms:
        for candidate in choose(tree.candidates, platforms):
            yield candidate.descriptor, candidate, blobs_of(candidate)
        return
    own = next((candidate for candidate in tree.candidates if candidate.config_digest == image.id), None)
    if own is None:
        raise NotFound(f"content of image {image.id} is not here")
    yield target, own, list(dict.fromkeys(tree.present))


def _stream(content: ContentStore, parts: Sequence[_Part]) -> Iterator[bytes]:
    yield directory_header("blobs")
    yield directory_header("blobs/sha256")
    for digest in sorted({digest for part in parts for digest in part.blobs}):
        yield from _blob(content, digest)
    documents = {
        "index.json": msgspec.json.encode(_index(parts)),
        "manifest.json": msgspec.json.encode(_manifest(parts)),
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
    }
    repositories = _repositories(parts)
    if repositories:
        documents["repositories"] = msgspec.json.encode(repositories)
    for name, encoded in documents.items():
        yield file_header(name, len(encoded)) + encoded + padding(len(encoded))
    yield END


def _blob(content: ContentStore, digest: Digest) -> Iterator[bytes]:
    size = content.size(digest)
    fd = content.open(digest)
    try:
        yield file_header(f"blobs/{digest.algorithm}/{digest.encoded}", size)
        found = hashlib.new(digest.algorithm)
        left = size
        while left:
            piece = os.read(fd, min(left, CHUNK_BYTES))
            if not piece:
                raise DataCorrupt(f"blob {digest} is shorter than its size")
            found.update(piece)
            left -= len(piece)
            if not left and found.hexdigest() != digest.encoded:
                raise DataCorrupt(f"blob {digest} is corrupt on disk")
            yield piece
        if size % 512:
            yield padding(size)
    finally:
        os.close(fd)


def _index(parts: Sequence[_Part]) -> Index:
    """index.json: one entry per name, as containerd and Docker look for them."""
    entries: list[Descriptor] = []
    for part in parts:
        if not part.names:
            entries.append(part.target)
        for name in part.names:
            annotations = {**(part.target.annotations or {}), CONTAINERD_NAME: str(name), REF_NAME: name.tag}
            entries.append(msgspec.structs.replace(part.target, annotations=annotations))
    return Index(2, tuple(entries), OCI_INDEX)


def _manifest(parts: Sequence[_Part]) -> list[dict[str, object]]:
    """manifest.json: Docker's own table of contents."""
    items: list[dict[str, object]] = []
    for part in parts:
        layers = part.chosen.manifest.layers
        diff_ids = part.chosen.config.rootfs.diff_ids
        items.append(
            {
                "Config": _path(part.chosen.config_digest),
                "RepoTags": [name.familiar for name in part.names] or None,
                "Layers": [_path(layer.name) for layer in layers],
                "LayerSources": {
                    diff_id: {"mediaType": layer.media_type, "size": layer.size, "digest": layer.digest}
                    for diff_id, layer in zip(diff_ids, layers, strict=True)
                },
            }
        )
    return items


def _repositories(parts: Sequence[_Part]) -> dict[str, dict[str, str]]:
    """repositories: what Docker before 1.10 looked at, still written by all."""
    found: dict[str, dict[str, str]] = {}
    for part in parts:
        layers = part.chosen.manifest.layers
        for name in part.names:
            if layers:
                found.setdefault(name.familiar_repository, {})[name.tag] = layers[-1].name.encoded
    return found


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.encoded}"
