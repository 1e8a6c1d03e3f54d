"""A context that is on this host for the length of one build: its slot, and the work that is done in it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from carrack.build.contexts.slots import Slot, Slots
from carrack.build.ports import Tree
from carrack.build.trees import WorkerTrees
from carrack.distribution.cancellation import Cancellation
from carrack.errors import NotFound
from carrack.shim.messages import PruneTree, ReadFile


class SlotContext:
    """`ports.LocalContext` over a slot, which `close` gives back."""

    def __init__(self, slots: Slots, slot: Slot, trees: WorkerTrees, *, content: str = "", ignored: bool = False) -> None:
        """`content` names what is in the slot, when its key does not. With `ignored`, the sender has left out what is to be."""
        self._slots = slots
        self._slot = slot
        self._trees = trees
        self._content = content
        self._ignored = ignored
        self._mounts: Tree = (slot.mount,)
        trees.indexes[str(slot.tree)] = slot.index

    @property
    def key(self) -> str:
        """See `ports.LocalContext.key`. It is gone when files had to be removed."""
        return (self._content or self._slot.key) if self._slot.key else ""

    def tree(self, ignore: Sequence[str] = ()) -> Tree:
        """See `ports.LocalContext.tree`. `ignore` are the lines of an ignore file."""
        patterns = tuple(line.strip() for line in ignore if line.strip() and not line.startswith("#"))
        if patterns and not self._ignored:
            self._leave_out(patterns)
        return self._mounts

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        """See `ports.LocalContext.read`."""
        try:
            return self._trees.read(self._mounts, path, limit_bytes, Cancellation())
        except NotFound:
            return None

    def open(self, path: str, limit_bytes: int) -> int | None:
        """See `ports.LocalContext.open`. A copy without a name on the same file system: it is never whole in memory."""
        order = ReadFile(self._mounts, path, limit_bytes)
        return self._slots.scratch_copy(lambda fd: self._trees.do(order, (fd,), Cancellation()))

    def close(self) -> None:
        """See `ports.LocalContext.close`. Idempotent."""
        if self._trees.indexes.pop(str(self._slot.tree), None) is not None:
            self._slots.give_back(self._slot)

    def _leave_out(self, patterns: tuple[str, ...]) -> None:
        """Remove what is ignored. Clients have mostly done so before: then the slot still holds what its key says."""
        fd = os.open(self._slot.tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if self._trees.do(PruneTree(patterns, look_only=True), (fd,), Cancellation()).entries:
                self._slot.unsettle()
                self._trees.do(PruneTree(patterns), (fd,), Cancellation())
        finally:
            os.close(fd)
        self._ignored = True
