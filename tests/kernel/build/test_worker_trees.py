"""The solver's side of the tree jobs."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import threading
from pathlib import Path

import pytest

from carrack.archive.compression import zstd
from carrack.build.ports import ChecksumOrder, CopyOrder, CopySource, InlineFile, PackOptions
from carrack.build.trees import WorkerTrees
from carrack.distribution.cancellation import Cancellation
from carrack.errors import Cancelled, InvalidParameter, NotFound
from carrack.oci.mount import Mount
from tests.kernel.build.trees import Yard, bind, tree_of

pytestmark = pytest.mark.root
GO_ON = Cancellation()


@pytest.fixture
def trees(zygote_socket: str) -> WorkerTrees:
    return WorkerTrees(zygote_socket)


def staging(yard: Yard) -> Path:
    path = yard.root / f"staging-{os.urandom(4).hex()}/diff"
    path.mkdir(parents=True)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("compression", ["uncompressed", "gzip", "zstd"])
def test_a_layer_is_packed_in_any_compression_with_the_same_diff_id(yard: Yard, trees: WorkerTrees, compression: str) -> None:
    yard.write("a/b")
    with (yard.root / "layer").open("w+b") as target:
        packed = trees.pack_upper(yard.context, target.fileno(), PackOptions(compression), GO_ON)
        target.seek(0)
        content = target.read()
    plain = {"uncompressed": lambda x: x, "gzip": gzip.decompress, "zstd": zstd().decompress}[compression](content)
    assert packed.diff_id == f"sha256:{hashlib.sha256(plain).hexdigest()}"
    with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
        assert archive.getnames() == ["a", "a/b"]
    assert (packed.size_bytes, packed.entries) == (3, 2)


def test_rewritten_times_give_the_same_bytes_from_another_tree(yard: Yard, trees: WorkerTrees) -> None:
    contents = []
    for moment in (1_700_000_000, 1_800_000_000):
        yard.write("a/b")
        os.utime(yard.context / "a/b", (moment, moment))
        with (yard.root / "layer").open("w+b") as target:
            trees.pack_upper(yard.context, target.fileno(), PackOptions("gzip", epoch_seconds=5), GO_ON)
            target.seek(0)
            contents.append(target.read())
    assert contents[0] == contents[1]


def test_an_unknown_compression_is_refused(yard: Yard, trees: WorkerTrees) -> None:
    with pytest.raises(InvalidParameter, match="unsupported layer compression"):
        trees.pack_upper(yard.context, 1, PackOptions("lz4"), GO_ON)


def test_a_copy_over_a_base_leaves_only_the_layer(yard: Yard, trees: WorkerTrees) -> None:
    yard.write("file")
    yard.write("to/old", into=yard.base)
    upper = staging(yard)
    base = (Mount("overlay", "overlay", lower=(str(yard.base),)),)
    order = CopyOrder((CopySource(bind(yard.context), "file"),), (InlineFile("said", b"here"),), "/to/", base=base)
    copied = trees.copy(order, upper, GO_ON)
    assert tree_of(upper) == {"to": "/", "to/file": "file", "to/said": "here"}
    assert (copied.size_bytes, copied.entries) == (8, 2)
    assert os.listdir(upper.parent) == ["diff"]


def test_a_linked_copy_does_not_look_at_the_base(yard: Yard, trees: WorkerTrees) -> None:
    yard.write("file")
    upper = staging(yard)
    trees.copy(CopyOrder((CopySource(bind(yard.context), "file"),), (), "/to/", link=True), upper, GO_ON)
    assert tree_of(upper) == {"to": "/", "to/file": "file"}


def test_a_copy_from_scratch_finds_nothing(yard: Yard, trees: WorkerTrees) -> None:
    with pytest.raises(NotFound, match='"/file": not found'):
        trees.copy(CopyOrder((CopySource((), "file"),), (), "/"), staging(yard), GO_ON)


def test_a_checksum_is_remembered_for_a_tree_that_never_changes(yard: Yard, trees: WorkerTrees) -> None:
    yard.write("file")
    named = ChecksumOrder(bind(yard.context), "file", cache_key="settled")
    unnamed = ChecksumOrder(bind(yard.context), "file")
    before = trees.checksum(named, GO_ON)
    assert trees.checksum(unnamed, GO_ON) == before
    (yard.context / "file").write_text("changed")
    assert trees.checksum(named, GO_ON) == before
    assert trees.checksum(unnamed, GO_ON) != before


def test_a_file_is_read_from_inside_its_tree(yard: Yard, trees: WorkerTrees) -> None:
    yard.write("file", "dir/")
    (yard.context / "link").symlink_to("/file")
    (yard.context / "out").symlink_to("/etc/hostname")
    assert trees.read(bind(yard.context), "link", 100, GO_ON) == b"file"
    with pytest.raises(NotFound):
        trees.read(bind(yard.context), "out", 100, GO_ON)
    with pytest.raises(InvalidParameter, match="no file|not a file"):
        trees.read(bind(yard.context), "dir", 100, GO_ON)
    with pytest.raises(InvalidParameter, match="at most 2"):
        trees.read(bind(yard.context), "file", 2, GO_ON)


def test_a_cancelled_copy_ends_at_once_and_leaves_no_mount(yard: Yard, trees: WorkerTrees) -> None:
    os.mkfifo(yard.root / "never")  # a reader of it waits for ever
    reader, writer = os.pipe()
    cancel = Cancellation()
    with (yard.context / "large").open("wb") as large:
        large.truncate(64 << 20)
    timer = threading.Timer(0.05, cancel.cancel)
    timer.start()
    with pytest.raises(Cancelled):
        trees.pack_upper(yard.context, writer, PackOptions("uncompressed"), cancel)  # nobody reads the pipe
    timer.join()
    os.close(reader)
    os.close(writer)
    with pytest.raises(Cancelled):
        trees.read(bind(yard.context), "large", 1, cancel)
    assert str(yard.root) not in Path("/proc/self/mountinfo").read_text()
