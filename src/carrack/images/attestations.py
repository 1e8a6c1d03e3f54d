"""Statements about an image: the in-toto attestations that came with it (provenance, a bill of materials, …).

A builder puts them into a manifest of their own beside the image's, in the same index, annotated with the digest of the manifest
they speak of; each layer is one statement. Nothing is fetched, nothing verified: what is here is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from carrack.errors import DataCorrupt, NotFound
from carrack.images.oci_layout import ATTESTATION, REFERENCE_DIGEST, REFERENCE_TYPE, read_document
from carrack.images.parts import children
from carrack.images.store import ImageStore
from carrack.oci.descriptor import Descriptor, Manifest
from carrack.oci.platform import Platform, machine

PREDICATE_TYPE = "in-toto.io/predicate-type"
STATEMENT_LIMIT_BYTES = 64 << 20
"""A bill of materials may be large; a statement is answered whole."""


@dataclass(frozen=True, slots=True)
class Attestation:
    """One statement."""

    descriptor: Descriptor
    predicate_type: str
    statement: bytes | None = None
    """The JSON document as it was signed or made, when it was asked for."""


def attestations(
    store: ImageStore, target: Descriptor, platform: Platform | None, types: Sequence[str], *, with_statements: bool
) -> list[Attestation]:
    """The statements on the image of one platform (else the machine's), of these predicate types (else of all).

    Raises NotFound when the index has no such platform, or a statement that is asked for is not here; DataCorrupt for one that is
    no JSON.
    """
    manifests = children(store, target)
    if not manifests:
        return []
    wanted = platform or machine()
    subject = next((each for each in manifests if _is_image_for(each, wanted)), None)
    if subject is None:
        raise NotFound(f"no image for platform {wanted} in {target.digest}")
    found: list[Attestation] = []
    for each in manifests:
        annotations = each.annotations or {}
        if annotations.get(REFERENCE_TYPE) != ATTESTATION or annotations.get(REFERENCE_DIGEST) != subject.digest:
            continue
        if not store.content.has(each.name):
            continue
        document = read_document(store.content, each)
        if isinstance(document, Manifest):
            found += _statements(store, document, types, with_statements)
    return found


def _is_image_for(descriptor: Descriptor, wanted: Platform) -> bool:
    if REFERENCE_TYPE in (descriptor.annotations or {}) or descriptor.platform is None:
        return False
    return wanted.matches(descriptor.platform.value())


def _statements(store: ImageStore, manifest: Manifest, types: Sequence[str], with_statements: bool) -> list[Attestation]:
    found = []
    for layer in manifest.layers:
        predicate_type = (layer.annotations or {}).get(PREDICATE_TYPE, "")
        if predicate_type and (not types or predicate_type in types):
            found.append(Attestation(layer, predicate_type, _read(store, layer) if with_statements else None))
    return found


def _read(store: ImageStore, layer: Descriptor) -> bytes:
    if not store.content.has(layer.name):
        raise NotFound(f"attestation statement {layer.digest} is not available locally")
    content = store.content.read(layer.name, STATEMENT_LIMIT_BYTES)
    try:
        msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DataCorrupt(f"attestation statement {layer.digest} is not JSON: {error}") from error
    return content
