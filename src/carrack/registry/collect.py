"""Online collection: mark from tags, sweep what no mark and no lease protects. Pushes go on meanwhile; nothing is read-only.

Per repository: manifests that a rule lets go, then blobs that no manifest of the repository names. Then, once for the store, bytes
that no repository links to. Each removal is refused by the store if its object was promised to somebody after the cut-off, so a
push that counts on what it was told is there (HEAD, mount, its own earlier upload) never loses it. A repository that has a
manifest which cannot be read keeps everything.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from carrack.errors import InvalidParameter
from carrack.oci.digest import Digest
from carrack.registry.auth.rules import repository_pattern
from carrack.registry.errors import BlobCorrupt, ManifestInvalid, ManifestUnknown
from carrack.registry.manifests import ManifestFacts, stored_facts
from carrack.registry.storage import Storage

DAY_SECONDS = 86_400
SHORTEST_GRACE_SECONDS = 7_200
"""Twice the time after which the store renews a lease (`storage/tree.py`)."""


class RetentionRule(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which untagged manifests may go: those older than `untagged_seconds`, except the newest `keep_newest` of a repository.

    The first rule whose `repositories` match decides; a repository that none matches keeps all its manifests.
    """

    repositories: list[str]
    untagged_seconds: int
    keep_newest: int = 0


class CollectionRules(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What collection may take."""

    grace_seconds: int = DAY_SECONDS
    upload_seconds: int = 7 * DAY_SECONDS
    retention: list[RetentionRule] = []

    def validate(self) -> None:
        """Raises InvalidParameter where the grace would be shorter than the store's promises."""
        if self.grace_seconds < SHORTEST_GRACE_SECONDS:
            raise InvalidParameter(f"collection grace must be at least {SHORTEST_GRACE_SECONDS} seconds")
        if self.upload_seconds < 60:
            raise InvalidParameter("uploads must be kept for at least 60 seconds")
        for rule in self.retention:
            for pattern in rule.repositories:
                repository_pattern(pattern)
            if rule.untagged_seconds < 0 or rule.keep_newest < 0:
                raise InvalidParameter("retention: negative time or number")


@dataclass
class CollectionReport:
    """What went (or, in a dry run, would go), and what stopped it."""

    dry_run: bool = False
    repositories: int = 0
    manifests_removed: int = 0
    links_removed: int = 0
    blobs_removed: int = 0
    blob_bytes_freed: int = 0
    uploads_removed: int = 0
    upload_bytes_freed: int = 0
    leftover_bytes_freed: int = 0
    blobs_kept: int = 0
    bytes_kept: int = 0
    seconds: float = 0.0
    unreadable: list[str] = field(default_factory=list)
    """Repositories left alone because a manifest in them cannot be read."""

    @property
    def bytes_freed(self) -> int:
        return self.blob_bytes_freed + self.upload_bytes_freed + self.leftover_bytes_freed


class Collection:
    """One run over a store."""

    def __init__(self, storage: Storage, rules: CollectionRules, *, dry_run: bool = False, now: float | None = None) -> None:
        self._storage = storage
        self._rules = rules
        self._dry_run = dry_run
        self._now = time.time() if now is None else now
        self._cutoff = self._now - rules.grace_seconds
        self._linked: set[int] = set()
        self.report = CollectionReport(dry_run=dry_run)

    def run(self) -> CollectionReport:
        """Collect everything once. Blocking; safe beside pushes and beside another run."""
        started = time.monotonic()
        for repository in self._storage.repositories(pushed_to=False):
            self.report.repositories += 1
            self._collect_repository(repository)
        self._collect_blobs()
        if not self._dry_run:
            self.report.leftover_bytes_freed = self._storage.tidy(
                self._now - max(self._rules.upload_seconds, self._rules.grace_seconds)
            )
        self.report.seconds = round(time.monotonic() - started, 3)
        return self.report

    def _collect_repository(self, repository: str) -> None:
        self._expire_uploads(repository)
        # Layers are listed before manifests are read: what a manifest pushed in between names was promised again by that push.
        old_layers = [layer.digest for layer in self._storage.layers(repository) if layer.leased_at < self._cutoff]
        gone: set[Digest] = set()
        try:
            held = self._read_manifests(repository)
            gone |= self._release_manifests(repository, held)
            named = {digest for manifest in held if manifest.digest not in gone for digest in manifest.facts.references}
            gone |= self._release_layers(repository, [digest for digest in old_layers if digest not in named])
        except (ManifestInvalid, BlobCorrupt, ManifestUnknown) as error:
            self.report.unreadable.append(f"{repository}: {error.message}")
        for link in (*self._storage.layers(repository), *self._storage.revisions(repository)):
            if not (self._dry_run and link.digest in gone):
                self._linked.add(_mark(link.digest))

    def _expire_uploads(self, repository: str) -> None:
        before = self._now - self._rules.upload_seconds
        for upload in self._storage.uploads(repository):
            if upload.touched_at < before and (self._dry_run or self._storage.release_upload(repository, upload.id, before)):
                self.report.uploads_removed += 1
                self.report.upload_bytes_freed += upload.size_bytes

    def _read_manifests(self, repository: str) -> list[_Held]:
        held = []
        for revision in self._storage.revisions(repository):
            try:
                content = self._storage.manifest(repository, revision.digest)
            except ManifestUnknown:
                if any(other.digest == revision.digest for other in self._storage.revisions(repository)):
                    raise  # its link stands and its bytes are lost: an operator should look
                continue  # deleted while we came by
            held.append(_Held(revision.digest, revision.leased_at, stored_facts(content)))
        return held

    def _release_manifests(self, repository: str, held: list[_Held]) -> set[Digest]:
        rule = next((rule for rule in self._rules.retention if _matches(rule, repository)), None)
        if rule is None:
            return set()
        before = min(self._cutoff, self._now - rule.untagged_seconds)
        tagged = self._tagged(repository)
        kept = kept_manifests(held, tagged, before, rule.keep_newest)
        # An index goes before what it lists, so that no kill in between leaves one that is not whole.
        going = sorted(
            (manifest for manifest in held if manifest.digest not in kept), key=lambda manifest: not manifest.facts.manifests
        )
        gone = {
            manifest.digest
            for manifest in going
            if self._dry_run or self._storage.release_manifest(repository, manifest.digest, before)
        }
        self.report.manifests_removed += len(gone)
        return gone

    def _tagged(self, repository: str) -> set[Digest]:
        tagged = set()
        for tag in list(self._storage.tags(repository)):
            try:
                tagged.add(self._storage.tag(repository, tag))
            except ManifestUnknown:
                continue  # deleted while we came by
        return tagged

    def _release_layers(self, repository: str, unnamed: list[Digest]) -> set[Digest]:
        gone = {digest for digest in unnamed if self._dry_run or self._storage.release_layer(repository, digest, self._cutoff)}
        self.report.links_removed += len(gone)
        return gone

    def _collect_blobs(self) -> None:
        for blob in self._storage.blobs():
            freed = None
            if blob.leased_at < self._cutoff and _mark(blob.digest) not in self._linked:
                freed = blob.size_bytes if self._dry_run else self._storage.remove_blob(blob.digest, self._cutoff)
            if freed is None:
                self.report.blobs_kept += 1
                self.report.bytes_kept += blob.size_bytes
            else:
                self.report.blobs_removed += 1
                self.report.blob_bytes_freed += freed


@dataclass(frozen=True, slots=True)
class _Held:
    digest: Digest
    leased_at: float
    facts: ManifestFacts


def kept_manifests(held: Sequence[_Held], tagged: set[Digest], before: float, keep_newest: int) -> set[Digest]:
    """What stays: tagged or young manifests, the newest untagged ones, all that those list, and what refers to any of these."""
    kept = {manifest.digest for manifest in held if manifest.digest in tagged or manifest.leased_at >= before}
    untagged = sorted((manifest for manifest in held if manifest.digest not in tagged), key=lambda manifest: -manifest.leased_at)
    kept.update(manifest.digest for manifest in untagged[:keep_newest])
    while True:
        reached = {digest for manifest in held if manifest.digest in kept for digest in manifest.facts.references}
        reached |= {manifest.digest for manifest in held if manifest.facts.subject in kept}
        if reached <= kept:
            return kept
        kept |= reached


def _matches(rule: RetentionRule, repository: str) -> bool:
    return any(repository_pattern(pattern).fullmatch(repository) for pattern in rule.repositories)


def _mark(digest: Digest) -> int:
    """Sixty bits of a digest: millions fit in memory. Two that collide keep a piece of garbage, never lose anything."""
    return int(digest.encoded[:15], 16)
