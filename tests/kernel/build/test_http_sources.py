"""ADD of a URL: names, times, checksums, and asking a server only whether anything changed."""

from __future__ import annotations

import hashlib
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrack.build.ports import HttpSource
from carrack.build.remote.sources import Remotes
from carrack.build.trees import WorkerTrees
from carrack.distribution.cancellation import Cancellation
from carrack.errors import Cancelled, CarrackError, InvalidParameter, NotFound, Unavailable
from tests.rig.hostile_server import Answer, drip, drip_body, hostile
from tests.rig.web_server import Page, WebServer, web_server

pytestmark = pytest.mark.root


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as server:
        yield server


@pytest.fixture
def remotes(zygote_socket: str, tmp_path: Path) -> Remotes:
    return Remotes(tmp_path / "remote", WorkerTrees(zygote_socket))


def fetch(remotes: Remotes, root: Path, source: HttpSource) -> Path:
    """The one file that a source gives."""
    pinned = remotes.pin(source, {}, Cancellation())
    into = root / f"into{len(list(root.iterdir()))}"
    into.mkdir()
    remotes.fetch(pinned, into, {}, lambda _: None, Cancellation())
    (file,) = into.iterdir()
    return file


@pytest.mark.parametrize(
    ("path", "headers", "name"),
    [
        ("/dir/file.txt", {}, "file.txt"),
        ("/a%20b", {}, "a b"),
        ("/x", {"Content-Disposition": 'attachment; filename="named"'}, "named"),
        ("/x", {"Content-Disposition": 'attachment; filename="../../etc/passwd"'}, "passwd"),
        ("/dir/", {}, "download"),
    ],
)
def test_a_file_is_named_by_the_server_or_its_url(
    remotes: Remotes, web: WebServer, tmp_path: Path, path: str, headers: dict[str, str], name: str
) -> None:
    web.pages[path] = Page(b"content", headers)
    assert fetch(remotes, tmp_path, HttpSource(web.url(path))).name == name


def test_a_file_has_mode_600_and_the_servers_time(remotes: Remotes, web: WebServer, tmp_path: Path) -> None:
    web.pages["/dated"] = Page(b"content", {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})
    web.pages["/undated"] = Page(b"content")
    dated, undated = (fetch(remotes, tmp_path, HttpSource(web.url(path))).stat() for path in ("/dated", "/undated"))
    assert (stat.S_IMODE(dated.st_mode), dated.st_mtime, undated.st_mtime) == (0o600, 1445412480, 0)


def test_a_validator_spares_the_second_download(remotes: Remotes, web: WebServer, tmp_path: Path) -> None:
    web.pages["/file"] = Page(b"content", {"ETag": '"one"'})
    before = remotes.pin(HttpSource(web.url("/file")), {}, Cancellation()).key
    assert remotes.pin(HttpSource(web.url("/file")), {}, Cancellation()).key == before
    assert web.sent == len(b"content")
    web.pages["/file"] = Page(b"changed", {"ETag": '"two"'})
    assert remotes.pin(HttpSource(web.url("/file")), {}, Cancellation()).key != before


def test_without_a_validator_the_content_decides(remotes: Remotes, web: WebServer) -> None:
    web.pages["/file"] = Page(b"content")
    before = remotes.pin(HttpSource(web.url("/file")), {}, Cancellation()).key
    assert remotes.pin(HttpSource(web.url("/file")), {}, Cancellation()).key == before
    web.pages["/file"] = Page(b"changed")
    assert remotes.pin(HttpSource(web.url("/file")), {}, Cancellation()).key != before


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_checksum_must_agree_and_needs_no_look_at_the_server(
    remotes: Remotes, web: WebServer, tmp_path: Path, algorithm: str
) -> None:
    web.pages["/file"] = Page(b"content")
    right = f"{algorithm}:{hashlib.new(algorithm, b'content').hexdigest()}"
    wrong = f"{algorithm}:{hashlib.new(algorithm, b'other').hexdigest()}"
    remotes.pin(HttpSource(web.url("/file"), right), {}, Cancellation())
    assert web.asked == []
    assert fetch(remotes, tmp_path, HttpSource(web.url("/file"), right)).read_bytes() == b"content"
    with pytest.raises(InvalidParameter, match="digest mismatch"):
        fetch(remotes, tmp_path, HttpSource(web.url("/file"), wrong))
    with pytest.raises(InvalidParameter, match="invalid digest"):
        fetch(remotes, tmp_path, HttpSource(web.url("/file"), "nonsense"))


def test_a_password_in_the_url_becomes_a_header_and_is_not_shown(remotes: Remotes, web: WebServer) -> None:
    web.pages["/file"] = Page(b"content", {"ETag": '"one"'})
    pinned = remotes.pin(HttpSource(web.url("/file", "user:hush@")), {}, Cancellation())
    assert web.asked[0][1]["Authorization"] == "Basic dXNlcjpodXNo"
    assert "hush" not in pinned.shown + pinned.key


@pytest.mark.parametrize(
    ("page", "error"),
    [(Page(b"", status=500), Unavailable), (Page(b"short", {"Content-Length": "100"}), Unavailable), (None, NotFound)],
)
def test_what_a_server_does_not_give_is_an_error_of_its_kind(
    remotes: Remotes, web: WebServer, page: Page | None, error: type[CarrackError]
) -> None:
    if page is not None:
        web.pages["/file"] = page
    with pytest.raises(error):
        remotes.pin(HttpSource(web.url("/file")), {}, Cancellation())


# the class of CVE-2020-15157
def test_a_password_follows_no_redirect_to_another_server(remotes: Remotes, web: WebServer) -> None:
    with web_server() as other:
        other.pages["/file"] = Page(b"content")
        web.pages["/here"] = Page(b"", {"Location": "/there"}, status=302)
        web.pages["/there"] = Page(b"", {"Location": other.url("/file")}, status=307)
        remotes.pin(HttpSource(web.url("/here", "user:hush@")), {}, Cancellation())
        assert ["Authorization" in headers for _, headers in web.asked] == [True, True]
        assert ["Authorization" in headers for _, headers in other.asked] == [False]


@pytest.mark.parametrize("place", ["ftp://127.0.0.1:9/x", "file:///etc/passwd", "http://[", "http://127.0.0.1:99999/"])
def test_a_redirect_leads_to_the_web_or_nowhere(remotes: Remotes, web: WebServer, place: str) -> None:
    web.pages["/file"] = Page(b"", {"Location": place}, status=302)
    with pytest.raises(InvalidParameter):
        remotes.pin(HttpSource(web.url("/file")), {}, Cancellation())


@pytest.mark.timeout(30)
@pytest.mark.parametrize("answer", [drip, drip_body])
def test_a_download_that_never_ends_can_be_taken_back_without_waiting(remotes: Remotes, answer: Answer) -> None:
    """By the thread of the event loop: it must not wait for a lock that the reader holds."""
    cancel = Cancellation()
    ended = threading.Event()

    def get() -> None:
        with pytest.raises(Cancelled):
            remotes.pin(HttpSource(f"http://{host}/file"), {}, cancel)
        ended.set()

    with hostile(answer) as host:
        threading.Thread(target=get, daemon=True).start()
        assert not ended.wait(0.3)
        begun = time.monotonic()
        cancel.cancel()
        assert time.monotonic() - begun < 1
        assert ended.wait(5)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "http://"])
def test_only_the_web_is_asked(remotes: Remotes, url: str) -> None:
    with pytest.raises(InvalidParameter):
        remotes.pin(HttpSource(url), {}, Cancellation())


def test_downloads_have_a_ceiling(zygote_socket: str, web: WebServer, tmp_path: Path) -> None:
    from carrack.build.remote.downloads import Downloads

    downloads = Downloads(tmp_path / "kept", kept_bytes=5000)
    for number in range(4):
        web.pages[f"/{number}"] = Page(bytes([number]) * 2000)
        downloads.get(web.url(f"/{number}"), {}, Cancellation())
    downloads.trim()
    assert downloads.idle_bytes <= 5000
    assert downloads.prune() > 0
    assert downloads.idle_bytes == 0


def test_what_a_killed_daemon_left_half_fetched_is_removed(tmp_path: Path) -> None:
    from carrack.build.remote.downloads import Downloads

    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/new-0123").write_bytes(b"half")
    assert Downloads(tmp_path / "kept").idle_bytes == 0
