"""`RUN --mount=type=cache`: directories that stay from build to build, found by their id; and who may use one when.

`shared`: everyone at once. `private`: whoever comes while it is in use gets another one. `locked`: whoever comes waits.
Source: Dockerfile reference, "RUN --mount=type=cache".
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from carrack.build.cache import CACHE_MOUNT, BuildCache
from carrack.build.cache_key import named_key
from carrack.distribution.cancellation import Cancellation

_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class MountWish:
    """What one RUN asks of a cache mount."""

    id: str
    sharing: str = "shared"
    beginning: str = ""
    """Names the content it begins with: another beginning is another mount."""
    mode: int = 0o755
    uid: int = 0
    gid: int = 0


@dataclass(slots=True)
class _Use:
    users: int = 0
    alone: bool = False


class CacheMounts:
    """The cache mounts of a data-root."""

    def __init__(self, cache: BuildCache) -> None:
        self._cache = cache
        self._changed = threading.Condition()
        self._uses: dict[str, _Use] = {}

    @contextmanager
    def using(self, wish: MountWish, begin: Callable[[Path], None], cancel: Cancellation) -> Iterator[Path]:
        """The directory, for the length of a step. `begin` fills a new one. Raises Cancelled while waiting for a locked one."""
        number = self._take(wish, cancel)
        key = named_key("cache mount", wish.id, wish.beginning, str(number))
        try:
            self._cache.hold((key.digest,))
            try:
                record = self._cache.find(key.digest)
                if record is None:
                    directory = self._cache.new_directory()
                    path = self._cache.root / directory
                    try:
                        os.chown(path, wish.uid, wish.gid)
                        path.chmod(wish.mode)
                        begin(path)
                        record = self._cache.put(
                            key,
                            kind=CACHE_MOUNT,
                            directory=directory,
                            description=f"cached mount {wish.id}",
                            note={"id": wish.id, "sharing": wish.sharing, "beginning": wish.beginning},
                        )
                    except BaseException:
                        self._cache.abandon(directory)
                        raise
                yield self._cache.root / record.directory
            finally:
                self._cache.free((key.digest,))
        finally:
            self._give_back(wish, number)

    def _take(self, wish: MountWish, cancel: Cancellation) -> int:
        with self._changed:
            number = 0
            while True:
                use = self._uses.setdefault(f"{wish.id}\0{wish.beginning}\0{number}", _Use())
                if not use.users or (wish.sharing == "shared" and not use.alone):
                    use.users += 1
                    use.alone = wish.sharing != "shared"
                    return number
                if wish.sharing == "private":
                    number += 1
                    continue
                cancel.check()
                self._changed.wait(_LOOK_SECONDS)

    def _give_back(self, wish: MountWish, number: int) -> None:
        with self._changed:
            name = f"{wish.id}\0{wish.beginning}\0{number}"
            use = self._uses[name]
            use.users -= 1
            if not use.users:
                del self._uses[name]
            self._changed.notify_all()
