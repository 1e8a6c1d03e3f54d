"""Descriptors, manifests and indexes (image-spec `descriptor.md`, `manifest.md`, `image-index.md`), and Docker's schema2 twins."""

from __future__ import annotations

import msgspec

from carrack.errors import InvalidParameter
from carrack.oci.digest import Digest
from carrack.oci.platform import Platform

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"

MANIFEST_TYPES = frozenset((OCI_MANIFEST, DOCKER_MANIFEST))
INDEX_TYPES = frozenset((OCI_INDEX, DOCKER_LIST))
MANIFEST_LIMIT_BYTES = 4 * 1024 * 1024
"""The largest manifest or index that is read (distribution-spec, "Pushing Manifests": registries should accept 4 MiB)."""


class PlatformDocument(msgspec.Struct, omit_defaults=True, frozen=True):
    """A platform as image-spec writes it."""

    architecture: str
    os: str
    variant: str = ""
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: tuple[str, ...] = msgspec.field(default=(), name="os.features")

    def value(self) -> Platform:
        return Platform(self.os, self.architecture, self.variant, self.os_version, self.os_features)


class Descriptor(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """Names some content: media type, digest, size in bytes."""

    media_type: str
    digest: str
    size: int
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] | None = None
    data: str = ""
    artifact_type: str = ""
    platform: PlatformDocument | None = None

    def __post_init__(self) -> None:
        Digest.parse(self.digest)
        if self.size < 0:
            raise InvalidParameter(f"descriptor {self.digest}: negative size")

    @property
    def name(self) -> Digest:
        """The digest as a value."""
        return Digest.parse(self.digest)


class Manifest(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """One image for one platform, or an artifact."""

    schema_version: int
    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = ""
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


class Index(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """A list of manifests, by platform or otherwise."""

    schema_version: int
    manifests: tuple[Descriptor, ...]
    media_type: str = ""
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


def decode_manifest(content: bytes, media_type: str = "") -> Manifest | Index:
    """Read a manifest or an index, whichever its bytes say it is.

    A document that could be read as both is refused (CVE-2021-41190: `mediaType` and the presence of `manifests` and `layers`
    must agree). `media_type` is what the server or the referring descriptor said; it must agree where it is given.
    Raises InvalidParameter.
    """
    if len(content) > MANIFEST_LIMIT_BYTES:
        raise InvalidParameter(f"manifest is larger than {MANIFEST_LIMIT_BYTES} bytes")
    try:
        shape = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise InvalidParameter(f"manifest is not valid JSON: {error}") from error
    except RecursionError as error:
        raise InvalidParameter("manifest is nested too deeply") from error
    if not isinstance(shape, dict):
        raise InvalidParameter("manifest is not a JSON object")
    if "manifests" in shape and ("layers" in shape or "config" in shape):
        raise InvalidParameter("manifest is ambiguous: it has both manifests and layers")
    if shape.get("schemaVersion") == 1 or "fsLayers" in shape:
        raise InvalidParameter("Docker image manifest schema 1 is not supported")
    stated = shape.get("mediaType") or media_type
    if stated and media_type and stated != media_type:
        raise InvalidParameter(f"manifest says it is {stated!r}, not {media_type!r}")
    is_index = "manifests" in shape
    if (is_index and stated in MANIFEST_TYPES) or (not is_index and stated in INDEX_TYPES):
        raise InvalidParameter(f"manifest content does not match its media type {stated!r}")
    try:
        document: Manifest | Index = msgspec.convert(shape, Index) if is_index else msgspec.convert(shape, Manifest)
    except msgspec.ValidationError as error:
        raise InvalidParameter(f"invalid manifest: {error}") from error
    if document.schema_version != 2:
        raise InvalidParameter(f"unsupported manifest schema version {document.schema_version}")
    return document
