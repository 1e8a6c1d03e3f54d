"""Scrub: read every stored byte again and hold it against its name; find links whose bytes are gone.

Corrupt bytes are put aside, so that they are unknown from then on: a client that pushes them again heals the registry.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field

from carrack.oci.digest import Digest
from carrack.registry.errors import BlobUnknown
from carrack.registry.storage import Storage
from carrack.registry.storage.digesting import digest_of_fd


@dataclass
class ScrubReport:
    """What was read, and what was found wrong."""

    dry_run: bool = False
    blobs: int = 0
    bytes: int = 0
    corrupt: list[str] = field(default_factory=list)
    """Digests whose bytes differ; put aside unless this was a dry run."""
    missing: list[str] = field(default_factory=list)
    """``repository@digest`` of links that lead nowhere."""
    seconds: float = 0.0


def scrub(storage: Storage, *, dry_run: bool = False) -> ScrubReport:
    """Verify the whole store once, blocking, in constant memory. Safe beside everything."""
    report = ScrubReport(dry_run=dry_run)
    started = time.monotonic()
    for blob in storage.blobs():
        size = _intact_size(storage, blob.digest)
        report.blobs += 1
        report.bytes += blob.size_bytes
        # Read twice before it is condemned: a push may have replaced it in between.
        if size is None and _intact_size(storage, blob.digest) is None:
            report.corrupt.append(str(blob.digest))
            if not dry_run:
                storage.quarantine(blob.digest)
    for repository in storage.repositories():
        for link in (*storage.layers(repository), *storage.revisions(repository)):
            if _is_missing(storage, link.digest):
                report.missing.append(f"{repository}@{link.digest}")
    report.seconds = round(time.monotonic() - started, 3)
    return report


def _intact_size(storage: Storage, digest: Digest) -> int | None:
    """The size of bytes that are what they should be; None when they are not."""
    try:
        opened = storage.open_stored(digest)
    except BlobUnknown:
        return 0  # collected meanwhile
    try:
        found = digest_of_fd(opened.fd, opened.size_bytes, digest.algorithm)
        os.posix_fadvise(opened.fd, 0, 0, os.POSIX_FADV_DONTNEED)  # leave the cache to those who pull
        return opened.size_bytes if found == digest else None
    except OSError:
        return None  # the disk itself cannot read it back
    finally:
        os.close(opened.fd)


def _is_missing(storage: Storage, digest: Digest) -> bool:
    try:
        os.close(storage.open_stored(digest).fd)
    except BlobUnknown:
        return True
    return False
