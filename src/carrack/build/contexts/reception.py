"""`ports.Contexts`: where a build's context comes from, whichever way it comes."""

from __future__ import annotations

import os
from collections.abc import Callable

from carrack.archive.compression import Compression, detect
from carrack.archive.header import BLOCK, parse
from carrack.archive.writer import END, file_header, padding
from carrack.build.contexts.local import SlotContext
from carrack.build.contexts.slots import Slots
from carrack.build.contexts.tarball import Body, receive_tar
from carrack.build.ports import GitSource, HttpSource, LocalContext
from carrack.build.remote.sources import Remotes
from carrack.build.trees import WorkerTrees
from carrack.distribution.cancellation import Cancellation
from carrack.errors import InvalidParameter

_TEXT_BYTES = 4096
_DOCKERFILE_LIMIT_BYTES = 16 << 20


class Reception:
    """Receives contexts into slots. Every method may be called from any thread."""

    def __init__(self, slots: Slots, trees: WorkerTrees, remotes: Remotes, free_bytes: Callable[[], int] = lambda: 0) -> None:
        """`free_bytes` says what a context may unpack to; 0: nothing bounds it."""
        self.slots = slots
        self.trees = trees
        self._remotes = remotes
        self.free_bytes = free_bytes

    def receive_tar(self, body: Body, cancel: Cancellation) -> LocalContext:
        """See `ports.Contexts.receive_tar`."""
        return receive_tar(body, self.slots, self.trees, cancel, self.free_bytes())

    def receive_remote(self, url: str, tell: Callable[[str], None], cancel: Cancellation) -> tuple[LocalContext, str]:
        """See `ports.Contexts.receive_remote`."""
        if self._remotes.is_git(url):
            return self._from_git(url, tell, cancel), ""
        return self._from_web(url, tell, cancel)

    def _from_git(self, url: str, tell: Callable[[str], None], cancel: Cancellation) -> LocalContext:
        pinned = self._remotes.pin(GitSource(url), {}, cancel)
        slot = self.slots.take(pinned.key)
        if slot is None:
            slot = self.slots.new()
            try:
                self._remotes.fetch(pinned, slot.tree, {}, tell, cancel)
                slot.settle(pinned.key, self.trees.usage((slot.mount,)))
            except BaseException:
                self.slots.give_back(slot)
                raise
        return SlotContext(self.slots, slot, self.trees)

    def _from_web(self, url: str, tell: Callable[[str], None], cancel: Cancellation) -> tuple[LocalContext, str]:
        """An archive is a context, a text is a Dockerfile with nothing around it."""
        pinned = self._remotes.pin(HttpSource(url), {}, cancel)
        tell(f"Downloading build context from remote url: {pinned.shown}")
        fd = os.open(self._remotes.path_of(pinned, cancel), os.O_RDONLY | os.O_CLOEXEC)
        try:
            head = os.pread(fd, _TEXT_BYTES, 0)
            if _is_archive(head):
                return self.receive_tar(lambda size: os.read(fd, size), cancel), ""
            if b"\0" in head or os.fstat(fd).st_size > _DOCKERFILE_LIMIT_BYTES:
                raise InvalidParameter(f"unsupported content of remote URL {pinned.shown}: neither an archive nor a Dockerfile")
            content = os.pread(fd, _DOCKERFILE_LIMIT_BYTES, 0)
        finally:
            os.close(fd)
        return self._lone_dockerfile(content, cancel), "Dockerfile"

    def _lone_dockerfile(self, content: bytes, cancel: Cancellation) -> LocalContext:
        archive = file_header("Dockerfile", len(content)) + content + padding(len(content)) + END
        pieces = iter((archive,))
        return self.receive_tar(lambda _: next(pieces, b""), cancel)


def _is_archive(head: bytes) -> bool:
    if detect(head) is not Compression.NONE:
        return True
    try:
        parse(head[:BLOCK])
    except (InvalidParameter, IndexError):
        return False
    return len(head) >= BLOCK
