"""Locks between every thread, process and machine on one store: flock(2) on a few thousand empty files.

Two families, by hash of a name: a *repository*'s (shared: links are added and promised; exclusive: manifests and tags change,
links are released) and a *content*'s (shared: links to it are made; exclusive: its bytes are removed). Whoever needs both takes the
repository's first; whoever needs two repositories' takes them in order. The kernel drops a dead holder's locks.

flock is not fair: sharers that keep overlapping would keep an exclusive one out for ever. So whoever wants a repository first goes
through its turnstile; who waits for it exclusively stands in there, and those who come later wait behind.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from carrack.oci.digest import Digest


class Locks:
    """The lock files of one store."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def repository(self, name: str, *, exclusive: bool) -> AbstractContextManager[None]:
        """Hold a repository; blocks while another holds it the other way."""
        return self._repository_shard(_shard(name), exclusive=exclusive)

    def _repository_shard(self, shard: str, *, exclusive: bool) -> AbstractContextManager[None]:
        return _held(f"{self._directory}/r{shard}", _operation(exclusive), f"{self._directory}/t{shard}")

    def two_repositories(self, one: str, other: str) -> AbstractContextManager[None]:
        """Share two repositories, always in the order of their shards: nobody can hold what the other waits for."""
        return self._share_both(sorted({_shard(one), _shard(other)}))

    @contextmanager
    def _share_both(self, shards: list[str]) -> Iterator[None]:
        with ExitStack() as held:
            for shard in shards:
                held.enter_context(self._repository_shard(shard, exclusive=False))
            yield

    def content(self, digest: Digest, *, exclusive: bool) -> AbstractContextManager[None]:
        """Hold some bytes; blocks while another holds them the other way."""
        return _held(f"{self._directory}/c{digest.encoded[:3]}", _operation(exclusive))


def _shard(repository: str) -> str:
    return hashlib.sha256(repository.encode()).hexdigest()[:3]


def _operation(exclusive: bool) -> int:
    return fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH


@contextmanager
def _held(path: str, operation: int, turnstile: str = "") -> Iterator[None]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if turnstile:
            with _held(turnstile, operation):
                fcntl.flock(fd, operation)
        else:
            fcntl.flock(fd, operation)
        yield
    finally:
        os.close(fd)
