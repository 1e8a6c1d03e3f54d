"""Online collection: what goes, what stays, and that nobody who was promised something loses it."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from carrack.errors import InvalidParameter
from carrack.oci.digest import Digest
from carrack.registry.collect import Collection, CollectionReport, CollectionRules, RetentionRule
from carrack.registry.errors import BlobUnknown, ManifestBlobUnknown, ManifestUnknown
from carrack.registry.scrub import scrub
from carrack.registry.storage import ManifestPush, Storage, tree
from carrack.registry.storage.filesystem import FilesystemStorage
from carrack.registry.storage.memory import MemoryStorage
from tests.contract.registry.storage_contract import push_blob, push_manifest, read_blob, subject_of

DAY = 86_400
EVERYTHING_UNTAGGED = RetentionRule(["**"], untagged_seconds=0)


@pytest.fixture(params=["filesystem", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    return FilesystemStorage(str(tmp_path)) if request.param == "filesystem" else MemoryStorage()


def collect(storage: Storage, *retention: RetentionRule, days_later: float = 30, dry_run: bool = False) -> CollectionReport:
    """A run as if some days had gone by."""
    return Collection(
        storage, CollectionRules(retention=list(retention)), dry_run=dry_run, now=time.time() + days_later * DAY
    ).run()


def digests(storage: Storage) -> set[Digest]:
    return {blob.digest for blob in storage.blobs()}


def test_what_no_manifest_names_goes_with_its_bytes(storage: Storage) -> None:
    image = push_manifest(storage, "a", tags=("v1",))
    stray = push_blob(storage, "a", b"stray bytes")
    report = collect(storage)
    assert (report.links_removed, report.blobs_removed, report.blob_bytes_freed) == (1, 1, 11)
    assert (report.blobs_kept, report.unreadable) == (2, [])
    assert stray not in digests(storage)
    assert storage.manifest("a", image)


def test_nothing_younger_than_the_grace_goes(storage: Storage) -> None:
    stray = push_blob(storage, "a", b"stray")
    assert collect(storage, EVERYTHING_UNTAGGED, days_later=0.9).blobs_removed == 0
    assert storage.blob_size("a", stray) == 5


def test_bytes_stay_while_any_repository_links_to_them(storage: Storage) -> None:
    push_manifest(storage, "a", tags=("v1",), note="same")
    gone = push_manifest(storage, "b", tags=("v1",), note="same")
    storage.delete_manifest("b", gone)
    report = collect(storage)
    assert (report.links_removed, report.blobs_removed) == (1, 0)
    assert storage.manifest("a", storage.tag("a", "v1"))


def test_a_deleted_image_goes_and_its_shared_layers_stay(storage: Storage) -> None:
    shared = push_blob(storage, "a", b"shared layer")
    own = push_blob(storage, "a", b"own layer")
    layers = {digest: {"mediaType": "x", "digest": str(digest), "size": 1} for digest in (shared, own)}
    push_manifest(storage, "a", tags=("v1",), layers=[layers[shared]])
    gone = push_manifest(storage, "a", tags=("v2",), layers=[layers[shared], layers[own]])
    storage.delete_manifest("a", gone)
    collect(storage)
    assert read_blob(storage, "a", shared) == b"shared layer"
    assert {own, gone}.isdisjoint(digests(storage))


def test_untagged_manifests_stay_without_a_rule(storage: Storage) -> None:
    old = push_manifest(storage, "a", tags=("v1",), note="old")
    push_manifest(storage, "a", tags=("v1",), note="new")
    assert collect(storage).manifests_removed == 0
    assert storage.manifest("a", old)


def test_a_rule_lets_untagged_manifests_go_after_its_time(storage: Storage) -> None:
    old = push_manifest(storage, "a", tags=("v1",), note="old")
    new = push_manifest(storage, "a", tags=("v1",), note="new")
    rule = RetentionRule(["a"], untagged_seconds=14 * DAY)
    assert collect(storage, rule, days_later=13).manifests_removed == 0
    assert collect(storage, rule, days_later=15).manifests_removed == 1
    assert storage.manifest("a", new)
    with pytest.raises(ManifestUnknown):
        storage.manifest("a", old)
    assert Digest.of(b"config old") not in digests(storage)


def test_the_first_rule_that_matches_decides(storage: Storage) -> None:
    for name in ("keep/x", "drop/x"):
        push_manifest(storage, name)
    rules = (RetentionRule(["keep/*"], untagged_seconds=999 * DAY), EVERYTHING_UNTAGGED)
    assert collect(storage, *rules).manifests_removed == 1
    assert list(storage.repositories()) == ["keep/x"]


def test_the_newest_untagged_manifests_may_be_kept(storage: Storage) -> None:
    pushed = [push_manifest(storage, "a", note=str(number)) for number in range(4)]
    assert collect(storage, RetentionRule(["**"], untagged_seconds=0, keep_newest=3)).manifests_removed == 1
    assert {held.digest for held in storage.revisions("a")} < set(pushed)


def test_what_a_tagged_index_lists_and_what_refers_to_it_stays(storage: Storage) -> None:
    child = push_manifest(storage, "a", note="child")
    content = json.dumps({"schemaVersion": 2, "manifests": [subject_of(child)]}).encode()
    storage.put_manifest("a", ManifestPush(Digest.of(content), content, references=(child,), tags=("v1",)))
    signature = push_manifest(storage, "a", note="signature", subject=subject_of(child))
    of_signature = push_manifest(storage, "a", note="signature of it", subject=subject_of(signature))
    lone = push_manifest(storage, "a", note="lone")
    lost = push_manifest(storage, "a", note="its subject is gone", subject=subject_of(Digest.of(b"gone")))
    collect(storage, EVERYTHING_UNTAGGED)
    assert {held.digest for held in storage.revisions("a")} == {Digest.of(content), child, signature, of_signature}
    assert {lone, lost}.isdisjoint(digests(storage))


def test_a_dry_run_reports_the_same_and_changes_nothing(storage: Storage) -> None:
    push_manifest(storage, "a", tags=("v1",))
    push_manifest(storage, "a", note="untagged")
    push_blob(storage, "b", b"stray")
    storage.start_upload("c")
    before = digests(storage)
    dry = collect(storage, EVERYTHING_UNTAGGED, dry_run=True)
    assert digests(storage) == before
    wet = collect(storage, EVERYTHING_UNTAGGED)
    for name in (
        "manifests_removed",
        "links_removed",
        "blobs_removed",
        "blob_bytes_freed",
        "uploads_removed",
        "blobs_kept",
        "bytes_kept",
    ):
        assert getattr(dry, name) == getattr(wet, name), name
    assert (wet.blobs_removed, wet.uploads_removed) == (3, 1)


def test_stale_uploads_expire_and_are_counted_in_bytes(storage: Storage) -> None:
    upload_id = storage.start_upload("a")
    writer = storage.open_upload("a", upload_id)
    writer.write([b"12345"])
    writer.close()
    assert collect(storage, days_later=6).uploads_removed == 0
    report = collect(storage, days_later=8)
    assert (report.uploads_removed, report.upload_bytes_freed, report.bytes_freed) == (1, 5, 5)
    assert not storage.has_repository("a")


def test_a_second_run_finds_nothing_left(storage: Storage) -> None:
    push_blob(storage, "a", b"stray")
    push_manifest(storage, "a", note="untagged")
    collect(storage, EVERYTHING_UNTAGGED)
    report = collect(storage, EVERYTHING_UNTAGGED)
    assert (report.repositories, report.blobs_removed, report.blobs_kept) == (0, 0, 0)


def test_a_repository_with_an_unreadable_manifest_keeps_everything(storage: Storage) -> None:
    layer = push_blob(storage, "a", b"layer")
    storage.put_manifest("a", ManifestPush(Digest.of(b"not JSON"), b"not JSON", tags=("v1",)))
    push_blob(storage, "b", b"stray")
    report = collect(storage, EVERYTHING_UNTAGGED)
    assert report.unreadable[0].startswith("a: ")
    assert storage.blob_size("a", layer) == 5
    assert report.blobs_removed == 1


def test_a_lost_manifest_keeps_its_repository_as_it_is(tmp_path: Path) -> None:
    storage = FilesystemStorage(str(tmp_path))
    lost = push_manifest(storage, "a", tags=("v1",))
    layer = push_blob(storage, "a", b"perhaps its layer")
    Path(storage.layout.data(lost)).unlink()
    report = collect(FilesystemStorage(str(tmp_path)), EVERYTHING_UNTAGGED)
    assert len(report.unreadable) == 1
    assert storage.blob_size("a", layer)


@pytest.mark.parametrize("rules", [CollectionRules(grace_seconds=60), CollectionRules(upload_seconds=1)])
def test_a_grace_shorter_than_the_promises_is_refused(rules: CollectionRules) -> None:
    with pytest.raises(InvalidParameter):
        rules.validate()


class Interrupting:
    """A store that lets something happen just before collection removes a thing."""

    def __init__(self, storage: Storage, moment: str, happen: Callable[[], object]) -> None:
        self._storage = storage
        self._moment = moment
        self._happen = happen

    def __getattr__(self, name: str) -> object:
        found = getattr(self._storage, name)
        if name != self._moment:
            return found

        def interrupted(*arguments: object) -> object:
            self._happen()
            return found(*arguments)

        return interrupted


@pytest.fixture
def aged(tmp_path: Path) -> FilesystemStorage:
    return FilesystemStorage(str(tmp_path))


def age(storage: FilesystemStorage, days: float) -> None:
    """Everything was promised some days earlier than it was."""
    for directory, _, files in os.walk(storage.layout.top):
        for name in files:
            path = f"{directory}/{name}"
            state = os.stat(path)
            os.utime(path, (state.st_atime - days * DAY, state.st_mtime - days * DAY))


def run_now(storage: Storage, moment: str, happen: Callable[[], object]) -> CollectionReport:
    view: Storage = Interrupting(storage, moment, happen)  # type: ignore[assignment]
    return Collection(view, CollectionRules(retention=[EVERYTHING_UNTAGGED])).run()


def test_a_layer_found_by_head_between_mark_and_sweep_stays(aged: FilesystemStorage) -> None:
    digest = push_blob(aged, "a", b"layer")
    age(aged, 10)
    run_now(aged, "release_layer", lambda: aged.promise_blob("a", digest))
    assert read_blob(aged, "a", digest) == b"layer"


def test_an_image_pushed_between_mark_and_sweep_is_whole(aged: FilesystemStorage) -> None:
    config = push_blob(aged, "a", b"config 1")
    age(aged, 10)
    pushed: list[Digest] = []

    def push() -> None:
        content = json.dumps({"schemaVersion": 2, "config": {"digest": str(config), "size": 8}, "layers": []}).encode()
        aged.put_manifest("a", ManifestPush(Digest.of(content), content, references=(config,), tags=("v1",)))
        pushed.append(Digest.of(content))

    run_now(aged, "release_layer", push)
    assert read_blob(aged, "a", config) == b"config 1"
    assert aged.manifest("a", pushed[0])


def test_a_blob_mounted_between_mark_and_sweep_stays(aged: FilesystemStorage) -> None:
    digest = push_blob(aged, "a", b"layer")
    age(aged, 10)

    def mount() -> None:
        try:
            aged.mount_blob(digest, "a", "b")
        except BlobUnknown:
            push_blob(aged, "b", b"layer")  # told it is not there: the client pushes it

    run_now(aged, "remove_blob", mount)
    assert read_blob(aged, "b", digest) == b"layer"


@pytest.mark.parametrize("way", ["commit", "mount", "manifest"])
def test_bytes_whose_link_was_a_long_time_in_the_making_stay(
    aged: FilesystemStorage, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """A sweep that waits at the lock, and whose mark was before the link, must find a lease younger than its cut-off."""
    push_blob(aged, "a", b"layer")
    content = b'{"schemaVersion": 2}'
    digest = Digest.of(content if way == "manifest" else b"layer")
    removed: list[int | None] = []
    sweeps: list[threading.Thread] = []
    make_link = aged.make_link

    def slowly(path: str, linked: Digest) -> None:
        cutoff = time.time() + 0.03
        sweeps.append(threading.Thread(target=lambda: removed.append(aged.remove_blob(digest, cutoff))))
        sweeps[-1].start()
        threading.Event().wait(0.06)  # beyond the cut-off
        make_link(path, linked)

    monkeypatch.setattr(aged, "make_link", slowly)
    if way == "commit":
        push_blob(aged, "b", b"layer")
    elif way == "mount":
        aged.mount_blob(digest, "a", "b")
    else:
        aged.put_manifest("b", ManifestPush(digest, content))
    for sweep in sweeps:
        sweep.join()
    assert set(removed) == {None}
    assert digest in digests(aged)


def test_an_untagged_manifest_tagged_or_listed_between_mark_and_sweep_stays(aged: FilesystemStorage) -> None:
    manifest = push_manifest(aged, "a")
    age(aged, 10)
    content = aged.manifest("a", manifest)
    run_now(aged, "release_manifest", lambda: aged.put_manifest("a", ManifestPush(manifest, content, tags=("v1",))))
    assert aged.manifest("a", aged.tag("a", "v1")) == content
    aged.delete_tag("a", "v1", lambda _tag, _current: None)
    age(aged, 10)
    index = json.dumps({"schemaVersion": 2, "manifests": [subject_of(manifest)]}).encode()
    push = ManifestPush(Digest.of(index), index, references=(manifest,), tags=("index",))
    run_now(aged, "release_manifest", lambda: aged.put_manifest("a", push))
    assert aged.manifest("a", manifest) == content


def test_pushes_beside_collection_never_end_with_a_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients re-push images as fast as they can, while collection takes whatever was not promised within 0.3 s of its start."""
    monkeypatch.setattr(tree, "RENEW_SECONDS", 0)
    storage = FilesystemStorage(str(tmp_path))
    stop = threading.Event()
    problems: list[str] = []
    removed: list[int] = []
    end = time.monotonic() + 0.8

    def sweep() -> None:
        while not stop.is_set():
            now = time.time() + DAY - 0.3
            report = Collection(FilesystemStorage(str(tmp_path)), CollectionRules(retention=[EVERYTHING_UNTAGGED]), now=now).run()
            removed.extend([1] * report.blobs_removed)

    def push(number: int) -> None:
        chance = random.Random(number)
        while True:
            if time.monotonic() > end and removed:
                return
            layer = f"layer {chance.randrange(50)}".encode()
            digest = Digest.of(layer)
            try:
                storage.promise_blob("a", digest)
            except BlobUnknown:
                push_blob(storage, "a", layer)
            content = json.dumps(
                {"schemaVersion": 2, "config": {"digest": str(digest), "size": 7}, "layers": [], "n": number}
            ).encode()
            try:
                storage.put_manifest("a", ManifestPush(Digest.of(content), content, references=(digest,), tags=(f"t{number}",)))
            except ManifestBlobUnknown:
                continue  # an honest refusal: 0.3 s on a busy disk are no promise to build on
            if storage.tag("a", f"t{number}") != Digest.of(content):
                problems.append("the tag points elsewhere")
            try:
                storage.manifest("a", Digest.of(content))
                read_blob(storage, "a", digest)
            except (ManifestUnknown, BlobUnknown) as error:
                problems.append(error.message)

    sweeper = threading.Thread(target=sweep)
    pushers = [threading.Thread(target=push, args=(number,)) for number in range(4)]
    for thread in (sweeper, *pushers):
        thread.start()
    for thread in pushers:
        thread.join()
    stop.set()
    sweeper.join()
    assert problems == []
    assert removed


def test_two_collections_at_once_do_each_thing_once(tmp_path: Path) -> None:
    storage = FilesystemStorage(str(tmp_path))
    for number in range(30):
        push_blob(storage, "a", b"%d" % number)
    age(storage, 10)
    reports: list[CollectionReport] = []

    def run() -> None:
        reports.append(Collection(FilesystemStorage(str(tmp_path)), CollectionRules()).run())

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.blobs_removed for report in reports) == 30
    assert list(storage.blobs()) == []


# Scrub


def corrupt(storage: FilesystemStorage, digest: Digest, content: bytes = b"evil!") -> None:
    Path(storage.layout.data(digest)).write_bytes(content)


def test_scrub_puts_corrupt_bytes_aside_and_a_push_heals_them(aged: FilesystemStorage) -> None:
    good, bad = push_blob(aged, "a", b"good"), push_blob(aged, "a", b"bytes")
    corrupt(aged, bad)
    assert scrub(aged, dry_run=True).corrupt == [str(bad)]
    assert read_blob(aged, "a", bad) == b"evil!"
    report = scrub(aged)
    assert (report.corrupt, report.missing, report.blobs) == ([str(bad)], [f"a@{bad}"], 2)
    with pytest.raises(BlobUnknown):
        aged.blob_size("a", bad)
    assert read_blob(aged, "a", good) == b"good"
    push_blob(aged, "a", b"bytes")
    assert scrub(aged).corrupt == scrub(aged).missing == []
    assert len(list(Path(aged.layout.corrupt).iterdir())) == 1


def test_scrub_reads_without_renewing_leases(aged: FilesystemStorage) -> None:
    push_blob(aged, "a", b"x")
    age(aged, 10)
    scrub(aged)
    assert all(blob.leased_at < time.time() - 9 * DAY for blob in aged.blobs())
