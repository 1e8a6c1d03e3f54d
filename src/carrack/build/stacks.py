"""Stacks of layers as trees, and the small confined jobs that the solver itself orders in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from carrack.archive.extract import OPAQUE
from carrack.build.ports import Tree
from carrack.distribution.cancellation import Cancellation
from carrack.oci.digest import Digest
from carrack.oci.mount import Mount
from carrack.shim.messages import LookAt, MakeDirectory, Subtract, WorkerDone, WorkerJob
from carrack.snapshots import Snapshotter

DIRECTORY = 1
"""What `LookAt` answers for a directory."""


class StartedJob(Protocol):
    """A worker's job under way: `shim.workers.Job`."""

    def result(self) -> WorkerDone: ...
    def cancel(self) -> None: ...


StartJob = Callable[[WorkerJob, Sequence[int]], StartedJob]
"""Has a confined worker begin a job."""


def run_job(start: StartJob, job: WorkerJob, fds: Sequence[int], cancel: Cancellation) -> WorkerDone:
    """Have a job done; a cancellation kills its worker. Raises the worker's own kind, Cancelled."""
    cancel.check()
    started = start(job, fds)
    with cancel.calling(started.cancel):
        return started.result()


def tree_of(directory: Path) -> Tree:
    """One directory as a tree."""
    return (Mount("bind", str(directory), options=("bind", "ro")),)


class Stacks:
    """The layers of a data-root as trees."""

    def __init__(self, snapshots: Snapshotter, start: StartJob, remove_tree: Callable[[Path], None], containers: Path) -> None:
        self._snapshots = snapshots
        self._start = start
        self._remove_tree = remove_tree
        self._containers = containers

    def of(self, chain_id: Digest | None) -> Tree:
        """What a stack shows, read-only. Raises NotFound when a layer has gone."""
        layers = self._snapshots.directories(chain_id)
        if not layers:
            return ()
        if len(layers) == 1:
            return tree_of(layers[0])
        return (Mount("overlay", "overlay", options=("ro",), lower=tuple(map(str, layers))),)

    @property
    def copies(self) -> bool:
        """Whether a snapshot is a full copy of its stack (the native driver), because overlayfs cannot write here."""
        return self._snapshots.name == "vfs"

    def difference(self, parent: Digest | None, staging: Path, cancel: Cancellation) -> None:
        """Make of a taken snapshot a layer over its parent, where it is a full copy. Raises SystemFailure, Cancelled."""
        if not self.copies:
            return
        if parent is not None:
            fd = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                run_job(self._start, Subtract(self.of(parent)), (fd,), cancel)
            finally:
                os.close(fd)
        with suppress(OSError):
            os.removexattr(staging, OPAQUE)

    def make_directory(self, mounts: tuple[Mount, ...], path: str, owner: str, moment_seconds: int, cancel: Cancellation) -> int:
        """Make a directory in a snapshot, as WORKDIR does; how many were made."""
        return run_job(self._start, MakeDirectory(mounts, path, owner, moment_seconds), (), cancel).entries

    def is_directory(self, tree: Tree, path: str, cancel: Cancellation) -> bool:
        """Whether a directory is at a place of a tree. Raises NotFound when nothing is."""
        if not tree:
            return True
        return run_job(self._start, LookAt(tree, path), (), cancel).entries == DIRECTORY

    def forget(self, key: str) -> None:
        """Take a step's snapshot away, if it is still there, with all of its folder. Idempotent."""
        self._snapshots.remove(key)
        self._remove_tree(self._containers / key)
