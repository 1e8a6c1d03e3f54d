"""What the registry asks of a store, as one Protocol; `tests/contract` holds the suite that every store passes.

Words: a *repository* holds *blobs* and *manifests* by link; the bytes exist once, however many repositories link to them.
A link and the bytes each carry a *lease*, the time they were last promised to somebody (pushed, mounted, found by HEAD, named
by a manifest). Collection removes only what nothing refers to and whose lease is older than a cut-off, and it does so atomically
with the promises: that is what makes it safe beside pushes without a read-only mode.

Every method is plain blocking code and safe from many threads and, where the store is shared, from many processes and machines.
`prompt` says that look-ups take microseconds, so that a server may make them on its event loop. A store that keeps its bytes
elsewhere (an object store) will answer `open_blob` with something to be streamed or redirected to: `OpenBlob` is the place for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from carrack.oci.digest import Digest

Buffer = bytes | bytearray | memoryview
TagCheck = Callable[[str, Digest | None], None]
"""Called with a tag and where it points now (None: nowhere) while nobody else can move it; raises to refuse the change."""


@dataclass(frozen=True, slots=True)
class OpenBlob:
    """Bytes ready to leave by sendfile; whoever takes it closes `fd`."""

    fd: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Leased:
    """Something collection looks at: its digest, its size (0 where it is a mere link), and when it was last promised."""

    digest: Digest
    size_bytes: int
    leased_at: float


@dataclass(frozen=True, slots=True)
class StaleUpload:
    """An upload as collection sees it."""

    id: str
    size_bytes: int
    touched_at: float


@dataclass(frozen=True, slots=True)
class ManifestPush:
    """A manifest to be stored: what it must find in the repository (`references`), and the tags that are to point at it."""

    digest: Digest
    content: bytes
    references: tuple[Digest, ...] = ()
    subject: Digest | None = None
    tags: tuple[str, ...] = ()
    check: TagCheck = field(default=lambda _tag, _current: None)


class UploadWriter(Protocol):
    """The one writer of an upload: while it is open no other can be. Leaving it (`close`) keeps what was written."""

    offset: int
    """How many bytes the upload has."""

    def write(self, chunks: Sequence[Buffer]) -> None:
        """Append, in order. Raises SystemFailure when the store is full."""

    def commit(self, digest: Digest) -> None:
        """Make the upload a blob of its repository: when this returns the blob survives any crash. Ends the upload.

        Raises DigestInvalid when the bytes have another digest; then the upload is gone and nothing else has changed.
        """

    def close(self) -> None:
        """Let go; idempotent."""


class Storage(Protocol):
    """Where repositories live."""

    prompt: bool

    # Repositories
    def repositories(self, after: str = "", *, pushed_to: bool = True) -> Iterator[str]:
        """Names in byte order, those after `after` only; not `pushed_to`: also those that have nothing but unfinished uploads."""

    def has_repository(self, repository: str) -> bool:
        """Whether anything was ever pushed or begun there."""

    # Blobs
    def blob_size(self, repository: str, digest: Digest) -> int:
        """Size of a blob this repository holds. Raises BlobUnknown."""

    def promise_blob(self, repository: str, digest: Digest) -> int:
        """The same, and renew its lease: the asker may now build on its presence. Raises BlobUnknown."""

    def open_blob(self, repository: str, digest: Digest) -> OpenBlob:
        """Open a blob this repository holds. Raises BlobUnknown."""

    def mount_blob(self, digest: Digest, source: str, target: str) -> int:
        """Let `target` hold a blob that `source` holds, without copying; its size. Raises BlobUnknown."""

    def unlink_blob(self, repository: str, digest: Digest) -> None:
        """The repository holds the blob no longer. Raises BlobUnknown."""

    # Uploads
    def start_upload(self, repository: str) -> str:
        """Begin an upload; its id."""

    def upload_size(self, repository: str, upload_id: str) -> int:
        """Bytes received so far. Raises BlobUploadUnknown."""

    def open_upload(self, repository: str, upload_id: str) -> UploadWriter:
        """Take an upload to write to it. Raises BlobUploadUnknown, UploadBusy."""

    def cancel_upload(self, repository: str, upload_id: str) -> None:
        """Throw an upload away. Raises BlobUploadUnknown."""

    # Manifests, tags, referrers
    def manifest(self, repository: str, digest: Digest) -> bytes:
        """A manifest's exact bytes. Raises ManifestUnknown; BlobCorrupt when the bytes are not those of the digest."""

    def promise_manifest(self, repository: str, digest: Digest) -> None:
        """Renew a manifest's lease. Raises ManifestUnknown."""

    def put_manifest(self, repository: str, push: ManifestPush) -> None:
        """Store a manifest and point its tags at it, all or nothing as far as anyone can see; durable when it returns.

        Renews the leases of all it references. Raises ManifestBlobUnknown naming what is missing, and what `check` raises.
        """

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        """Remove a manifest and every tag that points at it. Raises ManifestUnknown."""

    def tag(self, repository: str, tag: str) -> Digest:
        """Where a tag points. Raises ManifestUnknown."""

    def tags(self, repository: str, after: str = "") -> Iterator[str]:
        """Tags in byte order, those after `after` only. Raises NameUnknown."""

    def delete_tag(self, repository: str, tag: str, check: TagCheck) -> None:
        """Remove a tag, not its manifest. Raises ManifestUnknown, and what `check` raises."""

    def referrers(self, repository: str, subject: Digest) -> list[Digest]:
        """Manifests of this repository that name `subject`, in digest order."""

    # What collection and scrub need
    def revisions(self, repository: str) -> Iterator[Leased]:
        """Manifests a repository holds."""

    def layers(self, repository: str) -> Iterator[Leased]:
        """Blobs a repository holds."""

    def blobs(self) -> Iterator[Leased]:
        """All bytes in the store, linked or not."""

    def uploads(self, repository: str) -> Iterator[StaleUpload]:
        """Unfinished uploads."""

    def release_layer(self, repository: str, digest: Digest, leased_before: float) -> bool:
        """Unlink a blob unless it was promised meanwhile; whether it went."""

    def release_manifest(self, repository: str, digest: Digest, leased_before: float) -> bool:
        """Remove a manifest unless a tag points at it or it was promised meanwhile; whether it went."""

    def release_upload(self, repository: str, upload_id: str, touched_before: float) -> bool:
        """Remove an upload unless it was written to meanwhile; whether it went."""

    def remove_blob(self, digest: Digest, leased_before: float) -> int | None:
        """Remove bytes that nothing links to; how many that freed, None when they were promised meanwhile and stay."""

    def open_stored(self, digest: Digest) -> OpenBlob:
        """Open bytes whoever holds them (scrub's own door, never a client's). Raises BlobUnknown."""

    def quarantine(self, digest: Digest) -> None:
        """Put corrupt bytes aside: no longer served, kept for the operator; a later push of the same digest heals it."""

    def tidy(self, touched_before: float) -> int:
        """Remove what crashes left half-made and repositories that hold nothing; how many bytes that freed."""
