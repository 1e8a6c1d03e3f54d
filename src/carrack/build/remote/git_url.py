"""What a Git address says: which repository, which reference, which directory of it.

Docker's forms: ``https://host/path.git``, ``git://``, ``ssh://``, ``user@host:path``, ``github.com/user/name``, each with
``#reference:directory`` or, for URLs, with a query (``?branch=``, ``tag=``, ``ref=``, ``commit=`` or ``checksum=``, ``subdir=``,
``keep-git-dir=``, ``submodules=``). Source: Docker's manual, "Build context", "Git repositories".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from carrack.errors import InvalidParameter

_SCP = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*@[a-zA-Z0-9][a-zA-Z0-9._-]*:[^\0]+")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_TRUE = {"": True, "1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True, slots=True)
class GitAddress:
    """A Git address taken apart. `repository` is what git is given; None where the address says nothing."""

    repository: str
    reference: str = ""
    directory: str = ""
    checksum: str = ""
    keep_git_dir: bool | None = None
    submodules: bool | None = None

    @property
    def host(self) -> str:
        """Whose secrets are asked for."""
        if "://" not in self.repository:
            return self.repository.partition("@")[2].partition(":")[0]
        return urlsplit(self.repository).hostname or ""

    @property
    def shown(self) -> str:
        """For people and provenance: no password."""
        parts = urlsplit(self.repository)
        url = self.repository
        if parts.scheme in ("http", "https") and parts.username is not None:
            url = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, parts.query, ""))
        fragment = f"{self.reference}:{self.directory}" if self.directory else self.reference
        return f"{url}#{fragment}" if fragment else url


def is_git(url: str) -> bool:
    """Whether an address names a Git repository rather than a file."""
    if url.startswith(("git://", "ssh://", "github.com/")):
        return True
    if url.startswith(("http://", "https://")):
        return _split(url).path.endswith(".git")
    return _SCP.fullmatch(url.partition("#")[0]) is not None


def _split(url: str) -> SplitResult:
    """Raises InvalidParameter for what is no URL."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # looks at it
    except ValueError as error:
        raise InvalidParameter(f"{url!r} is no URL: {error}") from error
    return parts


def parse_git_url(url: str) -> GitAddress:
    """Read an address. Raises InvalidParameter."""
    if not is_git(url):
        raise InvalidParameter(f"{url!r} is not a Git address")
    if url.startswith("github.com/"):
        url = f"https://{url}"
    bare, _, fragment = url.partition("#")
    reference, _, directory = fragment.partition(":")
    fields: dict[str, str] = {}
    if "://" in bare:
        parts = _split(bare)
        fields = _query(parts.query, url)
        if fields and fragment:
            raise InvalidParameter(f"{url!r}: a reference stands both behind # and in the query")
        bare = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
        if not parts.hostname:
            raise InvalidParameter(f"{url!r}: no host")
    given = [_qualified(kind, fields[kind]) for kind in ("ref", "branch", "tag") if fields.get(kind)]
    if len(set(given)) > 1:
        raise InvalidParameter(f"{url!r}: only one of ref, branch and tag may be given")
    commit = fields.get("commit") or fields.get("checksum") or ""
    if fields.get("commit") and fields.get("checksum") and fields["commit"] != fields["checksum"]:
        raise InvalidParameter(f"{url!r}: commit and checksum differ")
    address = GitAddress(
        repository=bare,
        reference=(given[0] if given else "") or reference,
        directory=fields.get("subdir") or directory,
        checksum=commit,
        keep_git_dir=_flag(fields, "keep-git-dir"),
        submodules=_flag(fields, "submodules"),
    )
    _check(address)
    return address


def _query(text: str, url: str) -> dict[str, str]:
    known = {"ref", "branch", "tag", "commit", "checksum", "subdir", "keep-git-dir", "submodules"}
    fields: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name not in known:
            raise InvalidParameter(f"unexpected query {name!r} in Git address {url!r}")
        if name in fields:
            raise InvalidParameter(f"{name!r} is given twice in Git address {url!r}")
        fields[name] = value
    return fields


def _qualified(kind: str, name: str) -> str:
    return {"branch": f"refs/heads/{name}", "tag": f"refs/tags/{name}"}.get(kind, name)


def _flag(fields: dict[str, str], name: str) -> bool | None:
    if name not in fields:
        return None
    try:
        return _TRUE[fields[name].lower()]
    except KeyError:
        raise InvalidParameter(f"invalid value {fields[name]!r} of {name} in a Git address") from None


def _check(address: GitAddress) -> None:
    """Refuse what git would take for an option, and directories that go up (CVE-2026-33748)."""
    for text in (address.repository, address.reference):
        if text.startswith("-") or any(character in text for character in "\0\n\r"):
            raise InvalidParameter(f"invalid Git address: {text!r}")
    if address.host.startswith("-"):
        raise InvalidParameter(f"invalid Git address: {address.repository!r}")
    if re.search(r"\.\.|[ ~^:?*\[\\]|@\{", address.reference):
        raise InvalidParameter(f"invalid Git reference: {address.reference!r}")
    if ".." in address.directory.split("/") or "\0" in address.directory:
        raise InvalidParameter(f"invalid directory in a Git address: {address.directory!r} leads out of the repository")
    if address.checksum and _COMMIT.fullmatch(address.checksum) is None:
        raise InvalidParameter(f"invalid commit in a Git address: {address.checksum!r}")
