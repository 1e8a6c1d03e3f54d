"""The parts of an image that came for several platforms: what its index names, what of it is here, what each part takes.

Docker calls a part a manifest summary. An attestation belongs to the manifest it speaks of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from carrack.errors import InvalidParameter
from carrack.images.image import Image
from carrack.images.oci_layout import ATTESTATION, REFERENCE_DIGEST, REFERENCE_TYPE, read_document
from carrack.images.store import CONFIG_LIMIT_BYTES, ImageStore
from carrack.oci.descriptor import DOCKER_CONFIG, OCI_CONFIG, Descriptor, Index, Manifest
from carrack.oci.digest import Digest, chain_id
from carrack.oci.image_config import ImageConfig
from carrack.oci.platform import Platform
from carrack.oci.reference import Reference

_DEPTH_LIMIT = 4
_PARTS_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Identity:
    """Where an image came from, as far as is known without asking anyone."""

    pulled_from: tuple[str, ...] = ()
    """Repositories, in full."""


@dataclass(frozen=True, slots=True)
class ManifestSummary:
    """One manifest of an image's target."""

    descriptor: Descriptor
    available: bool
    """Its manifest and all it names are here."""
    content_bytes: int
    """What of it is here, as blobs."""
    unpacked_bytes: int = 0
    kind: str = "unknown"
    """image, attestation or unknown."""
    platform: Platform | None = None
    containers: tuple[str, ...] = ()
    attests: str = ""
    """An attestation's subject: the digest of a manifest."""
    identity: Identity | None = None


def parts(store: ImageStore, target: Descriptor, identity: Identity | None = None) -> list[ManifestSummary]:
    """Every manifest that can be reached from a target, in the order of its indexes. Reads the documents, not the layers."""
    found: list[ManifestSummary] = []
    _walk(store, target, identity, found, 0)
    return found


def identity_of(image: Image) -> Identity | None:
    """What an image's names by digest say of its origin; None when they say nothing."""
    repositories = dict.fromkeys(Reference.parse(name).repository for name in image.repo_digests)
    return Identity(tuple(repositories)) if repositories else None


def _walk(store: ImageStore, descriptor: Descriptor, identity: Identity | None, found: list[ManifestSummary], depth: int) -> None:
    if depth > _DEPTH_LIMIT or len(found) > _PARTS_LIMIT:
        raise InvalidParameter("invalid image index: too many manifests, or nested too deeply")
    if not store.content.has(descriptor.name):
        found.append(_absent(descriptor))
        return
    document = read_document(store.content, descriptor)
    if isinstance(document, Manifest):
        found.append(_present(store, descriptor, document, identity))
        return
    for child in document.manifests:
        _walk(store, child, identity, found, depth + 1)


def _absent(descriptor: Descriptor) -> ManifestSummary:
    kind, attests = _kind_by_reference(descriptor)
    platform = descriptor.platform.value() if descriptor.platform is not None and kind == "image" else None
    return ManifestSummary(descriptor, False, 0, kind=kind, platform=platform, attests=attests)


def _kind_by_reference(descriptor: Descriptor) -> tuple[str, str]:
    """What the index says a manifest is: (kind, what it attests)."""
    annotations = descriptor.annotations or {}
    if annotations.get(REFERENCE_TYPE) == ATTESTATION:
        return "attestation", annotations.get(REFERENCE_DIGEST, "")
    if REFERENCE_TYPE in annotations or (descriptor.platform is not None and descriptor.platform.os == "unknown"):
        return "unknown", ""
    return "image", ""


def _present(store: ImageStore, descriptor: Descriptor, manifest: Manifest, identity: Identity | None) -> ManifestSummary:
    blobs = (manifest.config, *manifest.layers)
    here = {blob.name: blob.size for blob in blobs if store.content.has(blob.name)}
    available = all(blob.name in here for blob in blobs)
    content_bytes = descriptor.size + sum(here.values())
    kind, attests = _kind_by_reference(descriptor)
    if kind != "image" or manifest.config.media_type not in (OCI_CONFIG, DOCKER_CONFIG):
        return ManifestSummary(descriptor, available, content_bytes, kind=kind if attests else "unknown", attests=attests)
    platform = descriptor.platform.value() if descriptor.platform is not None else None
    unpacked_bytes = 0
    if manifest.config.name in here:
        config = ImageConfig.decode(store.content.read(manifest.config.name, CONFIG_LIMIT_BYTES))
        platform = platform or config.platform
        unpacked_bytes = unpacked(store, config.diff_ids)
    uses = tuple(use.id for use in store.in_use(manifest.config.name))
    return ManifestSummary(
        descriptor, available, content_bytes, unpacked_bytes, "image", platform, uses, identity=identity if available else None
    )


def unpacked(store: ImageStore, diff_ids: Sequence[Digest]) -> int:
    """What a stack of layers takes unpacked; 0 when it is not."""
    chain = chain_id(tuple(diff_ids))
    if chain is None or not store.snapshots.has(chain):
        return 0
    return sum(layer.size_bytes for layer in store.snapshots.chain(chain))


def children(store: ImageStore, target: Descriptor) -> tuple[Descriptor, ...]:
    """The manifests an index names; of a manifest none."""
    if not store.content.has(target.name):
        return ()
    document = read_document(store.content, target)
    return document.manifests if isinstance(document, Index) else ()
