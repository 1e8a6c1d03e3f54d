"""What the registry must know of a manifest: its media type, what it names, what it refers to (image-spec `manifest.md`).

Bytes are kept exactly as they were sent; here they are only read. Accepted: OCI manifests and indexes, Docker's schema 2 and its
list, and the artifact manifest of image-spec 1.1-rc. Docker's schema 1 is refused on the way in, and still recognised on the way
out, because an adopted registry may hold it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from carrack.errors import InvalidParameter
from carrack.oci.descriptor import DOCKER_LIST, DOCKER_MANIFEST, MANIFEST_LIMIT_BYTES, OCI_INDEX, OCI_MANIFEST
from carrack.oci.digest import Digest
from carrack.registry.errors import ManifestInvalid, ManifestTooLarge

OCI_ARTIFACT = "application/vnd.oci.artifact.manifest.v1+json"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
_KNOWN = {
    OCI_MANIFEST: "image",
    DOCKER_MANIFEST: "image",
    OCI_INDEX: "index",
    DOCKER_LIST: "index",
    OCI_ARTIFACT: "artifact",
}
_PARTS = {"image": {"config", "layers"}, "index": {"manifests"}, "artifact": {"blobs"}}
_DESCRIPTOR_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """A manifest as the registry sees it. `blobs` and `manifests` are what must be there for it to be whole."""

    media_type: str
    blobs: tuple[Digest, ...] = ()
    manifests: tuple[Digest, ...] = ()
    subject: Digest | None = None
    artifact_type: str = ""
    annotations: dict[str, str] = field(default_factory=dict)

    @property
    def references(self) -> tuple[Digest, ...]:
        """Everything it names except its subject, which may come later or never."""
        return (*self.blobs, *self.manifests)


class _Part(msgspec.Struct, rename="camel"):
    digest: str
    size: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    media_type: str = ""
    urls: list[str] | None = None

    @property
    def is_foreign(self) -> bool:
        """Non-distributable layers live at their urls, not here (image-spec layer.md)."""
        return bool(self.urls) and ("foreign" in self.media_type or "nondistributable" in self.media_type)


class _Document(msgspec.Struct, rename="camel"):
    schema_version: int = 0
    media_type: str | None = None
    artifact_type: str | None = None
    config: _Part | None = None
    layers: list[_Part] | None = None
    manifests: list[_Part] | None = None
    blobs: list[_Part] | None = None
    subject: _Part | None = None
    annotations: dict[str, str] | None = None


class _MediaType(msgspec.Struct, rename="camel"):
    media_type: str | None = None


_decoder = msgspec.json.Decoder(_Document)
_media_type_decoder = msgspec.json.Decoder(_MediaType)


def read_manifest(content: bytes, content_type: str = "") -> ManifestFacts:
    """Judge a manifest that a client pushes with `content_type` (parameters already cut off).

    A document that can be read in two ways is refused (CVE-2021-41190). Raises ManifestTooLarge, ManifestInvalid.
    """
    if len(content) > MANIFEST_LIMIT_BYTES:
        raise ManifestTooLarge(f"manifest is larger than {MANIFEST_LIMIT_BYTES} bytes")
    members = _members(content)
    stated = members.get("mediaType")
    if stated and content_type and stated != content_type:
        raise ManifestInvalid(f"manifest's mediaType is {str(stated)[:120]!r}, its Content-Type {content_type[:120]!r}")
    media_type = str(stated or content_type or _guess(members))
    if media_type in (SCHEMA1, SCHEMA1_SIGNED) or members.get("schemaVersion") == 1:
        raise ManifestInvalid("Docker image manifest schema 1 is not supported: push it again with a client of 2017 or later")
    form = _KNOWN.get(media_type)
    if form is None:
        raise ManifestInvalid(f"manifest media type {media_type[:120]!r} is not supported")
    others = set().union(*(parts for name, parts in _PARTS.items() if name != form))
    if others & members.keys():
        raise ManifestInvalid(f"manifest is ambiguous: {media_type} with {', '.join(sorted(others & members.keys()))}")
    if form != "artifact" and members.get("schemaVersion") != 2:
        raise ManifestInvalid("manifest's schemaVersion is not 2")
    return _facts(content, media_type, form)


def stored_media_type(content: bytes) -> str:
    """The media type of a manifest in the store, whatever its age. Raises ManifestInvalid when it is not a JSON object."""
    try:
        stated = _media_type_decoder.decode(content).media_type
    except (msgspec.DecodeError, RecursionError):
        stated = None
    return stated or _guess(_members(content))


def stored_facts(content: bytes) -> ManifestFacts:
    """What a manifest in the store names; it may be older than our rules. Raises ManifestInvalid when that cannot be read."""
    members = _members(content)
    media_type = stored_media_type(content)
    form = _KNOWN.get(media_type)
    if form is None:
        return ManifestFacts(media_type, blobs=_schema1_blobs(members))
    return _facts(content, media_type, form)


def _members(content: bytes) -> dict[str, object]:
    try:
        document = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestInvalid(f"manifest is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise ManifestInvalid("manifest is not a JSON object")
    return document


def _guess(members: dict[str, object]) -> str:
    """The media type of a document that does not say it: OCI made the field optional, schema 1 never had it."""
    if members.get("schemaVersion") == 1:
        return SCHEMA1_SIGNED if "signatures" in members else SCHEMA1
    if "manifests" in members:
        return OCI_INDEX
    if "blobs" in members:
        return OCI_ARTIFACT
    return OCI_MANIFEST


def _facts(content: bytes, media_type: str, form: str) -> ManifestFacts:
    try:
        document = _decoder.decode(content)
    except (msgspec.ValidationError, RecursionError) as error:
        raise ManifestInvalid(f"manifest invalid: {error}") from error
    if form == "image" and (document.config is None or document.layers is None):
        raise ManifestInvalid("manifest invalid: an image manifest needs config and layers")
    if form == "index" and document.manifests is None:
        raise ManifestInvalid("manifest invalid: an index needs manifests")
    held = [document.config] if document.config else []
    held += [part for part in (document.layers or []) + (document.blobs or []) if not part.is_foreign]
    listed = document.manifests or []
    if len(held) + len(listed) > _DESCRIPTOR_LIMIT:
        raise ManifestInvalid(f"manifest names more than {_DESCRIPTOR_LIMIT} descriptors")
    artifact_type = document.artifact_type or (document.config.media_type if document.config else "")
    return ManifestFacts(
        media_type,
        blobs=_digests(held),
        manifests=_digests(listed),
        subject=_digests([document.subject])[0] if document.subject else None,
        artifact_type=artifact_type,
        annotations=document.annotations or {},
    )


def _digests(parts: list[_Part]) -> tuple[Digest, ...]:
    try:
        return tuple(dict.fromkeys(Digest.parse(part.digest) for part in parts))
    except InvalidParameter as error:
        raise ManifestInvalid(f"manifest invalid: {error.message}") from error


def _schema1_blobs(members: dict[str, object]) -> tuple[Digest, ...]:
    layers = members.get("fsLayers")
    if not isinstance(layers, list):
        return ()
    sums = [layer.get("blobSum") for layer in layers if isinstance(layer, dict)]
    return _digests([_Part(digest=item, size=0) for item in sums if isinstance(item, str)])
