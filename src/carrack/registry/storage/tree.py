"""What the parts of the filesystem store share: its layout, its locks, and how a link is read, promised and made."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

from carrack.oci.digest import Digest
from carrack.registry.errors import BlobUnknown
from carrack.registry.storage.durable import write_file
from carrack.registry.storage.layout import Layout
from carrack.registry.storage.locks import Locks

RENEW_SECONDS = 3600
"""A lease younger than this is not renewed again: a look-up writes to the disk at most once an hour per link. Collection never
uses a grace shorter than twice this, so that a promise is good for at least the grace less this hour."""

_PARTS = ("_layers", "_manifests", "_uploads")


class Tree:
    """One root folder, opened. Making it creates our own directories, nothing else."""

    def __init__(self, root: str) -> None:
        self.layout = Layout(os.path.abspath(root))
        for directory in (self.layout.staging, self.layout.locks, self.layout.all_repositories, self.layout.all_blobs):
            os.makedirs(directory, 0o755, exist_ok=True)
        self.locks = Locks(self.layout.locks)

    def has_repository(self, repository: str) -> bool:
        return self._has_any(repository, _PARTS)

    def repositories(self, after: str = "", *, pushed_to: bool = True) -> Iterator[str]:
        """Depth first in the byte order of whole names; a subtree that ends before `after` is not entered."""
        yield from self._repositories_below("", after, ("_layers", "_manifests") if pushed_to else _PARTS)

    def _repositories_below(self, prefix: str, after: str, parts: tuple[str, ...]) -> Iterator[str]:
        # "a-b" sorts before "a/b": a directory stands in the order twice, as the name itself and as the subtree below it.
        steps: list[str] = []
        for name in self._component_names(prefix):
            steps += [prefix + name, prefix + name + "/"]
        for step in sorted(steps):
            if step.endswith("/"):
                if step > after or after.startswith(step):
                    yield from self._repositories_below(step, after, parts)
            elif step > after and self._has_any(step, parts):
                yield step

    def _component_names(self, prefix: str) -> list[str]:
        try:
            with os.scandir(self.layout.repository(prefix) if prefix else self.layout.all_repositories) as entries:
                return [entry.name for entry in entries if not entry.name.startswith("_") and entry.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _has_any(self, repository: str, parts: tuple[str, ...]) -> bool:
        path = self.layout.repository(repository)
        return any(os.path.isdir(f"{path}/{part}") for part in parts)

    def stored_size(self, digest: Digest) -> int:
        """Size of some bytes, whoever links to them. Raises BlobUnknown."""
        try:
            return os.stat(self.layout.data(digest)).st_size
        except FileNotFoundError:
            raise BlobUnknown("blob unknown to registry", detail={"digest": str(digest)}) from None

    def promise_stored(self, digest: Digest) -> None:
        """Renew the lease of some bytes; under the content's lock. Raises BlobUnknown."""
        try:
            renew_data(self.layout.data(digest))
        except FileNotFoundError:
            raise BlobUnknown("blob unknown to registry", detail={"digest": str(digest)}) from None

    def link_stored(self, path: str, digest: Digest) -> None:
        """Link to stored bytes; under the repository's and the content's lock. Raises BlobUnknown.

        Their lease is renewed last: a mark that did not see the link began before that, so its sweep finds the lease younger.
        """
        self.promise_stored(digest)
        self.make_link(path, digest)
        self.promise_stored(digest)

    def make_link(self, path: str, digest: Digest) -> None:
        """Make a link, or renew the lease of the one that is there; under the repository's lock."""
        if os.path.exists(path) and os.path.getsize(path) == len(str(digest)):
            os.utime(path)
        else:
            write_file(path, str(digest).encode(), self.layout.staging)

    def promise_link(self, path: str) -> bool:
        """Renew a link's lease; under the repository's lock. Whether it is there."""
        try:
            if os.stat(path).st_mtime < time.time() - RENEW_SECONDS:
                os.utime(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def is_linked(self, path: str) -> bool:
        """Whether a link file is there."""
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True


def renew_data(path: str) -> None:
    """Renew the lease of stored bytes: their access time, because the modification time tells whether they were touched at all."""
    os.utime(path, ns=(time.time_ns(), os.stat(path).st_mtime_ns))


def data_lease(state: os.stat_result) -> float:
    """When stored bytes were last promised. A file system that notes reads as well only makes that later."""
    return max(state.st_atime, state.st_mtime)


def is_older(path: str, moment: float) -> bool:
    """Whether `path` is there and its lease ended before `moment`."""
    try:
        return os.stat(path).st_mtime < moment
    except FileNotFoundError:
        return False
