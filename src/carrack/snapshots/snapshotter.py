"""What a snapshot driver promises.

A **layer** is one committed directory tree, the difference to its parent, named by its chain id (image-spec `config.md`); it
never changes. Differences are kept in overlayfs' form: a character device 0:0 hides a name of the layers below, the attribute
`trusted.overlay.opaque` hides all of them in a directory. A **snapshot** is a writable tree over a layer, named by a key: the
id of the container it belongs to.

Unpacking a layer: `stage` gives an empty directory, somebody fills it, `commit_layer` makes it a layer, `abandon` throws it away.
Running a container: `prepare` makes the snapshot and says how it is mounted, `mounts` says it again, `remove` takes it away.

Records are in state.db only after the directories they name are on disk, and gone from it before the directories go; what no
record names is garbage, and `garbage` lists it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from carrack.oci.digest import Digest
from carrack.oci.mount import Mount


@dataclass(frozen=True, slots=True)
class Layer:
    """A committed layer. `size_bytes` is the content of its own files, as Docker counts an image's size; `short` names its
    directory, which it may share.
    """

    chain_id: Digest
    diff_id: Digest
    parent: Digest | None
    short: str
    size_bytes: int


class Snapshotter(Protocol):
    """Layers and snapshots. Every method may be called from any thread."""

    name: str
    """The driver's name in `docker info`: overlay2, vfs."""

    def has(self, chain_id: Digest) -> bool:
        """Whether the layer is committed."""

    def get(self, chain_id: Digest) -> Layer:
        """One layer. Raises NotFound."""

    def chain(self, chain_id: Digest | None) -> tuple[Layer, ...]:
        """A layer and all below it, topmost first. Raises NotFound."""

    def directory(self, layer: Layer) -> Path:
        """Where a layer's own tree is."""

    def directories(self, chain_id: Digest | None) -> tuple[Path, ...]:
        """The trees of a stack, topmost first; one that is in it several times once, for the topmost hides what the others show.

        Raises NotFound.
        """

    def stage(self) -> Path:
        """A new empty directory to unpack a layer into."""

    def abandon(self, staging: Path) -> None:
        """Throw a staging directory away. Idempotent."""

    def commit_layer(self, parent: Digest | None, diff_id: Digest, unpacked: Path, size_bytes: int) -> Layer:
        """Make a staging directory the layer `diff_id` over `parent`.

        When that layer is there already (somebody was faster), it stays and the staging directory goes. Raises NotFound for an
        unknown parent.
        """

    def restack(self, parent: Digest | None, layer: Digest) -> Layer:
        """The difference that a layer holds, as a layer over `parent` as well. Nothing is copied: both have one directory, which
        stays until the last of them goes. Idempotent. Raises NotFound when either is not there.
        """

    def release_layers(self, connection: sqlite3.Connection, chain_id: Digest) -> tuple[Layer, ...]:
        """Inside a state.db change: forget a layer and those below it as far as no image, layer or snapshot uses them.

        Gives what was forgotten, topmost first; after the commit the caller hands it to `discard`.
        """

    def idle(self) -> list[Digest]:
        """The topmost layers that no image and no snapshot uses."""

    def discard(self, layers: Iterable[Layer]) -> None:
        """Throw away the directories of layers that are forgotten."""

    def prepare(self, key: str, parent: Digest | None) -> tuple[Mount, ...]:
        """Make a writable snapshot over a layer, or an empty one. Raises NotFound, Conflict when the key is taken."""

    def mounts(self, key: str) -> tuple[Mount, ...]:
        """How a snapshot is mounted. Raises NotFound."""

    def parent(self, key: str) -> Digest | None:
        """The layer a snapshot stands on. Raises NotFound."""

    def remove(self, key: str) -> None:
        """Take a snapshot away. It must not be mounted. Idempotent."""

    def take(self, key: str) -> Path:
        """Turn a snapshot's own changes into a staging directory, to be committed or abandoned; the snapshot is gone.

        It must not be mounted. Raises NotFound.
        """

    def changes(self, key: str) -> Path:
        """The directory that holds a snapshot's own changes, in the form of a layer. Raises NotFound."""

    def usage_bytes(self, key: str) -> int:
        """What a snapshot's own changes take: the content of its files, each inode once. Raises NotFound."""

    def free_bytes(self) -> int:
        """How much may still be put here: the free space less a reserve, so that no image can fill the disk.

        Raises SystemFailure when there is none.
        """

    def garbage(self) -> list[Path]:
        """The directories that no record names."""

    def throw(self, garbage: Path) -> None:
        """Remove a directory that no record names."""

    def missing(self) -> list[Path]:
        """The directories that a record names and that are not there."""
