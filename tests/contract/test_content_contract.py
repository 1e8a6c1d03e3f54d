"""What every content store keeps, run for the file system and for the double."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from carrack.content import ContentStore, FilesystemContent, MemoryContent
from carrack.errors import Conflict, DataCorrupt, InvalidParameter, NotFound
from carrack.oci.digest import Digest

HELLO = Digest.of(b"hello")
OTHER = Digest.of(b"other")


def put(store: ContentStore, content: bytes) -> Digest:
    with store.lease() as lease, store.writer(lease) as writer:
        writer.write(content)
        return writer.commit()


class ContentContract:
    """A subclass supplies the `store` fixture."""

    def test_what_was_written_is_read_back_by_its_digest(self, store: ContentStore) -> None:
        assert put(store, b"hello") == HELLO
        assert store.read(HELLO, 100) == b"hello"
        assert store.size(HELLO) == 5

    def test_a_blob_is_not_there_before_its_commit(self, store: ContentStore) -> None:
        with store.lease() as lease, store.writer(lease) as writer:
            writer.write(b"hello")
            assert not store.has(HELLO)
            writer.commit()
            assert store.has(HELLO)

    def test_a_descriptor_reads_the_blob_from_its_beginning(self, store: ContentStore) -> None:
        fd = store.open(put(store, b"hello"))
        try:
            assert os.read(fd, 100) == b"hello"
        finally:
            os.close(fd)

    def test_bytes_may_arrive_one_at_a_time(self, store: ContentStore) -> None:
        with store.lease() as lease, store.writer(lease) as writer:
            for byte in b"hello":
                writer.write(bytes([byte]))
            assert writer.offset == 5
            assert writer.commit(HELLO, 5) == HELLO

    def test_the_wrong_digest_is_refused_and_leaves_nothing(self, store: ContentStore) -> None:
        with store.lease() as lease, store.writer(lease, expected=HELLO) as writer:
            writer.write(b"other")
            with pytest.raises(DataCorrupt, match="not sha256:2cf24dba"):
                writer.commit()
        assert list(store.list()) == []

    def test_the_wrong_size_is_refused_and_leaves_nothing(self, store: ContentStore) -> None:
        with store.lease() as lease, store.writer(lease) as writer:
            writer.write(b"hello")
            with pytest.raises(DataCorrupt, match="5 bytes, not the 6"):
                writer.commit(HELLO, 6)
        assert list(store.list()) == []

    def test_a_sha512_name_is_verified_as_such(self, store: ContentStore) -> None:
        import hashlib

        name = Digest("sha512", hashlib.sha512(b"hello").hexdigest())
        with store.lease() as lease, store.writer(lease, expected=name) as writer:
            writer.write(b"hello")
            assert writer.commit() == name
        assert store.read(name, 100) == b"hello"

    def test_an_abandoned_writer_leaves_nothing(self, store: ContentStore) -> None:
        with store.lease() as lease, store.writer(lease) as writer:
            writer.write(b"hello")
        assert list(store.list()) == []

    def test_the_same_blob_may_be_written_twice_at_once(self, store: ContentStore) -> None:
        with store.lease() as lease, store.writer(lease) as one, store.writer(lease) as two:
            one.write(b"hello")
            two.write(b"hello")
            assert one.commit() == two.commit() == HELLO
        assert list(store.list()) == [HELLO]

    def test_a_resumable_writer_goes_on_where_it_was_closed(self, store: ContentStore) -> None:
        with store.lease() as lease:
            with store.writer(lease, expected=HELLO, key="pull") as writer:
                writer.write(b"hel")
            with store.writer(lease, expected=HELLO, key="pull") as writer:
                assert writer.offset == 3
                writer.write(b"lo")
                assert writer.commit() == HELLO

    def test_a_writer_may_begin_anew(self, store: ContentStore) -> None:
        with store.lease() as lease, store.writer(lease, expected=HELLO, key="pull") as writer:
            writer.write(b"wrong and longer")
            writer.restart()
            writer.write(b"hello")
            assert (writer.offset, writer.commit(size_bytes=5)) == (5, HELLO)

    def test_a_corrupt_attempt_is_not_resumed(self, store: ContentStore) -> None:
        with store.lease() as lease:
            with store.writer(lease, expected=HELLO, key="pull") as writer:
                writer.write(b"wrong")
                with pytest.raises(DataCorrupt):
                    writer.commit()
            with store.writer(lease, expected=HELLO, key="pull") as writer:
                assert writer.offset == 0

    def test_a_key_has_one_writer_at_a_time(self, store: ContentStore) -> None:
        with store.lease() as lease, store.writer(lease, key="pull"), pytest.raises(Conflict):
            store.writer(lease, key="pull")

    def test_an_unknown_blob_is_not_found(self, store: ContentStore) -> None:
        for ask in (store.size, store.open, store.verify, lambda digest: store.read(digest, 10)):
            with pytest.raises(NotFound):
                ask(HELLO)

    def test_a_document_larger_than_its_limit_is_not_read(self, store: ContentStore) -> None:
        put(store, b"hello")
        with pytest.raises(InvalidParameter):
            store.read(HELLO, 4)

    def test_removing_twice_is_once(self, store: ContentStore) -> None:
        put(store, b"hello")
        store.remove(HELLO)
        store.remove(HELLO)
        assert not store.has(HELLO)

    def test_collect_takes_what_nothing_refers_to(self, store: ContentStore) -> None:
        put(store, b"hello")
        put(store, b"other")
        collected = store.collect(lambda: {HELLO})
        assert (collected.digests, collected.size_bytes) == ((OTHER,), 5)
        assert list(store.list()) == [HELLO]

    def test_collect_can_be_confined_to_some_blobs(self, store: ContentStore) -> None:
        put(store, b"hello")
        put(store, b"other")
        assert store.collect(set, only=[OTHER, Digest.of(b"never")]).digests == (OTHER,)

    def test_a_lease_protects_until_it_ends(self, store: ContentStore) -> None:
        lease = store.lease()
        with store.writer(lease) as writer:
            writer.write(b"hello")
            writer.commit()
        assert store.collect(set).digests == ()
        lease.end()
        assert store.collect(set).digests == (HELLO,)

    def test_a_blob_recorded_while_a_collection_reads_the_records_survives(self, store: ContentStore) -> None:
        put(store, b"hello")

        def reads_too_early() -> set[Digest]:
            with store.lease() as lease:  # the whole life of a pull that re-uses the blob, after the collector read the records
                lease.add(HELLO)
            return set()

        assert store.collect(reads_too_early).digests == ()

    def test_two_leases_of_one_blob_are_counted(self, store: ContentStore) -> None:
        put(store, b"hello")
        one, two = store.lease(), store.lease()
        one.add(HELLO)
        two.add(HELLO)
        one.end()
        assert store.collect(set).digests == ()
        two.end()
        assert store.collect(set).digests == (HELLO,)


class TestMemoryContent(ContentContract):
    @pytest.fixture
    def store(self) -> MemoryContent:
        return MemoryContent()


class TestFilesystemContent(ContentContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> FilesystemContent:
        return FilesystemContent(tmp_path / "blobs", tmp_path / "ingest")

    def test_bytes_that_changed_on_disk_are_not_served_as_good(self, store: FilesystemContent) -> None:
        put(store, b"hello")
        store.path(HELLO).write_bytes(b"jello")
        for ask in (store.verify, lambda digest: store.read(digest, 10)):
            with pytest.raises(DataCorrupt):
                ask(HELLO)

    def test_a_blob_that_a_power_failure_cut_short_is_replaced(self, store: FilesystemContent) -> None:
        put(store, b"hello")
        os.truncate(store.path(HELLO), 2)
        put(store, b"hello")
        assert store.read(HELLO, 10) == b"hello"

    def test_recover_removes_what_dead_writers_left_and_keeps_resumable_bytes(
        self, store: FilesystemContent, tmp_path: Path
    ) -> None:
        lease = store.lease()
        store.writer(lease).write(b"dead")
        store.writer(lease, key="pull").write(b"hel")
        again = FilesystemContent(tmp_path / "blobs", tmp_path / "ingest")
        again.recover()
        assert len(list((tmp_path / "ingest").iterdir())) == 1
        assert again.writer(again.lease(), key="pull").offset == 3

    def test_recover_removes_resumable_bytes_that_are_too_old(self, store: FilesystemContent, tmp_path: Path) -> None:
        with store.writer(store.lease(), key="pull") as writer:
            writer.write(b"hel")
        store.recover(resumable_seconds=-1)
        assert list((tmp_path / "ingest").iterdir()) == []

    def test_a_commit_leaves_the_ingest_folder_empty(self, store: FilesystemContent, tmp_path: Path) -> None:
        put(store, b"hello")
        put(store, b"hello")
        assert list((tmp_path / "ingest").iterdir()) == []

    def test_many_threads_may_write_and_collect_at_once(self, store: FilesystemContent) -> None:
        kept: set[Digest] = set()
        lock = threading.Lock()

        def write(base: int) -> None:
            for number in range(20):
                with store.lease() as lease, store.writer(lease) as writer:
                    writer.write(f"{base} {number}".encode())
                    digest = writer.commit()
                    with lock:
                        kept.add(digest)

        def referenced() -> set[Digest]:
            with lock:
                return set(kept)

        threads = [threading.Thread(target=write, args=(base,)) for base in range(4)]
        run: Callable[[], object] = lambda: [store.collect(referenced) for _ in range(20)]  # noqa: E731
        threads.append(threading.Thread(target=run))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(store.list()) == kept
        assert len(kept) == 80
