"""The double cannot lie: whatever orders come in whatever order, the store in memory and the one on disk answer the same."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from carrack.oci.digest import Digest
from carrack.registry.collect import Collection, CollectionRules, RetentionRule
from carrack.registry.errors import RegistryError
from carrack.registry.storage import ManifestPush, Storage
from carrack.registry.storage.filesystem import FilesystemStorage
from carrack.registry.storage.memory import MemoryStorage

REPOSITORIES = st.sampled_from(["a", "a/b", "c"])
BLOBS = st.sampled_from([b"one", b"two", b""])
TAGS = st.sampled_from(["v1", "v2"])
MANIFESTS = st.integers(0, 2)
DIGESTS = st.sampled_from([Digest.of(content) for content in (b"one", b"two", b"", b"never")])


def manifest(number: int) -> tuple[bytes, tuple[Digest, ...], Digest | None]:
    """A few manifests: two images, and one that refers to the first."""
    config = Digest.of(b"one" if number == 0 else b"two")
    subject = Digest.of(manifest(0)[0]) if number == 2 else None
    document: dict[str, object] = {"schemaVersion": 2, "config": {"digest": str(config), "size": 3}, "layers": [], "n": number}
    if subject is not None:
        document["subject"] = {"digest": str(subject), "size": 1}
    return json.dumps(document).encode(), (config,), subject


def push_blob(store: Storage, repository: str, content: bytes, digest: Digest) -> None:
    writer = store.open_upload(repository, store.start_upload(repository))
    try:
        writer.write([content])
        writer.commit(digest)
    finally:
        writer.close()


def push_manifest(store: Storage, repository: str, number: int, tags: tuple[str, ...]) -> None:
    content, references, subject = manifest(number)
    store.put_manifest(repository, ManifestPush(Digest.of(content), content, references, subject, tags))


def digest_of(number: int) -> Digest:
    return Digest.of(manifest(number)[0])


def collect(store: Storage) -> object:
    rules = CollectionRules(retention=[RetentionRule(["**"], untagged_seconds=0)])
    report = Collection(store, rules, now=time.time() + 30 * 86_400).run()
    return report.manifests_removed, report.links_removed, report.blobs_removed, report.blob_bytes_freed, report.blobs_kept


Order = Callable[[Storage], object]
ORDERS: st.SearchStrategy[tuple[str, Order]] = st.one_of(
    st.builds(lambda r, b: (f"push {r} {b!r}", lambda s: push_blob(s, r, b, Digest.of(b))), REPOSITORIES, BLOBS),
    st.builds(lambda r, b, d: (f"push {r} {b!r} as {d}", lambda s: push_blob(s, r, b, d)), REPOSITORIES, BLOBS, DIGESTS),
    st.builds(lambda d, a, b: (f"mount {d} {a} {b}", lambda s: s.mount_blob(d, a, b)), DIGESTS, REPOSITORIES, REPOSITORIES),
    st.builds(lambda r, d: (f"unlink {r} {d}", lambda s: s.unlink_blob(r, d)), REPOSITORIES, DIGESTS),
    st.builds(lambda r, n, t: (f"put {r} {n} {t}", lambda s: push_manifest(s, r, n, (t,))), REPOSITORIES, MANIFESTS, TAGS),
    st.builds(lambda r, n: (f"put {r} {n}", lambda s: push_manifest(s, r, n, ())), REPOSITORIES, MANIFESTS),
    st.builds(lambda r, n: (f"delete {r} {n}", lambda s: s.delete_manifest(r, digest_of(n))), REPOSITORIES, MANIFESTS),
    st.builds(lambda r, t: (f"untag {r} {t}", lambda s: s.delete_tag(r, t, lambda _t, _d: None)), REPOSITORIES, TAGS),
    st.just(("collect", collect)),
)


def outcome(order: Order, store: Storage) -> object:
    try:
        return order(store)
    except RegistryError as error:
        return type(error).__name__, error.code


def seen(store: Storage) -> object:
    """All that a client or collection can see."""
    held = {
        name: (
            {layer.digest for layer in store.layers(name)},
            {revision.digest: store.manifest(name, revision.digest) for revision in store.revisions(name)},
            {tag: store.tag(name, tag) for tag in store.tags(name)},
            store.referrers(name, digest_of(0)),
        )
        for name in store.repositories()
    }
    bytes_stored = {(blob.digest, blob.size_bytes) for blob in store.blobs()}
    return bytes_stored, {name: what for name, what in held.items() if any(what)}  # emptied ones vanish when tidied


@settings(max_examples=25)
@given(st.lists(ORDERS, min_size=3, max_size=20))
def test_both_stores_answer_the_same(orders: list[tuple[str, Order]]) -> None:
    with tempfile.TemporaryDirectory(prefix="carrack-stores-") as root:
        disk, memory = FilesystemStorage(root), MemoryStorage()
        for name, order in orders:
            assert outcome(order, disk) == outcome(order, memory), name
        assert seen(disk) == seen(memory)
