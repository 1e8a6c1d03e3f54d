"""A store in memory, for tests: the same promises as the filesystem store, kept by one lock."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from carrack.oci.digest import Digest
from carrack.registry.errors import (
    BlobCorrupt,
    BlobUnknown,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameUnknown,
    UploadBusy,
)
from carrack.registry.manifests import stored_facts
from carrack.registry.storage import Buffer, Leased, ManifestPush, OpenBlob, StaleUpload, TagCheck, UploadWriter
from carrack.registry.storage.digesting import digest_of


@dataclass
class _Upload:
    content: bytearray = field(default_factory=bytearray)
    touched_at: float = field(default_factory=time.time)
    busy: bool = False


@dataclass
class _Repository:
    layers: dict[Digest, float] = field(default_factory=dict)
    revisions: dict[Digest, float] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)
    uploads: dict[str, _Upload] = field(default_factory=dict)

    @property
    def is_listed(self) -> bool:
        return bool(self.layers or self.revisions or self.tags)


@dataclass
class _Stored:
    content: bytes
    leased_at: float


class MemoryStorage:
    """`Storage` without a disk."""

    prompt = True

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._repositories: dict[str, _Repository] = {}
        self._blobs: dict[Digest, _Stored] = {}

    def repositories(self, after: str = "", *, pushed_to: bool = True) -> Iterator[str]:
        with self._lock:
            known = self._repositories.items()
            return iter(sorted(name for name, held in known if name > after and (held.is_listed or not pushed_to)))

    def has_repository(self, repository: str) -> bool:
        return repository in self._repositories

    def _of(self, repository: str) -> _Repository:
        return self._repositories.get(repository) or _Repository()

    def _made(self, repository: str) -> _Repository:
        return self._repositories.setdefault(repository, _Repository())

    def _stored(self, digest: Digest) -> _Stored:
        stored = self._blobs.get(digest)
        if stored is None:
            raise BlobUnknown("blob unknown to registry", detail={"digest": str(digest)})
        return stored

    # Blobs

    def blob_size(self, repository: str, digest: Digest) -> int:
        if digest not in self._of(repository).layers:
            raise BlobUnknown("blob unknown to registry", detail={"digest": str(digest)})
        return len(self._stored(digest).content)

    def promise_blob(self, repository: str, digest: Digest) -> int:
        with self._lock:
            size = self.blob_size(repository, digest)
            self._of(repository).layers[digest] = time.time()
            return size

    def open_blob(self, repository: str, digest: Digest) -> OpenBlob:
        self.blob_size(repository, digest)
        return self.open_stored(digest)

    def mount_blob(self, digest: Digest, source: str, target: str) -> int:
        with self._lock:
            size = self.blob_size(source, digest)
            self._link(target, digest)
            return size

    def _link(self, repository: str, digest: Digest) -> None:
        self._stored(digest).leased_at = time.time()
        self._made(repository).layers[digest] = time.time()

    def unlink_blob(self, repository: str, digest: Digest) -> None:
        with self._lock:
            if self._of(repository).layers.pop(digest, None) is None:
                raise BlobUnknown("blob unknown to registry", detail={"digest": str(digest)})

    # Uploads

    def start_upload(self, repository: str) -> str:
        upload_id = str(uuid.uuid4())
        with self._lock:
            self._made(repository).uploads[upload_id] = _Upload()
        return upload_id

    def upload_size(self, repository: str, upload_id: str) -> int:
        return len(self._upload(repository, upload_id).content)

    def _upload(self, repository: str, upload_id: str) -> _Upload:
        upload = self._of(repository).uploads.get(upload_id)
        if upload is None:
            raise BlobUploadUnknown("blob upload unknown to registry", detail={"upload": upload_id[:64]})
        return upload

    def open_upload(self, repository: str, upload_id: str) -> UploadWriter:
        with self._lock:
            upload = self._upload(repository, upload_id)
            if upload.busy:
                raise UploadBusy("another request is writing to this upload", headers={"Retry-After": "1"})
            upload.busy = True
            return _MemoryUpload(self, repository, upload_id, upload)

    def cancel_upload(self, repository: str, upload_id: str) -> None:
        with self._lock:
            self._upload(repository, upload_id)
            del self._of(repository).uploads[upload_id]

    def _commit(self, repository: str, upload_id: str, digest: Digest) -> None:
        with self._lock:
            upload = self._upload(repository, upload_id)
            del self._of(repository).uploads[upload_id]
            content = bytes(upload.content)
            if digest_of(content, digest.algorithm) != digest:
                raise DigestInvalid("provided digest did not match uploaded content", detail={"digest": str(digest)})
            self._blobs[digest] = _Stored(content, time.time())
            self._link(repository, digest)

    # Manifests, tags, referrers

    def manifest(self, repository: str, digest: Digest) -> bytes:
        if digest not in self._of(repository).revisions or digest not in self._blobs:
            raise _manifest_unknown(str(digest))
        content = self._blobs[digest].content
        if digest_of(content, digest.algorithm) != digest:
            raise BlobCorrupt(f"manifest {digest} is corrupt on disk")
        return content

    def promise_manifest(self, repository: str, digest: Digest) -> None:
        with self._lock:
            if digest not in self._of(repository).revisions:
                raise _manifest_unknown(str(digest))
            self._of(repository).revisions[digest] = time.time()

    def put_manifest(self, repository: str, push: ManifestPush) -> None:
        with self._lock:
            held = self._of(repository)
            for tag in push.tags:
                push.check(tag, held.tags.get(tag))
            if not push.tags:
                push.check("", push.digest if push.digest in held.revisions else None)
            missing = [
                digest
                for digest in push.references
                if digest not in self._blobs or (digest not in held.layers and digest not in held.revisions)
            ]
            if missing:
                raise ManifestBlobUnknown(
                    f"manifest references content unknown to the repository: {', '.join(map(str, missing[:5]))}",
                    detail=[{"digest": str(digest)} for digest in missing[:100]],
                )
            now = time.time()
            for digest in push.references:
                for links in (held.layers, held.revisions):
                    if digest in links:
                        links[digest] = now
            self._blobs[push.digest] = _Stored(push.content, now)
            held = self._made(repository)
            held.revisions[push.digest] = now
            held.tags.update(dict.fromkeys(push.tags, push.digest))

    def delete_manifest(self, repository: str, digest: Digest) -> None:
        with self._lock:
            held = self._of(repository)
            if held.revisions.pop(digest, None) is None:
                raise _manifest_unknown(str(digest))
            held.tags = {tag: target for tag, target in held.tags.items() if target != digest}

    def tag(self, repository: str, tag: str) -> Digest:
        digest = self._of(repository).tags.get(tag)
        if digest is None:
            raise _manifest_unknown(tag)
        return digest

    def tags(self, repository: str, after: str = "") -> Iterator[str]:
        with self._lock:
            if repository not in self._repositories:
                raise NameUnknown("repository name not known to registry", detail={"name": repository})
            return iter(sorted(tag for tag in self._of(repository).tags if tag > after))

    def delete_tag(self, repository: str, tag: str, check: TagCheck) -> None:
        with self._lock:
            check(tag, self.tag(repository, tag))
            del self._of(repository).tags[tag]

    def referrers(self, repository: str, subject: Digest) -> list[Digest]:
        with self._lock:
            return sorted(digest for digest in self._of(repository).revisions if self._subject(digest) == subject)

    def _subject(self, digest: Digest) -> Digest | None:
        try:
            return stored_facts(self._blobs[digest].content).subject
        except (KeyError, ManifestInvalid):
            return None

    # Collection and scrub

    def revisions(self, repository: str) -> Iterator[Leased]:
        with self._lock:
            return iter([Leased(digest, 0, leased) for digest, leased in sorted(self._of(repository).revisions.items())])

    def layers(self, repository: str) -> Iterator[Leased]:
        with self._lock:
            return iter([Leased(digest, 0, leased) for digest, leased in sorted(self._of(repository).layers.items())])

    def blobs(self) -> Iterator[Leased]:
        with self._lock:
            stored = sorted(self._blobs.items())
            return iter([Leased(digest, len(blob.content), blob.leased_at) for digest, blob in stored])

    def uploads(self, repository: str) -> Iterator[StaleUpload]:
        with self._lock:
            uploads = self._of(repository).uploads.items()
            return iter([StaleUpload(name, len(upload.content), upload.touched_at) for name, upload in uploads])

    def release_layer(self, repository: str, digest: Digest, leased_before: float) -> bool:
        with self._lock:
            layers = self._of(repository).layers
            return layers.get(digest, leased_before) < leased_before and layers.pop(digest) is not None

    def release_manifest(self, repository: str, digest: Digest, leased_before: float) -> bool:
        with self._lock:
            held = self._of(repository)
            if held.revisions.get(digest, leased_before) >= leased_before or digest in held.tags.values():
                return False
            del held.revisions[digest]
            return True

    def release_upload(self, repository: str, upload_id: str, touched_before: float) -> bool:
        with self._lock:
            upload = self._of(repository).uploads.get(upload_id)
            if upload is None or upload.touched_at >= touched_before:
                return False
            del self._of(repository).uploads[upload_id]
            return True

    def remove_blob(self, digest: Digest, leased_before: float) -> int | None:
        with self._lock:
            stored = self._blobs.get(digest)
            if stored is None or stored.leased_at >= leased_before:
                return None
            del self._blobs[digest]
            return len(stored.content)

    def open_stored(self, digest: Digest) -> OpenBlob:
        content = self._stored(digest).content
        fd = os.memfd_create(digest.short, os.MFD_CLOEXEC)
        os.write(fd, content)
        return OpenBlob(fd, len(content))

    def quarantine(self, digest: Digest) -> None:
        with self._lock:
            self._blobs.pop(digest, None)

    def tidy(self, touched_before: float) -> int:
        with self._lock:
            for name in [name for name, held in self._repositories.items() if not held.is_listed and not held.uploads]:
                del self._repositories[name]
        return 0


class _MemoryUpload:
    def __init__(self, store: MemoryStorage, repository: str, upload_id: str, upload: _Upload) -> None:
        self.offset = len(upload.content)
        self._store = store
        self._repository = repository
        self._id = upload_id
        self._upload = upload

    def write(self, chunks: Sequence[Buffer]) -> None:
        for chunk in chunks:
            self._upload.content += chunk
        self._upload.touched_at = time.time()
        self.offset = len(self._upload.content)

    def commit(self, digest: Digest) -> None:
        self._store._commit(self._repository, self._id, digest)

    def close(self) -> None:
        self._upload.busy = False


def _manifest_unknown(what: str) -> ManifestUnknown:
    return ManifestUnknown("manifest unknown", detail={"reference": what})
