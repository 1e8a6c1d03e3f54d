"""`ports.RemoteSources`: what a URL means now, and its files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from carrack.archive.copying import copy_content
from carrack.build.ports import GitSource, HttpSource, Pinned, RemoteSource
from carrack.build.remote.downloads import Downloaded, Downloads, filename_of, without_credentials
from carrack.build.remote.git import Git, remove_checkout
from carrack.build.remote.git_url import GitAddress, is_git, parse_git_url
from carrack.build.trees import WorkerTrees
from carrack.distribution.cancellation import Cancellation
from carrack.errors import InvalidParameter, SystemFailure
from carrack.kernel.placement import spread_children
from carrack.oci.digest import Digest

_FILE_MODE = 0o600
"""As the reference says of ADD from a URL."""


class Remotes:
    """Git and HTTP. Every method may be called from any thread."""

    def __init__(self, root: Path, trees: WorkerTrees) -> None:
        """`root` is a directory of ours; what a killed daemon left of a checkout in it is removed."""
        self.downloads = Downloads(root / "downloads")
        self._checkouts = root / "checkouts"
        self._checkouts.mkdir(mode=0o700, parents=True, exist_ok=True)
        spread_children(self._checkouts)
        self._git = Git(trees, self._workspace)
        self._clean_up()

    def is_git(self, url: str) -> bool:
        """See `ports.RemoteSources.is_git`."""
        return is_git(url)

    def pin(self, source: RemoteSource, secrets: Mapping[str, bytes], cancel: Cancellation) -> Pinned:
        """See `ports.RemoteSources.pin`."""
        if isinstance(source, GitSource):
            address = _address(source)
            commit = self._git.resolve(address, secrets, cancel)
            keep, submodules = _choices(source, address)
            key = f"git:{address.repository}#{commit}:{address.directory}{':keep' * keep}{':bare' * (not submodules)}"
            return Pinned(source, key, address.shown, {"sha1" if len(commit) == 40 else "sha256": commit})
        shown = without_credentials(source.url)[0]
        if source.checksum:
            checksum = Digest.parse(source.checksum)
            filename = source.filename or filename_of(source.url)
            return Pinned(source, f"http:{checksum}:{filename}", shown, {checksum.algorithm: checksum.encoded})
        got = self.downloads.get(source.url, source.headers, cancel)
        filename = source.filename or got.filename
        digest = got.digest.partition(":")[2]
        return Pinned(replace(source, filename=filename), f"http:{got.digest}:{filename}", shown, {"sha256": digest}, True)

    def fetch(
        self, pinned: Pinned, into: Path, secrets: Mapping[str, bytes], tell: Callable[[str], None], cancel: Cancellation
    ) -> None:
        """See `ports.RemoteSources.fetch`."""
        source = pinned.source
        if isinstance(source, GitSource):
            address = _address(source)
            keep, submodules = _choices(source, address)
            commit = next(iter(pinned.digest.values()))
            self._git.check_out(address, commit, into, secrets, tell, cancel, keep_git_dir=keep, submodules=submodules)
            return
        self._put(source, self._download(pinned, source, tell, cancel), into)
        self.downloads.trim()

    def path_of(self, pinned: Pinned, cancel: Cancellation) -> Path:
        """The content of a pinned HTTP source, as a file of ours that may go when the next one comes."""
        assert isinstance(pinned.source, HttpSource)
        return self._download(pinned, pinned.source, lambda _: None, cancel).path

    def _download(self, pinned: Pinned, source: HttpSource, tell: Callable[[str], None], cancel: Cancellation) -> Downloaded:
        ((algorithm, wanted),) = pinned.digest.items()
        got = self.downloads.find(source.url, f"sha256:{wanted}") if pinned.fetched else None
        if got is None:
            tell(f"fetching {pinned.shown}")
            got = self.downloads.get(source.url, source.headers, cancel)
        found = got.digest.partition(":")[2]
        if algorithm != "sha256":  # of the checksum that the user gave; ours names the file
            with got.path.open("rb") as file:
                found = hashlib.file_digest(file, algorithm).hexdigest()
        if found != wanted:
            raise InvalidParameter(f"digest mismatch for {pinned.shown}: {algorithm}:{found} (expected: {algorithm}:{wanted})")
        return got

    @staticmethod
    def _put(source: HttpSource, got: Downloaded, into: Path) -> None:
        name = source.filename or got.filename
        if "/" in name or name in ("", ".", ".."):
            raise InvalidParameter(f"invalid file name {name!r} for {source.url}")
        try:
            with got.path.open("rb") as content, (into / name).open("xb") as file:
                copy_content(content.fileno(), file.fileno(), os.fstat(content.fileno()).st_size)
                os.fchmod(file.fileno(), _FILE_MODE)
                os.utime(file.fileno(), (got.modified_seconds, got.modified_seconds))
        except OSError as error:
            raise SystemFailure(f"cannot keep what {source.url} gave: {error.strerror}") from error

    def _workspace(self) -> Path:
        path = self._checkouts / os.urandom(8).hex()
        path.mkdir(mode=0o700)
        return path

    def _clean_up(self) -> None:
        for path in self._checkouts.iterdir():
            remove_checkout(path)


def _address(source: GitSource) -> GitAddress:
    address = parse_git_url(source.url)
    if source.checksum and address.checksum and source.checksum != address.checksum:
        raise InvalidParameter(f"{address.shown}: two checksums are given")
    return replace(address, checksum=source.checksum or address.checksum)


def _choices(source: GitSource, address: GitAddress) -> tuple[bool, bool]:
    """(whether .git stays, whether submodules are fetched): the address decides where it says something."""
    keep = source.keep_git_dir if address.keep_git_dir is None else address.keep_git_dir
    return keep, source.submodules if address.submodules is None else address.submodules
