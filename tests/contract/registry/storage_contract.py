"""What every store of the registry keeps; a subclass supplies the `storage` fixture."""

from __future__ import annotations

import json
import os
import threading
import time

import pytest

from carrack.oci.digest import Digest
from carrack.registry.errors import (
    BlobUnknown,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestUnknown,
    NameUnknown,
    PreconditionFailed,
    UploadBusy,
)
from carrack.registry.storage import ManifestPush, Storage

SOON = time.time() + 10_000_000
LONG_AGO = 1.0
OTHER = Digest.of(b"something nobody pushed")


def push_blob(storage: Storage, repository: str, content: bytes) -> Digest:
    upload = storage.open_upload(repository, storage.start_upload(repository))
    upload.write([content])
    upload.commit(Digest.of(content))
    return Digest.of(content)


def push_manifest(storage: Storage, repository: str, *, tags: tuple[str, ...] = (), note: str = "", **fields: object) -> Digest:
    config = push_blob(storage, repository, f"config {note}".encode())
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": str(config), "size": 7 + len(note)},
        "layers": [],
        **fields,
    }
    content = json.dumps(document).encode()
    subject = fields.get("subject")
    storage.put_manifest(
        repository,
        ManifestPush(
            Digest.of(content),
            content,
            references=(config,),
            subject=Digest.parse(subject["digest"]) if isinstance(subject, dict) else None,
            tags=tags,
        ),
    )
    return Digest.of(content)


def subject_of(digest: Digest) -> dict[str, object]:
    return {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": str(digest), "size": 2}


def read_blob(storage: Storage, repository: str, digest: Digest) -> bytes:
    opened = storage.open_blob(repository, digest)
    try:
        return os.pread(opened.fd, opened.size_bytes + 1, 0)
    finally:
        os.close(opened.fd)


class StorageContract:
    @pytest.fixture
    def storage(self) -> Storage:
        raise NotImplementedError

    # Uploads and blobs

    def test_a_committed_upload_is_a_blob_of_its_repository(self, storage: Storage) -> None:
        digest = push_blob(storage, "a/b", b"hello")
        assert storage.blob_size("a/b", digest) == 5
        assert read_blob(storage, "a/b", digest) == b"hello"

    def test_an_empty_blob_can_be_pushed(self, storage: Storage) -> None:
        digest = push_blob(storage, "a", b"")
        assert storage.blob_size("a", digest) == 0

    def test_an_upload_goes_on_where_it_stopped(self, storage: Storage) -> None:
        upload_id = storage.start_upload("a")
        first = storage.open_upload("a", upload_id)
        first.write([b"hel"])
        first.close()
        second = storage.open_upload("a", upload_id)
        assert second.offset == 3
        second.write([b"l", b"", memoryview(b"o")])
        second.commit(Digest.of(b"hello"))
        assert read_blob(storage, "a", Digest.of(b"hello")) == b"hello"

    def test_the_size_of_an_upload_is_what_was_written(self, storage: Storage) -> None:
        upload_id = storage.start_upload("a")
        assert storage.upload_size("a", upload_id) == 0
        writer = storage.open_upload("a", upload_id)
        writer.write([b"12345"])
        writer.close()
        assert storage.upload_size("a", upload_id) == 5

    def test_sha512_names_a_blob_as_well(self, storage: Storage) -> None:
        import hashlib

        digest = Digest("sha512", hashlib.sha512(b"hello").hexdigest())
        writer = storage.open_upload("a", storage.start_upload("a"))
        writer.write([b"hello"])
        writer.commit(digest)
        assert read_blob(storage, "a", digest) == b"hello"

    def test_a_wrong_digest_ends_the_upload_and_leaves_no_blob(self, storage: Storage) -> None:
        upload_id = storage.start_upload("a")
        writer = storage.open_upload("a", upload_id)
        writer.write([b"hello"])
        with pytest.raises(DigestInvalid):
            writer.commit(OTHER)
        writer.close()
        with pytest.raises(BlobUploadUnknown):
            storage.upload_size("a", upload_id)
        with pytest.raises(BlobUnknown):
            storage.blob_size("a", OTHER)
        assert list(storage.blobs()) == []

    def test_two_cannot_write_to_one_upload(self, storage: Storage) -> None:
        upload_id = storage.start_upload("a")
        writer = storage.open_upload("a", upload_id)
        with pytest.raises(UploadBusy):
            storage.open_upload("a", upload_id)
        writer.close()
        storage.open_upload("a", upload_id).close()

    def test_an_upload_belongs_to_its_repository(self, storage: Storage) -> None:
        upload_id = storage.start_upload("a")
        with pytest.raises(BlobUploadUnknown):
            storage.open_upload("b", upload_id)

    @pytest.mark.parametrize("upload_id", ["..", "../../x", "", "00000000-0000-0000-0000-000000000000"])
    def test_an_upload_nobody_started_is_unknown(self, storage: Storage, upload_id: str) -> None:
        with pytest.raises(BlobUploadUnknown):
            storage.open_upload("a", upload_id)
        with pytest.raises(BlobUploadUnknown):
            storage.cancel_upload("a", upload_id)

    def test_a_cancelled_upload_is_unknown(self, storage: Storage) -> None:
        upload_id = storage.start_upload("a")
        storage.cancel_upload("a", upload_id)
        with pytest.raises(BlobUploadUnknown):
            storage.upload_size("a", upload_id)

    def test_a_finished_upload_is_unknown(self, storage: Storage) -> None:
        upload_id = storage.start_upload("a")
        storage.open_upload("a", upload_id).commit(Digest.of(b""))
        with pytest.raises(BlobUploadUnknown):
            storage.open_upload("a", upload_id)

    def test_no_blob_is_readable_through_a_repository_that_does_not_hold_it(self, storage: Storage) -> None:
        digest = push_blob(storage, "a", b"secret")
        push_blob(storage, "b", b"other")
        for attempt in (storage.blob_size, storage.open_blob, storage.promise_blob):
            with pytest.raises(BlobUnknown):
                attempt("b", digest)

    def test_a_mounted_blob_is_held_by_both_and_stored_once(self, storage: Storage) -> None:
        digest = push_blob(storage, "a", b"shared")
        assert storage.mount_blob(digest, "a", "b") == 6
        storage.unlink_blob("a", digest)
        assert read_blob(storage, "b", digest) == b"shared"
        assert [blob.size_bytes for blob in storage.blobs()] == [6]

    def test_what_a_repository_does_not_hold_cannot_be_mounted_from_it(self, storage: Storage) -> None:
        digest = push_blob(storage, "a", b"secret")
        with pytest.raises(BlobUnknown):
            storage.mount_blob(digest, "b", "c")
        with pytest.raises(BlobUnknown):
            storage.blob_size("c", digest)

    def test_an_unlinked_blob_is_unknown_there_and_cannot_be_unlinked_again(self, storage: Storage) -> None:
        digest = push_blob(storage, "a", b"x")
        storage.unlink_blob("a", digest)
        with pytest.raises(BlobUnknown):
            storage.open_blob("a", digest)
        with pytest.raises(BlobUnknown):
            storage.unlink_blob("a", digest)

    # Manifests and tags

    def test_a_manifest_comes_back_byte_for_byte(self, storage: Storage) -> None:
        content = b'{"schemaVersion": 2,\n "odd":  "spacing"}'
        storage.put_manifest("a", ManifestPush(Digest.of(content), content, tags=("v1", "latest")))
        assert storage.manifest("a", Digest.of(content)) == content
        assert storage.tag("a", "v1") == storage.tag("a", "latest") == Digest.of(content)

    def test_a_manifest_of_another_repository_is_unknown(self, storage: Storage) -> None:
        digest = push_manifest(storage, "a")
        push_manifest(storage, "b", note="other")
        with pytest.raises(ManifestUnknown):
            storage.manifest("b", digest)
        with pytest.raises(ManifestUnknown):
            storage.promise_manifest("b", digest)

    def test_a_manifest_with_missing_parts_changes_nothing(self, storage: Storage) -> None:
        push_manifest(storage, "a", tags=("v1",))
        before = storage.tag("a", "v1")
        with pytest.raises(ManifestBlobUnknown) as refusal:
            storage.put_manifest("a", ManifestPush(Digest.of(b"{}"), b"{}", references=(OTHER,), tags=("v1",)))
        assert refusal.value.detail == [{"digest": str(OTHER)}]
        assert storage.tag("a", "v1") == before
        with pytest.raises(ManifestUnknown):
            storage.manifest("a", Digest.of(b"{}"))
        assert Digest.of(b"{}") not in {blob.digest for blob in storage.blobs()}

    def test_parts_held_by_another_repository_only_are_missing(self, storage: Storage) -> None:
        digest = push_blob(storage, "a", b"layer")
        with pytest.raises(ManifestBlobUnknown):
            storage.put_manifest("b", ManifestPush(Digest.of(b"{}"), b"{}", references=(digest,)))

    def test_an_index_may_name_manifests_and_blobs(self, storage: Storage) -> None:
        references = (push_manifest(storage, "a"), push_blob(storage, "a", b"cache layer"))
        storage.put_manifest("a", ManifestPush(Digest.of(b"[]"), b"[]", references=references, tags=("index",)))
        assert storage.tag("a", "index") == Digest.of(b"[]")

    def test_a_tag_moves(self, storage: Storage) -> None:
        old = push_manifest(storage, "a", tags=("v1",), note="old")
        new = push_manifest(storage, "a", tags=("v1",), note="new")
        assert storage.tag("a", "v1") == new
        assert storage.manifest("a", old)

    def test_a_check_sees_where_the_tag_points_and_may_refuse(self, storage: Storage) -> None:
        old = push_manifest(storage, "a", tags=("v1",))
        seen: list[tuple[str, Digest | None]] = []

        def refuse(tag: str, current: Digest | None) -> None:
            seen.append((tag, current))
            if current is not None:
                raise PreconditionFailed("no")

        with pytest.raises(PreconditionFailed):
            storage.put_manifest("a", ManifestPush(Digest.of(b"{}"), b"{}", tags=("new", "v1"), check=refuse))
        assert seen == [("new", None), ("v1", old)]
        assert list(storage.tags("a")) == ["v1"]
        assert storage.tag("a", "v1") == old

    def test_of_many_who_create_one_tag_only_if_absent_one_wins(self, storage: Storage) -> None:
        won: list[int] = []

        def must_be_new(_tag: str, current: Digest | None) -> None:
            if current is not None:
                raise PreconditionFailed("exists")

        def push(number: int) -> None:
            content = f'{{"n": {number}}}'.encode()
            try:
                storage.put_manifest("a", ManifestPush(Digest.of(content), content, tags=("once",), check=must_be_new))
            except PreconditionFailed:
                return
            won.append(number)

        threads = [threading.Thread(target=push, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert storage.tag("a", "once") == Digest.of(f'{{"n": {won[0]}}}'.encode())

    def test_deleting_a_manifest_takes_its_tags_with_it_and_no_others(self, storage: Storage) -> None:
        gone = push_manifest(storage, "a", tags=("v1", "latest"), note="gone")
        push_manifest(storage, "a", tags=("v2",), note="stays")
        storage.delete_manifest("a", gone)
        assert list(storage.tags("a")) == ["v2"]
        with pytest.raises(ManifestUnknown):
            storage.manifest("a", gone)
        with pytest.raises(ManifestUnknown):
            storage.delete_manifest("a", gone)

    def test_deleting_a_tag_leaves_its_manifest_and_other_tags(self, storage: Storage) -> None:
        digest = push_manifest(storage, "a", tags=("v1", "v2"))
        storage.delete_tag("a", "v1", lambda _tag, _current: None)
        assert list(storage.tags("a")) == ["v2"]
        assert storage.manifest("a", digest)
        with pytest.raises(ManifestUnknown):
            storage.delete_tag("a", "v1", lambda _tag, _current: None)

    def test_deleting_a_manifest_in_one_repository_leaves_the_others(self, storage: Storage) -> None:
        digest = push_manifest(storage, "a", tags=("v1",))
        assert push_manifest(storage, "b", tags=("v1",)) == digest
        storage.delete_manifest("a", digest)
        assert storage.manifest("b", digest)

    def test_a_deleted_manifest_can_be_pushed_again(self, storage: Storage) -> None:
        digest = push_manifest(storage, "a", tags=("v1",))
        storage.delete_manifest("a", digest)
        push_manifest(storage, "a", tags=("v1",))
        assert storage.tag("a", "v1") == digest

    # Lists

    def test_tags_come_in_byte_order_after_the_last(self, storage: Storage) -> None:
        push_manifest(storage, "a", tags=("b", "B", "a.1", "_x", "10", "9"))
        assert list(storage.tags("a")) == ["10", "9", "B", "_x", "a.1", "b"]
        assert list(storage.tags("a", "B")) == ["_x", "a.1", "b"]
        assert list(storage.tags("a", "C")) == ["_x", "a.1", "b"]

    def test_tags_of_an_unknown_repository_are_refused(self, storage: Storage) -> None:
        with pytest.raises(NameUnknown):
            storage.tags("nowhere")
        assert not storage.has_repository("nowhere")

    def test_a_repository_may_have_no_tags(self, storage: Storage) -> None:
        push_blob(storage, "a", b"x")
        assert list(storage.tags("a")) == []

    def test_repositories_come_in_the_byte_order_of_their_whole_names(self, storage: Storage) -> None:
        names = ["a", "a-b", "a/b", "a/b/c", "a.b", "a0", "z/y"]
        for name in names:
            push_blob(storage, name, b"x")
        assert list(storage.repositories()) == sorted(names)
        for after in [*names, "a/", "a/a", "b", "", "zz"]:
            assert list(storage.repositories(after)) == sorted(name for name in names if name > after)

    def test_an_upload_alone_does_not_list_a_repository(self, storage: Storage) -> None:
        storage.start_upload("a")
        assert list(storage.repositories()) == []
        assert list(storage.repositories(pushed_to=False)) == ["a"]

    # Referrers

    def test_referrers_are_those_of_the_repository_that_name_the_subject(self, storage: Storage) -> None:
        image = push_manifest(storage, "a")
        one = push_manifest(storage, "a", note="sbom", subject=subject_of(image))
        two = push_manifest(storage, "a", note="signature", subject=subject_of(image))
        push_manifest(storage, "a", note="else", subject=subject_of(OTHER))
        push_manifest(storage, "b", note="there", subject=subject_of(image))
        assert storage.referrers("a", image) == sorted([one, two])

    def test_a_subject_may_come_after_its_referrer(self, storage: Storage) -> None:
        referrer = push_manifest(storage, "a", subject=subject_of(OTHER))
        assert storage.referrers("a", OTHER) == [referrer]

    def test_a_deleted_referrer_is_listed_no_more(self, storage: Storage) -> None:
        image = push_manifest(storage, "a")
        referrer = push_manifest(storage, "a", note="sbom", subject=subject_of(image))
        storage.delete_manifest("a", referrer)
        assert storage.referrers("a", image) == []

    def test_nobody_refers_to_what_is_unknown(self, storage: Storage) -> None:
        assert storage.referrers("nowhere", OTHER) == []

    # Leases

    def test_a_lease_protects_a_layer_until_it_is_over(self, storage: Storage) -> None:
        digest = push_blob(storage, "a", b"x")
        assert not storage.release_layer("a", digest, LONG_AGO)
        assert storage.blob_size("a", digest) == 1
        assert storage.release_layer("a", digest, SOON)
        with pytest.raises(BlobUnknown):
            storage.blob_size("a", digest)
        assert not storage.release_layer("a", digest, SOON)

    def test_a_lease_protects_bytes_until_it_is_over(self, storage: Storage) -> None:
        digest = push_blob(storage, "a", b"four")
        assert storage.remove_blob(digest, LONG_AGO) is None
        assert storage.remove_blob(digest, SOON) == 4
        assert storage.remove_blob(digest, SOON) is None
        with pytest.raises(BlobUnknown):
            storage.blob_size("a", digest)

    def test_a_tagged_manifest_is_not_released(self, storage: Storage) -> None:
        digest = push_manifest(storage, "a", tags=("v1",))
        assert not storage.release_manifest("a", digest, SOON)
        storage.delete_tag("a", "v1", lambda _tag, _current: None)
        assert not storage.release_manifest("a", digest, LONG_AGO)
        assert storage.release_manifest("a", digest, SOON)
        with pytest.raises(ManifestUnknown):
            storage.manifest("a", digest)

    def test_a_released_manifest_refers_to_nothing(self, storage: Storage) -> None:
        referrer = push_manifest(storage, "a", subject=subject_of(OTHER))
        assert storage.release_manifest("a", referrer, SOON)
        assert storage.referrers("a", OTHER) == []

    def test_an_upload_expires_only_when_nobody_wrote_to_it(self, storage: Storage) -> None:
        upload_id = storage.start_upload("a")
        assert not storage.release_upload("a", upload_id, LONG_AGO)
        assert storage.upload_size("a", upload_id) == 0
        assert storage.release_upload("a", upload_id, SOON)
        with pytest.raises(BlobUploadUnknown):
            storage.open_upload("a", upload_id)

    def test_collection_sees_all_links_bytes_and_uploads(self, storage: Storage) -> None:
        manifest = push_manifest(storage, "a", note="1")
        upload_id = storage.start_upload("a")
        assert [held.digest for held in storage.revisions("a")] == [manifest]
        assert [held.digest for held in storage.layers("a")] == [Digest.of(b"config 1")]
        assert {held.digest for held in storage.blobs()} == {manifest, Digest.of(b"config 1")}
        assert [upload.id for upload in storage.uploads("a")] == [upload_id]
        assert all(abs(held.leased_at - time.time()) < 60 for held in storage.blobs())

    def test_quarantined_bytes_are_unknown_until_they_are_pushed_again(self, storage: Storage) -> None:
        digest = push_blob(storage, "a", b"x")
        storage.quarantine(digest)
        with pytest.raises(BlobUnknown):
            storage.open_blob("a", digest)
        push_blob(storage, "a", b"x")
        assert read_blob(storage, "a", digest) == b"x"

    def test_an_empty_repository_is_tidied_away(self, storage: Storage) -> None:
        digest = push_manifest(storage, "a/b", tags=("v1",))
        storage.delete_manifest("a/b", digest)
        for layer in list(storage.layers("a/b")):
            storage.unlink_blob("a/b", layer.digest)
        storage.tidy(SOON)
        assert not storage.has_repository("a/b")
        assert list(storage.repositories()) == []
