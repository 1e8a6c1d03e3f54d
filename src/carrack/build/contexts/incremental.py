"""A client's folder, mirrored: the client tells what it has (`archive.manifest`), and sends only what is not here yet.

Each folder has a slot, named by the client's key for it. While it is brought up to date the slot holds nothing: whoever is killed
then leaves one that the next start throws away, and the client sends everything once more.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from carrack.archive.manifest import missing, parse_manifest
from carrack.build.contexts.local import SlotContext
from carrack.build.contexts.slots import Slot, Slots
from carrack.build.contexts.tarball import Body, feed
from carrack.build.trees import WorkerTrees
from carrack.distribution.cancellation import Cancellation
from carrack.shim.messages import SyncContext

_PREFIX = "folder:"


class Mirror:
    """A folder's slot between its client's announcement and the build. Blocking; for one caller at a time."""

    def __init__(
        self,
        slots: Slots,
        trees: WorkerTrees,
        key: str,
        manifest: bytes,
        free_bytes: Callable[[], int] = lambda: 0,
        *,
        is_exact: bool = True,
    ) -> None:
        """Take the folder's slot, or a new one. Raises InvalidParameter for a manifest that is none.

        Not `is_exact`: two folders may have the same manifest and hold something else, so it names the content of this slot alone.
        """
        self._is_exact = is_exact
        self._slots = slots
        self._trees = trees
        self._key = _PREFIX + key
        self._manifest = manifest
        self._free_bytes = free_bytes
        slot = slots.take(self._key)
        old = _read(slot)
        self.missing: list[int] = []
        """Which entries of the manifest must be sent, by their number."""
        try:
            if old != manifest:
                self.missing = missing(parse_manifest(old), parse_manifest(manifest))
            self._slot = slot or slots.new()
        except BaseException:
            if slot is not None:
                slots.give_back(slot)
            raise
        self._is_current = slot is not None and old == manifest
        self._given = False

    def receive(self, body: Body, cancel: Cancellation) -> None:
        """Bring the mirror up to date with a tar of what was missing. Raises InvalidParameter, DataCorrupt, Cancelled."""
        if self._is_current:
            return
        slot = self._slot
        slot.unsettle()
        new_manifest, new_index = slot.path / "manifest.new", slot.path / "index.new"
        new_manifest.write_bytes(self._manifest)
        slot.manifest.touch()
        reader, writer = os.pipe2(os.O_CLOEXEC)
        fds = [
            reader,
            os.open(slot.tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC),
            os.open(slot.manifest, os.O_RDONLY | os.O_CLOEXEC),
            os.open(new_manifest, os.O_RDONLY | os.O_CLOEXEC),
            os.open(slot.index, os.O_RDONLY | os.O_CLOEXEC),
            os.open(new_index, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600),
        ]
        try:
            job = self._trees.begin(SyncContext(self._free_bytes()), fds, cancel)
        except BaseException:
            os.close(writer)
            raise
        finally:
            for fd in fds:
                os.close(fd)
        done = feed(body, writer, job, cancel)
        new_index.rename(slot.index)
        new_manifest.rename(slot.manifest)
        slot.settle(self._key, done.size_bytes)
        self._is_current = True

    def context(self, cancel: Cancellation) -> SlotContext:
        """The context for one build, which then owns the slot."""
        if not self._is_current:
            self.receive(lambda _: b"", cancel)  # changes of folders and links alone need no file
        self._given = True
        salt = b"" if self._is_exact else self._slot.path.name.encode()
        content = f"manifest:{hashlib.sha256(salt + self._manifest).hexdigest()}"
        return SlotContext(self._slots, self._slot, self._trees, content=content, ignored=True)

    def close(self) -> None:
        """Give the slot back, unless a build has it."""
        if not self._given:
            self._given = True
            self._slots.give_back(self._slot)


def _read(slot: Slot | None) -> bytes:
    if slot is None:
        return b""
    try:
        return slot.manifest.read_bytes()
    except OSError:
        return b""
