"""Build caches in registries: the builder's port, joined to the registry client."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from carrack.content import ContentStore
from carrack.errors import InvalidParameter
from carrack.images.registries import Puller
from carrack.oci.descriptor import OCI_MANIFEST, Descriptor
from carrack.oci.digest import Digest
from carrack.oci.reference import Reference

if TYPE_CHECKING:
    from carrack.distribution.credentials import Credentials
    from carrack.distribution.repository import Repository

_PIECE_BYTES = 1 << 20


class RegistryCaches:
    """`cache_export.CacheRegistry`. Blocking."""

    def __init__(self, puller: Puller, content: ContentStore) -> None:
        self._puller = puller
        self._content = content

    def read(self, reference: str, credentials: Mapping[str, str]) -> tuple[Descriptor, bytes]:
        parsed = _parsed(reference)
        wanted = parsed.tag or str(parsed.digest)
        return self._puller.registries.find(
            parsed, _credentials(parsed, credentials), lambda repository: repository.manifest(wanted)
        )[1]

    def blob(self, reference: str, credentials: Mapping[str, str], digest: Digest) -> Iterator[bytes]:
        parsed = _parsed(reference)
        found = self._puller.registries.find(parsed, _credentials(parsed, credentials), lambda repository: repository.blob(digest))[
            1
        ]
        return found[0]

    def write(self, reference: str, credentials: Mapping[str, str], blobs: Iterable[Descriptor], manifest: bytes) -> None:
        parsed = _parsed(reference)
        if not parsed.tag:
            raise InvalidParameter(f"a build cache needs a tag: {reference}")

        def send(repository: Repository) -> None:
            for blob in blobs:
                if not repository.has_blob(blob.name):
                    repository.upload(blob.name, blob.size, self._reader(blob.name))
            repository.put_manifest(parsed.tag, OCI_MANIFEST, manifest)

        self._puller.registries.find(parsed, _credentials(parsed, credentials), send, push=True)

    def _reader(self, digest: Digest) -> Callable[[int], Iterator[bytes]]:
        def pieces(offset: int) -> Iterator[bytes]:
            with os.fdopen(self._content.open(digest), "rb") as file:
                file.seek(offset)
                while piece := file.read(_PIECE_BYTES):
                    yield piece

        return pieces


def _parsed(reference: str) -> Reference:
    parsed = Reference.parse(reference)
    return parsed if parsed.digest is not None else parsed.with_default_tag()


def _credentials(reference: Reference, known: Mapping[str, str]) -> Credentials:
    from carrack.distribution.credentials import decode_header

    return decode_header(known.get(reference.domain, ""))
