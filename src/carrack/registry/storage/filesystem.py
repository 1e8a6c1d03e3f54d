"""The filesystem store: blobs, manifests, tags and referrers in registry:2's own layout (see `layout`), safe for many processes.

Order of every change, so that a kill at any instant leaves only what is whole: bytes before links, revisions before tags, and
the other way round when something goes. What was acknowledged is on the disk (fsync), not merely in its cache.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock

from carrack.oci.digest import Digest
from carrack.registry.errors import BlobCorrupt, BlobUnknown, ManifestBlobUnknown, ManifestInvalid, ManifestUnknown, NameUnknown
from carrack.registry.manifests import stored_facts
from carrack.registry.storage import ManifestPush, OpenBlob, TagCheck
from carrack.registry.storage.digesting import digest_of
from carrack.registry.storage.durable import digests_in, names_in, read_file, read_link, remove_file, sync_directory, write_file
from carrack.registry.storage.filesystem_sweep import SweepFiles
from carrack.registry.storage.filesystem_uploads import UploadFiles
from carrack.registry.storage.tree import is_older, renew_data

_REMEMBERED_BYTES = 8 << 20


class FilesystemStorage(UploadFiles, SweepFiles):
    """`Storage` over a directory; opening one that registry:2 made adopts it as it is."""

    prompt = True

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._manifests = _ManifestCache(_REMEMBERED_BYTES)

    # Blobs

    def blob_size(self, repository: str, digest: Digest) -> int:
        if not self.is_linked(self.layout.layer(repository, digest)):
            raise _blob_unknown(digest)
        return self.stored_size(digest)

    def promise_blob(self, repository: str, digest: Digest) -> int:
        with self.locks.repository(repository, exclusive=False):
            if not self.promise_link(self.layout.layer(repository, digest)):
                raise _blob_unknown(digest)
        return self.stored_size(digest)

    def open_blob(self, repository: str, digest: Digest) -> OpenBlob:
        if not self.is_linked(self.layout.layer(repository, digest)):
            raise _blob_unknown(digest)
        return self.open_stored(digest)

    def mount_blob(self, digest: Digest, source: str, target: str) -> int:
        with self.locks.two_repositories(source, target):
            if not self.is_linked(self.layout.layer(source, digest)):
                raise _blob_unknown(digest)
            with self.locks.content(digest, exclusive=False):
                self.link_stored(self.layout.layer(target, digest), digest)
        return self.stored_size(digest)

    def unlink_blob(self, repository: str, digest: Digest) -> None:
        with self.locks.repository(repository, exclusive=True):
            if not remove_file(self.layout.layer(repository, digest)):
                raise _blob_unknown(digest)

    # Manifests

    def manifest(self, repository: str, digest: Digest) -> bytes:
        if not self.is_linked(self.layout.revision(repository, digest)):
            raise _manifest_unknown(digest)
        content = self._manifests.get(digest)
        if content is None:
            content = self._read_manifest(digest)
            self._manifests.put(digest, content)
        return content

    def _read_manifest(self, digest: Digest) -> bytes:
        try:
            content = read_file(self.layout.data(digest))
        except FileNotFoundError:
            raise _manifest_unknown(digest) from None
        if digest_of(content, digest.algorithm) != digest:
            raise BlobCorrupt(f"manifest {digest} is corrupt on disk")
        return content

    def promise_manifest(self, repository: str, digest: Digest) -> None:
        with self.locks.repository(repository, exclusive=False):
            if not self.promise_link(self.layout.revision(repository, digest)):
                raise _manifest_unknown(digest)

    def put_manifest(self, repository: str, push: ManifestPush) -> None:
        with self.locks.repository(repository, exclusive=False):
            self._judge(repository, push)  # so that a refusal has changed nothing
        with self.locks.content(push.digest, exclusive=False):
            self._write_content(push.digest, push.content)  # the slow part, before anybody has to wait for us
        with self.locks.repository(repository, exclusive=True):
            self._judge(repository, push)
            is_indexed = self._is_indexed(repository)
            with self.locks.content(push.digest, exclusive=False):
                self._write_content(push.digest, push.content)
                if push.subject is not None:
                    self.make_link(self.layout.referrer(repository, push.subject, push.digest), push.digest)
                self.link_stored(self.layout.revision(repository, push.digest), push.digest)
            if is_indexed:
                os.utime(self.layout.indexed_mark(repository))
            for tag in push.tags:
                path = self.layout.tag(repository, tag)
                if read_link(path) != push.digest:
                    write_file(path, str(push.digest).encode(), self.layout.staging)

    def _judge(self, repository: str, push: ManifestPush) -> None:
        for tag in push.tags:
            push.check(tag, read_link(self.layout.tag(repository, tag)))
        if not push.tags:
            push.check("", push.digest if self.is_linked(self.layout.revision(repository, push.digest)) else None)
        self._promise_references(repository, push.references)

    def _write_content(self, digest: Digest, content: bytes) -> None:
        """Store a manifest's bytes, or renew the lease of those that are there; under the content's lock."""
        path = self.layout.data(digest)
        try:
            if read_file(path) == content:
                renew_data(path)
                return
        except FileNotFoundError:
            pass
        write_file(path, content, self.layout.staging)

    def _promise_references(self, repository: str, references: tuple[Digest, ...]) -> None:
        """Everything a manifest names must be held by this repository, as a blob or (BuildKit's caches, indexes) as a manifest."""
        missing = []
        for digest in references:
            as_blob = self.promise_link(self.layout.layer(repository, digest))
            as_manifest = self.promise_link(self.layout.revision(repository, digest))
            if not (as_blob or as_manifest) or not os.path.exists(self.layout.data(digest)):
                missing.append(digest)
        if missing:
            raise ManifestBlobUnknown(
                f"manifest references content unknown to the repository: {', '.join(map(str, missing[:5]))}",
                detail=[{"digest": str(digest)} for digest in missing[:100]],
            )

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        with self.locks.repository(repository, exclusive=True):
            if not self.is_linked(self.layout.revision(repository, digest)):
                raise _manifest_unknown(digest)
            for tag in names_in(self.layout.tags(repository)):
                if read_link(self.layout.tag(repository, tag)) == digest:
                    self._remove_tag(repository, tag)
            self._remove_revision(repository, digest)

    def release_manifest(self, repository: str, digest: Digest, leased_before: float) -> bool:
        with self.locks.repository(repository, exclusive=True):
            if not is_older(self.layout.revision(repository, digest), leased_before):
                return False
            for tag in names_in(self.layout.tags(repository)):
                if read_link(self.layout.tag(repository, tag)) == digest:
                    return False
            self._remove_revision(repository, digest)
            return True

    def _remove_revision(self, repository: str, digest: Digest) -> None:
        """The manifest's own link, then its entry under its subject (a referrer without a revision is passed over anyway)."""
        subject = None
        try:
            subject = stored_facts(read_file(self.layout.data(digest))).subject
        except (FileNotFoundError, ManifestInvalid):
            pass  # nothing to be read: it can be nobody's referrer
        is_indexed = self._is_indexed(repository)
        remove_file(self.layout.revision(repository, digest))
        if is_indexed:
            os.utime(self.layout.indexed_mark(repository))
        if subject is not None:
            remove_file(self.layout.referrer(repository, subject, digest))

    # Tags

    def tag(self, repository: str, tag: str) -> Digest:
        digest = read_link(self.layout.tag(repository, tag))
        if digest is None:
            raise ManifestUnknown("manifest unknown", detail={"tag": tag})
        return digest

    def tags(self, repository: str, after: str = "") -> Iterator[str]:
        if not self.has_repository(repository):
            raise NameUnknown("repository name not known to registry", detail={"name": repository})
        names = names_in(self.layout.tags(repository))
        return (name for name in names if name > after and self.is_linked(self.layout.tag(repository, name)))

    def delete_tag(self, repository: str, tag: str, check: TagCheck) -> None:
        with self.locks.repository(repository, exclusive=True):
            digest = read_link(self.layout.tag(repository, tag))
            if digest is None:
                raise ManifestUnknown("manifest unknown", detail={"tag": tag})
            check(tag, digest)
            self._remove_tag(repository, tag)

    def _remove_tag(self, repository: str, tag: str) -> None:
        remove_file(self.layout.tag(repository, tag))
        directory = f"{self.layout.tags(repository)}/{tag}"
        for stale in list(digests_in(f"{directory}/index")):  # registry:2's history of the tag; we keep none
            remove_file(f"{directory}/index/{stale.algorithm}/{stale.encoded}/link")
        for path in (f"{directory}/index/sha256", f"{directory}/index", directory):
            try:
                os.rmdir(path)
            except OSError:
                break
        sync_directory(self.layout.tags(repository))

    # Referrers

    def referrers(self, repository: str, subject: Digest) -> list[Digest]:
        if not self._is_indexed(repository):
            self._index_referrers(repository)
        found = digests_in(self.layout.subject(repository, subject))
        return sorted(digest for digest in found if self.is_linked(self.layout.revision(repository, digest)))

    def _is_indexed(self, repository: str) -> bool:
        """Whether every manifest's subject has been looked at: nobody but us changed the revisions since the mark was last set."""
        revisions = self.layout.revisions(repository)
        try:
            marked = os.stat(self.layout.indexed_mark(repository)).st_mtime_ns
            return all(os.stat(f"{revisions}/{algorithm}").st_mtime_ns <= marked for algorithm in names_in(revisions))
        except FileNotFoundError:
            return False

    def _index_referrers(self, repository: str) -> None:
        """Find the referrers among manifests that a registry without the API took (spec, "Enabling the Referrers API")."""
        if not self.has_repository(repository):
            return
        with self.locks.repository(repository, exclusive=True):
            for digest in digests_in(self.layout.revisions(repository)):
                try:
                    subject = stored_facts(read_file(self.layout.data(digest))).subject
                except (FileNotFoundError, ManifestInvalid):
                    continue
                if subject is not None:
                    self.make_link(self.layout.referrer(repository, subject, digest), digest)
            write_file(self.layout.indexed_mark(repository), b"1\n", self.layout.staging)


class _ManifestCache:
    """Verified manifests by digest, the oldest dropped beyond a number of bytes. What it holds can never become wrong."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._contents: OrderedDict[Digest, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, digest: Digest) -> bytes | None:
        return self._contents.get(digest)

    def put(self, digest: Digest, content: bytes) -> None:
        if len(content) > self._limit_bytes // 8:
            return
        with self._lock:
            if digest in self._contents:
                return
            self._contents[digest] = content
            self._bytes += len(content)
            while self._bytes > self._limit_bytes:
                _, dropped = self._contents.popitem(last=False)
                self._bytes -= len(dropped)


def _blob_unknown(digest: Digest) -> BlobUnknown:
    return BlobUnknown("blob unknown to registry", detail={"digest": str(digest)})


def _manifest_unknown(digest: Digest) -> ManifestUnknown:
    return ManifestUnknown("manifest unknown", detail={"digest": str(digest)})
