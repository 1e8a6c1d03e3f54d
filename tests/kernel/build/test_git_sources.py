"""Git repositories as sources: every form of an address, secrets, and what a hostile repository cannot do."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from carrack.build.ports import GitSource
from carrack.build.remote.sources import Remotes
from carrack.build.trees import WorkerTrees
from carrack.distribution.cancellation import Cancellation
from carrack.errors import CarrackError, InvalidParameter, NotFound
from tests.kernel.build.trees import tree_of
from tests.rig.git_server import GitServer, git_server

pytestmark = pytest.mark.root


class Fetching:
    """A server, and our side of it."""

    def __init__(self, server: GitServer, remotes: Remotes, root: Path) -> None:
        self.server = server
        self.remotes = remotes
        self._root = root
        self._count = 0

    def fetch(self, url: str, secrets: Mapping[str, bytes] | None = None, **options: object) -> dict[str, str]:
        """The files that an address gives."""
        source = GitSource(url, **options)  # type: ignore[arg-type]
        cancel = Cancellation()
        pinned = self.remotes.pin(source, secrets or {}, cancel)
        self._count += 1
        into = self._root / f"into{self._count}"
        into.mkdir()
        self.remotes.fetch(pinned, into, secrets or {}, lambda _: None, cancel)
        self.into = into
        return tree_of(into)

    def key(self, url: str, **options: object) -> str:
        return self.remotes.pin(GitSource(url, **options), {}, Cancellation()).key  # type: ignore[arg-type]


@pytest.fixture
def fetching(zygote_socket: str, tmp_path: Path) -> Iterator[Fetching]:
    with git_server(tmp_path / "served") as server:
        yield Fetching(server, Remotes(tmp_path / "remote", WorkerTrees(zygote_socket)), tmp_path)


def test_the_default_branch_is_what_an_address_alone_means(fetching: Fetching) -> None:
    fetching.server.repository("app.git", {"Dockerfile": "FROM scratch", "src/main": "code"})
    files = fetching.fetch(fetching.server.url("app.git"))
    assert files == {"Dockerfile": "FROM scratch", "src": "/", "src/main": "code"}
    assert (fetching.into / "Dockerfile").stat().st_uid == 0


@pytest.mark.parametrize("form", ["#{}", "#refs/heads/{}", "?branch={}", "?ref={}", "?ref=refs/heads/{}"])
def test_a_branch_can_be_named_in_every_form(fetching: Fetching, form: str) -> None:
    repository = fetching.server.repository("app.git", {"file": "main"})
    repository.commit({"file": "other"}, branch="topic/one")
    assert fetching.fetch(fetching.server.url("app.git") + form.format("topic/one")) == {"file": "other"}


@pytest.mark.parametrize("form", ["#v1", "#refs/tags/v1", "?tag=v1", "?ref=v1"])
@pytest.mark.parametrize("annotated", [False, True])
def test_a_tag_means_its_commit(fetching: Fetching, form: str, annotated: bool) -> None:
    repository = fetching.server.repository("app.git", {"file": "first"})
    first = repository.git("rev-parse", "HEAD")
    repository.git("tag", *(["-a", "-m", "said"] if annotated else []), "v1")
    repository.commit({"file": "second"})
    url = fetching.server.url("app.git") + form
    assert fetching.fetch(url) == {"file": "first"}
    assert first in fetching.key(url)


def test_a_commit_is_fetched_alone(fetching: Fetching) -> None:
    repository = fetching.server.repository("app.git", {"file": "first"})
    first = repository.git("rev-parse", "HEAD")
    repository.commit({"file": "second"})
    assert fetching.fetch(f"{fetching.server.url('app.git')}#{first}") == {"file": "first"}
    with pytest.raises(InvalidParameter, match="must be given whole"):
        fetching.fetch(f"{fetching.server.url('app.git')}#{first[:10]}")


@pytest.mark.parametrize("form", ["#main:app", "#:app", "?subdir=app", "?branch=main&subdir=/app/"])
def test_a_directory_can_be_the_whole_context(fetching: Fetching, form: str) -> None:
    fetching.server.repository("app.git", {"app/Dockerfile": "FROM x", "else": "not"})
    assert fetching.fetch(fetching.server.url("app.git") + form) == {"Dockerfile": "FROM x"}


def test_a_directory_that_is_not_there_is_named(fetching: Fetching) -> None:
    fetching.server.repository("app.git", {"file": "x"})
    with pytest.raises(NotFound, match="no directory 'none'"):
        fetching.fetch(fetching.server.url("app.git") + "#main:none")


def test_a_reference_or_repository_that_is_not_there_is_named(fetching: Fetching) -> None:
    fetching.server.repository("app.git", {"file": "x"})
    with pytest.raises(NotFound, match="does not contain ref none"):
        fetching.fetch(fetching.server.url("app.git") + "#none")
    with pytest.raises(NotFound, match="not found"):
        fetching.fetch(fetching.server.url("none.git"))


def test_a_checksum_must_agree(fetching: Fetching) -> None:
    repository = fetching.server.repository("app.git", {"file": "x"})
    commit = repository.git("rev-parse", "HEAD")
    url = fetching.server.url("app.git")
    assert fetching.fetch(f"{url}?branch=main&checksum={commit}") == {"file": "x"}
    assert fetching.fetch(url, checksum=commit[:12]) == {"file": "x"}
    with pytest.raises(InvalidParameter, match="expected checksum to match"):
        fetching.fetch(url, checksum="0" * 40)


def test_the_git_directory_stays_only_when_asked_for(fetching: Fetching) -> None:
    fetching.server.repository("app.git", {"file": "x"})
    url = fetching.server.url("app.git")
    assert ".git/HEAD" in fetching.fetch(url, keep_git_dir=True)
    assert ".git/HEAD" in fetching.fetch(f"{url}?keep-git-dir=1")
    assert fetching.fetch(url) == {"file": "x"}
    assert fetching.key(url) != fetching.key(url, keep_git_dir=True)


def test_submodules_come_along(fetching: Fetching) -> None:
    fetching.server.repository("part.git", {"inner": "y"})
    repository = fetching.server.repository("app.git", {"file": "x"})
    repository.git("submodule", "--quiet", "add", fetching.server.url("part.git"), "part")
    repository.commit({})
    files = fetching.fetch(fetching.server.url("app.git"))
    assert files["part/inner"] == "y"
    assert not [name for name in files if name.endswith(".git")]
    assert "part/inner" not in fetching.fetch(fetching.server.url("app.git") + "?submodules=false")


def test_the_key_is_the_commit_and_moves_with_it(fetching: Fetching) -> None:
    repository = fetching.server.repository("app.git", {"file": "x"})
    before = fetching.key(fetching.server.url("app.git"))
    assert fetching.key(fetching.server.url("app.git")) == before
    repository.commit({"file": "y"})
    assert fetching.key(fetching.server.url("app.git")) != before


@pytest.mark.parametrize("name", ["GIT_AUTH_TOKEN", "GIT_AUTH_TOKEN.127.0.0.1"])
def test_a_token_opens_a_private_repository_and_stays_secret(fetching: Fetching, name: str) -> None:
    fetching.server.repository("app.git", {"file": "x"})
    fetching.server.authorization = f"basic {b64encode(b'x-access-token:hush').decode()}"
    url = fetching.server.url("app.git")
    assert fetching.fetch(url, {name: b"hush\n"}, keep_git_dir=True)["file"] == "x"
    assert not [path for path in fetching.into.rglob("*") if path.is_file() and b"hush" in path.read_bytes()]
    with pytest.raises(CarrackError) as caught:
        fetching.fetch(url, {name: b"wrong"})
    assert "wrong" not in str(caught.value)


# ── hostile repositories and addresses ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("directory", ["..", "../..", "a/../../b", "/../etc"])
def test_a_directory_that_goes_up_is_refused(fetching: Fetching, directory: str) -> None:
    """CVE-2026-33748."""
    with pytest.raises(InvalidParameter, match="leads out"):
        fetching.fetch(f"{fetching.server.url('app.git')}#main:{directory}")


@pytest.mark.parametrize("target", ["/etc", "../../../../../../../../etc", "/"])
def test_a_link_as_directory_does_not_leave_the_tree(fetching: Fetching, target: str) -> None:
    """CVE-2026-33748: the subdirectory is a symbolic link of the repository."""
    repository = fetching.server.repository("app.git", {"file": "x", "etc/inside": "tree"})
    (repository.work / "link").symlink_to(target)
    repository.commit({})
    try:
        files = fetching.fetch(f"{fetching.server.url('app.git')}#main:link")
    except NotFound:
        return
    assert set(files) <= {"inside", "file", "etc", "etc/inside", "link"}


def test_a_submodule_cannot_be_a_directory_of_the_host(fetching: Fetching, tmp_path: Path) -> None:
    """CVE-2022-39253 and its like: protocol file is closed."""
    secret = fetching.server.repository("secret.git", {"key": "host"})
    repository = fetching.server.repository("app.git", {"file": "x"})
    repository.git("submodule", "--quiet", "add", f"file://{secret.path}", "part")
    repository.commit({})
    with pytest.raises(CarrackError, match="not allowed"):
        fetching.fetch(fetching.server.url("app.git"))


def test_no_hook_or_filter_of_a_repository_runs(fetching: Fetching, tmp_path: Path) -> None:
    repository = fetching.server.repository("app.git", {"file": "x", ".gitattributes": "* filter=evil"})
    repository.commit({".lfsconfig": "[lfs]\nurl = x", ".gitconfig": '[filter "evil"]\nsmudge = touch /workspace/ran'})
    files = fetching.fetch(fetching.server.url("app.git"))
    assert files["file"] == "x"
    assert "ran" not in files


@pytest.mark.parametrize(
    "url",
    [
        "--upload-pack=touch /tmp/x.git",
        "ssh://-oProxyCommand=x/a.git",
        "http://h/a.git#--upload-pack=x",
        "http://h/a.git#a..b",
        "http://h/a.git?unknown=1",
        "http://h/a.git?ref=a&tag=b",
        "http://h/a.git?ref=a#b",
        "git@host:x\n.git",
    ],
)
def test_an_address_that_is_none_is_refused_before_git_sees_it(fetching: Fetching, url: str) -> None:
    with pytest.raises(InvalidParameter):
        fetching.fetch(url)
    assert fetching.server.asked == []


def test_nothing_is_left_of_a_checkout(fetching: Fetching, tmp_path: Path) -> None:
    fetching.server.repository("app.git", {"file": "x"})
    fetching.fetch(fetching.server.url("app.git"))
    with pytest.raises(NotFound):
        fetching.fetch(fetching.server.url("app.git") + "#main:none")
    assert os.listdir(tmp_path / "remote/checkouts") == []
