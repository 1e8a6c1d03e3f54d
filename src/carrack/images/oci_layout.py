"""OCI image layouts (image-spec `image-layout.md`): from index.json through indexes and manifests to images.

Of an image for several platforms one is taken as the image, the others stay beside it as content, so that saving or pushing it
again gives the whole. Attestations are content, never images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from carrack.content import ContentStore
from carrack.errors import InvalidParameter, NotFound
from carrack.images.members import Members
from carrack.images.store import CONFIG_LIMIT_BYTES, NewImage
from carrack.oci.descriptor import (
    DOCKER_CONFIG,
    INDEX_TYPES,
    MANIFEST_LIMIT_BYTES,
    MANIFEST_TYPES,
    OCI_CONFIG,
    Descriptor,
    Index,
    Manifest,
    decode_manifest,
)
from carrack.oci.digest import Digest
from carrack.oci.image_config import ImageConfig
from carrack.oci.platform import Platform, machine
from carrack.oci.reference import Reference

CONTAINERD_NAME = "io.containerd.image.name"
REF_NAME = "org.opencontainers.image.ref.name"
REFERENCE_TYPE = "vnd.docker.reference.type"
REFERENCE_DIGEST = "vnd.docker.reference.digest"
ATTESTATION = "attestation-manifest"
"""How builders mark, in an index, a manifest that speaks of another one."""
_LAYER_TYPES = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
)
_DEPTH_LIMIT = 4
_MANIFESTS_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A manifest that is an image, with what it holds."""

    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig

    @property
    def platform(self) -> Platform:
        return self.descriptor.platform.value() if self.descriptor.platform else self.config.platform

    @property
    def config_digest(self) -> Digest:
        return self.manifest.config.name


@dataclass(frozen=True, slots=True)
class Layout:
    """What a layout holds."""

    images: tuple[NewImage, ...]
    configs: frozenset[Digest]
    """The configurations of all its images, of every platform."""


class Tree:
    """Everything that can be reached from one target: the images in it and all content that is there."""

    def __init__(self, content: ContentStore, target: Descriptor) -> None:
        self._content = content
        self.candidates: list[Candidate] = []
        self.present: list[Digest] = []
        self._visited = 0
        self._walk(target, 0)

    def _walk(self, descriptor: Descriptor, depth: int) -> None:
        self._visited += 1
        if depth > _DEPTH_LIMIT or self._visited > _MANIFESTS_LIMIT:
            raise InvalidParameter("invalid image index: too many manifests, or nested too deeply")
        if not self._content.has(descriptor.name):
            if depth == 0:
                raise InvalidParameter(f"invalid archive: blob {descriptor.digest} is named but missing")
            return  # an index may name platforms that were not saved
        document = read_document(self._content, descriptor)
        self.present.append(descriptor.name)
        if isinstance(document, Index):
            for child in document.manifests:
                self._walk(child, depth + 1)
            return
        for part in (document.config, *document.layers):
            if self._content.has(part.name):
                self.present.append(part.name)
        self._add(descriptor, document)

    def _add(self, descriptor: Descriptor, manifest: Manifest) -> None:
        if REFERENCE_TYPE in (descriptor.annotations or {}) or manifest.config.media_type not in (OCI_CONFIG, DOCKER_CONFIG):
            return  # an attestation or another artifact
        if descriptor.platform is not None and descriptor.platform.os == "unknown":
            return  # an attestation of a builder that does not mark them
        if self._content.has(manifest.config.name):
            raw = self._content.read(manifest.config.name, CONFIG_LIMIT_BYTES)
            self.candidates.append(Candidate(descriptor, manifest, ImageConfig.decode(raw)))


def read_document(content: ContentStore, descriptor: Descriptor) -> Manifest | Index:
    """A manifest or an index of the store, checked against what refers to it. Raises InvalidParameter, NotFound, DataCorrupt."""
    if descriptor.media_type not in MANIFEST_TYPES | INDEX_TYPES:
        raise InvalidParameter(f"unsupported media type {descriptor.media_type!r} where a manifest is expected")
    raw = content.read(descriptor.name, MANIFEST_LIMIT_BYTES)
    if len(raw) != descriptor.size:
        raise InvalidParameter(f"manifest {descriptor.digest} has {len(raw)} bytes, not {descriptor.size}")
    return decode_manifest(raw, descriptor.media_type)


def choose(candidates: Sequence[Candidate], platforms: Sequence[Platform]) -> list[Candidate]:
    """The images of the platforms asked for; without a wish the one that runs here, or the only one. Raises NotFound."""
    if platforms:
        return [_first(candidates, platform) for platform in platforms]
    here = [candidate for candidate in candidates if machine().matches(candidate.platform)]
    if here:
        return here[:1]
    if len(candidates) == 1:
        return list(candidates)
    raise NotFound(f"no matching manifest for {machine()} in the manifest list entries")


def _first(candidates: Sequence[Candidate], platform: Platform) -> Candidate:
    for candidate in candidates:
        if platform.matches(candidate.platform):
            return candidate
    offered = ", ".join(sorted({str(candidate.platform) for candidate in candidates})) or "none"
    raise NotFound(f"no image for platform {platform}: there is {offered}")


def new_image(
    content: ContentStore,
    target: Descriptor,
    chosen: Candidate,
    names: tuple[Reference, ...],
    present: Sequence[Digest],
) -> NewImage:
    """An image about to be recorded, its layers checked to be layers and to be there. Raises InvalidParameter."""
    layers = chosen.manifest.layers
    if len(layers) != len(chosen.config.diff_ids):
        expected = len(chosen.config.diff_ids)
        raise InvalidParameter(f"invalid manifest, layers length mismatch: expected {expected}, got {len(layers)}")
    for layer in layers:
        if not content.has(layer.name):
            raise InvalidParameter(f"invalid archive: blob {layer.digest} is named but missing")
        if content.size(layer.name) != layer.size:
            raise InvalidParameter(f"blob {layer.digest} has {content.size(layer.name)} bytes, not {layer.size}")
        if not layer.media_type.startswith(_LAYER_TYPES):
            raise InvalidParameter(f"unsupported layer media type {layer.media_type!r}")
    mine = {chosen.config_digest, chosen.descriptor.name, *(layer.name for layer in layers)}
    attachments = tuple(digest for digest in dict.fromkeys(present) if digest not in mine)
    target = msgspec.structs.replace(target, annotations=None, platform=None)
    manifest = msgspec.structs.replace(chosen.descriptor, annotations=None)
    return NewImage(chosen.config_digest, chosen.config, manifest, target, layers, names, attachments)


def read(content: ContentStore, members: Members, platforms: Sequence[Platform]) -> Layout:
    """The images of a layout whose blobs are in the store. Raises InvalidParameter, NotFound, DataCorrupt."""
    index = decode_manifest(members.documents["index.json"], "")
    if not isinstance(index, Index):
        raise InvalidParameter("invalid archive: index.json is not an image index")
    images: list[NewImage] = []
    configs: set[Digest] = set()
    for names, targets in _groups(index):
        trees = [(target, Tree(content, target)) for target in targets]
        candidates = [(candidate, target, tree) for target, tree in trees for candidate in tree.candidates]
        configs |= {candidate.config_digest for candidate, _, _ in candidates}
        if not candidates:
            continue  # artifacts only
        for chosen in choose([candidate for candidate, _, _ in candidates], platforms):
            target, tree = next((target, tree) for candidate, target, tree in candidates if candidate is chosen)
            images.append(new_image(content, target, chosen, names, tree.present))
    if index.manifests and not images:
        raise InvalidParameter("invalid archive: index.json names no image")
    return Layout(tuple(images), frozenset(configs))


def _groups(index: Index) -> Iterator[tuple[tuple[Reference, ...], list[Descriptor]]]:
    """The targets of an index.json; those of one name are one image for several platforms."""
    named: dict[tuple[Reference, ...], list[Descriptor]] = {}
    for descriptor in index.manifests:
        names = _names(descriptor)
        if names:
            named.setdefault(names, []).append(descriptor)
        else:
            yield (), [descriptor]
    by_target: dict[tuple[str, ...], list[Reference]] = {}
    targets: dict[tuple[str, ...], list[Descriptor]] = {}
    for names, descriptors in named.items():
        key = tuple(descriptor.digest for descriptor in descriptors)
        by_target.setdefault(key, []).extend(names)
        targets[key] = descriptors
    for key, references in by_target.items():
        yield tuple(references), targets[key]


def _names(descriptor: Descriptor) -> tuple[Reference, ...]:
    """What an entry of index.json is called: containerd's annotation, or a whole name in the standard's own."""
    annotations = descriptor.annotations or {}
    text = annotations.get(CONTAINERD_NAME, "")
    if not text:
        text = annotations.get(REF_NAME, "")
        if "/" not in text and ":" not in text:
            return ()  # only a tag, and of what repository nobody says
    reference = Reference.parse(text)
    if reference.digest is not None and not reference.tag:
        return ()
    return (reference.with_default_tag(),)
