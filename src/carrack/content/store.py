"""What a content store promises.

A **blob** is some bytes under the name that is their digest; it never changes. A **writer** takes bytes, hashes them as they
pass, and at `commit` either makes the blob appear whole under its digest or, when the bytes are not what was expected, leaves
nothing. Many writers may write the same blob at once; the first that commits wins and the others find it there.

A **lease** keeps blobs from being collected while the record that will refer to them is not written yet. Leases live in memory:
what a killed daemon was assembling is garbage to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Protocol, Self

from carrack.content.leases import Lease
from carrack.oci.digest import Digest

CHUNK_BYTES = 1 << 20
"""How much is read from a blob at once."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed."""

    digests: tuple[Digest, ...]
    size_bytes: int


class Writer(Protocol):
    """One blob on its way in. Used by one thread; closed by who opened it, as a context manager or by `close`."""

    @property
    def offset(self) -> int:
        """How many bytes are written, those of an earlier attempt included."""

    def write(self, content: bytes | memoryview) -> None:
        """Add bytes at the end. Raises SystemFailure."""

    def restart(self) -> None:
        """Forget what is written so far: the source can only begin anew."""

    def commit(self, expected: Digest | None = None, size_bytes: int | None = None) -> Digest:
        """Make the blob appear under its digest, atomically. Raises DataCorrupt when digest or size are not the expected ones."""

    def close(self) -> None:
        """Give up what was not committed; the bytes of a resumable writer are kept for the next attempt. Idempotent."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class ContentStore(Protocol):
    """Blobs by digest. Every method may be called from any thread."""

    def writer(self, lease: Lease, *, expected: Digest | None = None, key: str = "") -> Writer:
        """Begin a blob, which `lease` protects from the instant it appears.

        `expected` chooses the digest's algorithm and is checked at commit. A writer with a `key` is resumable: it goes on
        where the last one with this key was closed or killed. Raises Conflict while another writer has the key.
        """

    def has(self, digest: Digest) -> bool:
        """Whether the blob is there."""

    def size(self, digest: Digest) -> int:
        """Its size in bytes. Raises NotFound."""

    def open(self, digest: Digest) -> int:
        """A descriptor that reads the blob from its beginning; the caller closes it. Raises NotFound."""

    def read(self, digest: Digest, limit_bytes: int) -> bytes:
        """A small blob, verified. Raises NotFound, InvalidParameter when it is larger than the limit, DataCorrupt."""

    def verify(self, digest: Digest) -> None:
        """Read a blob through. Raises NotFound, DataCorrupt when its bytes are not what its name promises."""

    def remove(self, digest: Digest) -> None:
        """Take a blob away. Idempotent."""

    def list(self) -> Iterator[Digest]:
        """Every blob, in no order."""

    def lease(self) -> Lease:
        """A new lease: a context manager that protects what `add` names."""

    def recover(self, resumable_seconds: float = 7 * 86400) -> None:
        """At start, before any writer: forget what dead writers left, save resumable bytes younger than the limit."""

    def collect(self, referenced: Callable[[], Collection[Digest]], only: Collection[Digest] | None = None) -> Collected:
        """Remove the blobs (of `only`, when given) that nothing refers to and no lease protects.

        `referenced` is asked once, after the candidates and the leases were read, so that a blob whose record appears at the
        same time is never taken.
        """
