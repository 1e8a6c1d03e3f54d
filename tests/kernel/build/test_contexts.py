"""Contexts on this host: tars of every compression, remote ones, ignore files, and what stays between builds."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from carrack.archive.compression import zstd
from carrack.build.contexts.reception import Reception
from carrack.build.contexts.slots import Slots
from carrack.build.ports import ChecksumOrder
from carrack.build.remote.sources import Remotes
from carrack.build.trees import WorkerTrees
from carrack.distribution.cancellation import Cancellation
from carrack.errors import CarrackError, InvalidParameter
from tests.kernel.build.trees import tree_of
from tests.rig.git_server import git_server
from tests.rig.web_server import Page, WebServer, web_server

pytestmark = pytest.mark.root
GO_ON = Cancellation()


def throw(path: Path) -> None:
    import shutil

    shutil.rmtree(path)


@pytest.fixture
def reception(zygote_socket: str, tmp_path: Path) -> Reception:
    trees = WorkerTrees(zygote_socket)
    return Reception(Slots(tmp_path / "contexts", throw), trees, Remotes(tmp_path / "remote", trees))


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


def tar(files: dict[str, str], **facts: int) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            for key, value in facts.items():
                setattr(entry, key, value)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return content.getvalue()


def body(content: bytes) -> Callable[[int], bytes]:
    return io.BytesIO(content).read


def where(context: object) -> Path:
    return Path(context.tree()[0].source)  # type: ignore[attr-defined]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd().compress])
def test_a_body_may_have_any_compression(reception: Reception, compress: Callable[[bytes], bytes]) -> None:
    context = reception.receive_tar(body(compress(tar({"Dockerfile": "FROM x", "a/b": "c"}, uid=5, mode=0o640))), GO_ON)
    assert tree_of(where(context)) == {"Dockerfile": "FROM x", "a": "/", "a/b": "c"}
    status = (where(context) / "a/b").stat()
    assert (status.st_uid, status.st_mode & 0o7777) == (0, 0o640)
    assert context.read("Dockerfile", 100) == b"FROM x"
    assert context.read("none", 100) is None


@pytest.mark.parametrize("content", [b"no archive at all" * 100, b"\x1f\x8b broken", tar({"../out": "x"}), tar({"a": "b"})[:600]])
def test_a_body_that_is_no_context_is_refused_and_leaves_nothing(reception: Reception, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(CarrackError):
        reception.receive_tar(body(content), GO_ON)
    assert os.listdir(tmp_path / "contexts") == []
    assert not (tmp_path / "out").exists()


def test_the_same_tar_finds_its_tree_again(reception: Reception) -> None:
    content = tar({"Dockerfile": "FROM x"})
    first = reception.receive_tar(body(content), GO_ON)
    place, key = where(first), first.key
    first.close()
    again = reception.receive_tar(body(content), GO_ON)
    assert (where(again), again.key) == (place, key)
    beside = reception.receive_tar(body(content), GO_ON)
    assert where(beside) != place  # a slot is one build's at a time
    again.close()
    beside.close()
    assert not (place.exists() and where(beside).exists())


def test_a_large_tar_is_unpacked_while_it_comes(reception: Reception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrack.build.contexts.tarball._SPOOLED_BYTES", 1 << 20)
    content = tar({"big": "x" * (4 << 20), "after": "y"})
    context = reception.receive_tar(body(content), GO_ON)
    assert (where(context) / "big").stat().st_size == 4 << 20
    assert context.key.startswith("tar:sha256:")


def test_a_body_that_breaks_off_leaves_nothing(reception: Reception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrack.build.contexts.tarball._SPOOLED_BYTES", 1000)
    pieces = iter([tar({"a": "b"}), b""])

    def broken(_: int) -> bytes:
        piece = next(pieces)
        if not piece:
            raise ConnectionResetError("the client has gone")
        return piece

    with pytest.raises(ConnectionResetError):
        reception.receive_tar(broken, GO_ON)
    assert os.listdir(tmp_path / "contexts") == []


def test_ignored_files_are_left_out_and_the_next_build_has_them_again(reception: Reception) -> None:
    content = tar({"a.log": "1", "src/b.log": "2", "src/keep.log": "3", "Dockerfile": "FROM x", ".dockerignore": "**/*.log"})
    context = reception.receive_tar(body(content), GO_ON)
    tree = Path(context.tree(("# comment", "**/*.log", "", "!src/keep.log", "Dockerfile"))[0].source)
    assert tree_of(tree) == {"src": "/", "src/keep.log": "3", ".dockerignore": "**/*.log"}
    assert context.key == ""
    context.close()
    again = reception.receive_tar(body(content), GO_ON)
    assert "a.log" in tree_of(where(again))


def test_what_a_client_left_out_itself_costs_nothing(reception: Reception) -> None:
    content = tar({"Dockerfile": "FROM x"})
    context = reception.receive_tar(body(content), GO_ON)
    key = context.key
    context.tree(("*.log",))
    assert context.key == key != ""


def test_a_folder_left_out_stays_for_what_is_brought_back(reception: Reception) -> None:
    context = reception.receive_tar(body(tar({"a/b/c": "1", "a/x": "2", "d/e": "3"})), GO_ON)
    tree = Path(context.tree(("*", "!a/b"))[0].source)
    assert tree_of(tree) == {"a": "/", "a/b": "/", "a/b/c": "1"}


def test_the_index_agrees_with_the_files(reception: Reception) -> None:
    files = {f"dir/{number}": str(number) * number for number in range(50)}
    context = reception.receive_tar(body(tar(files)), GO_ON)
    order = ChecksumOrder(context.tree(), "dir")
    indexed = reception.trees.checksum(order, GO_ON)
    reception.trees.indexes.clear()
    assert reception.trees.checksum(order, GO_ON) == indexed


def test_a_name_given_twice_is_indexed_as_its_last(reception: Reception) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for text in ("first", "other"):
            entry = tarfile.TarInfo("file")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("file")
        link.type, link.linkname = tarfile.SYMTYPE, "elsewhere"
        archive.addfile(link)
        entry = tarfile.TarInfo("elsewhere")
        entry.size = 5
        archive.addfile(entry, io.BytesIO(b"third"))
    context = reception.receive_tar(body(content.getvalue()), GO_ON)
    order = ChecksumOrder(context.tree(), ".")
    indexed = reception.trees.checksum(order, GO_ON)
    reception.trees.indexes.clear()
    assert reception.trees.checksum(order, GO_ON) == indexed


def test_what_is_kept_has_a_ceiling(zygote_socket: str, tmp_path: Path) -> None:
    trees = WorkerTrees(zygote_socket)
    slots = Slots(tmp_path / "contexts", throw, kept_bytes=2500)
    reception = Reception(slots, trees, Remotes(tmp_path / "remote", trees))
    for number in range(4):
        reception.receive_tar(body(tar({"file": str(number) * 1000})), GO_ON).close()
    assert slots.idle_bytes == 2000
    assert slots.prune() == 2000
    assert os.listdir(tmp_path / "contexts") == []


def test_the_next_daemon_finds_what_is_whole_and_removes_the_rest(reception: Reception, zygote_socket: str, tmp_path: Path) -> None:
    content = tar({"file": "x"})
    context = reception.receive_tar(body(content), GO_ON)
    place = where(context)
    context.close()
    (tmp_path / "contexts/half-made/tree").mkdir(parents=True)
    slots = Slots(tmp_path / "contexts", throw)
    assert not (tmp_path / "contexts/half-made").exists()
    trees = WorkerTrees(zygote_socket)
    again = Reception(slots, trees, Remotes(tmp_path / "remote", trees)).receive_tar(body(content), GO_ON)
    assert where(again) == place


# ── remote contexts ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_archive_at_a_url_is_the_context(reception: Reception, web: WebServer) -> None:
    web.pages["/context.tar.gz"] = Page(gzip.compress(tar({"Dockerfile": "FROM x"})))
    context, lone = reception.receive_remote(web.url("/context.tar.gz"), lambda _: None, GO_ON)
    assert (tree_of(where(context)), lone) == ({"Dockerfile": "FROM x"}, "")


def test_a_text_at_a_url_is_a_dockerfile_alone(reception: Reception, web: WebServer) -> None:
    web.pages["/any"] = Page(b"FROM x\n")
    context, lone = reception.receive_remote(web.url("/any"), lambda _: None, GO_ON)
    assert (context.read(lone, 100), lone) == (b"FROM x\n", "Dockerfile")


def test_anything_else_at_a_url_is_refused(reception: Reception, web: WebServer) -> None:
    web.pages["/picture"] = Page(b"\x89PNG\0\0" * 200)
    with pytest.raises(InvalidParameter, match="neither an archive nor a Dockerfile"):
        reception.receive_remote(web.url("/picture"), lambda _: None, GO_ON)


def test_a_repository_is_a_context(reception: Reception, tmp_path: Path) -> None:
    with git_server(tmp_path / "served") as server:
        server.repository("app.git", {"app/Dockerfile": "FROM x", "else": "y"})
        context, lone = reception.receive_remote(f"{server.url('app.git')}#main:app", lambda _: None, GO_ON)
        assert (tree_of(where(context)), lone) == ({"Dockerfile": "FROM x"}, "")
        place = where(context)
        context.close()
        asked = len(server.asked)
        again, _ = reception.receive_remote(f"{server.url('app.git')}#main:app", lambda _: None, GO_ON)
        assert where(again) == place
        assert len(server.asked) - asked == 2  # ls-remote alone
