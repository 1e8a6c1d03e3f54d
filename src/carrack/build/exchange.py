"""The cache as it travels: records, the digests that they need, and the layers' blobs, as one document. Pure values.

In a registry or a layout it is an image manifest whose configuration is the document and whose layers are all blobs; inline it
stands in the configuration of an image, whose own layers are the blobs. No value of a build argument and no secret is in it: keys
are digests (`cache_key.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from carrack.build.cache_key import Part
from carrack.errors import InvalidParameter
from carrack.oci.descriptor import Descriptor
from carrack.oci.digest import Digest, chain_id

MEDIA_TYPE = "application/vnd.carrack.buildcache.v1+json"
INLINE = "carrack.buildcache.v1"
"""The field of an image's configuration that holds an inline cache."""
_LIMIT = 100_000


class TravellingRecord(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One step's result: the stack it ended with, lowest layer first."""

    key: str
    diff_ids: tuple[str, ...]
    parts: tuple[Part, ...] = ()
    place: str = ""
    description: str = ""
    created: int = 0
    size_bytes: int = 0

    @property
    def chain_id(self) -> Digest | None:
        return chain_id([Digest.parse(diff_id) for diff_id in self.diff_ids])


class TravellingSum(msgspec.Struct, frozen=True, array_like=True):
    """What a selection reads of a stack comes to this digest."""

    chain_id: str
    selection: str
    digest: str


class TravellingMount(msgspec.Struct, frozen=True, rename="camel"):
    """A cache mount: its name, and its content as a tar."""

    id: str
    beginning: str
    sharing: str
    blob: Descriptor


class CacheDocument(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """All of it. `blobs`: the blob of each layer, by diff_id."""

    records: tuple[TravellingRecord, ...] = ()
    sums: tuple[TravellingSum, ...] = ()
    blobs: Mapping[str, Descriptor] = {}
    mounts: tuple[TravellingMount, ...] = ()
    version: int = 1

    def encoded(self) -> bytes:
        return msgspec.json.encode(self)

    def all_blobs(self) -> tuple[Descriptor, ...]:
        """Every blob that it names, each once."""
        found = {blob.digest: blob for blob in (*self.blobs.values(), *(mount.blob for mount in self.mounts))}
        return tuple(found.values())


def decode(content: bytes) -> CacheDocument:
    """Read one that came from outside. Raises InvalidParameter."""
    try:
        document = msgspec.json.decode(content, type=CacheDocument)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidParameter(f"invalid build cache: {error}") from error
    if document.version != 1:
        raise InvalidParameter(f"this build cache has version {document.version}, which this release does not read")
    if len(document.records) > _LIMIT or len(document.sums) > _LIMIT:
        raise InvalidParameter("this build cache has more records than are read")
    for record in document.records:
        for diff_id in record.diff_ids:
            Digest.parse(diff_id)
    return document


def combined(documents: Sequence[CacheDocument]) -> CacheDocument | None:
    """Several as one; None for none."""
    if not documents:
        return None
    blobs: dict[str, Descriptor] = {}
    for document in reversed(documents):
        blobs |= document.blobs
    return CacheDocument(
        tuple(record for document in documents for record in document.records),
        tuple(each for document in documents for each in document.sums),
        blobs,
        tuple(mount for document in documents for mount in document.mounts),
    )


def inline_of(config: bytes, diff_ids: tuple[str, ...], layers: tuple[Descriptor, ...]) -> CacheDocument | None:
    """The cache in an image's configuration; None without one. Raises InvalidParameter."""
    try:
        fields = msgspec.json.decode(config, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidParameter(f"invalid image configuration: {error}") from error
    raw = fields.get(INLINE)
    if raw is None:
        return None
    document = decode(bytes(raw))
    return msgspec.structs.replace(document, blobs=dict(zip(diff_ids, layers, strict=False)))
