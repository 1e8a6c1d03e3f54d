"""The native driver: a snapshot is a full copy of its layers. For file systems that overlayfs does not take.

Slow and large where the file system cannot share copies, but there is nothing it does not work on. Docker calls it vfs.
"""

from __future__ import annotations

import os
from pathlib import Path

from carrack.archive.difference import DifferenceCopy
from carrack.errors import Conflict, SystemFailure
from carrack.oci.digest import Digest
from carrack.oci.mount import Mount
from carrack.snapshots.layers import RW, LayerStore

_OPAQUE = "trusted.overlay.opaque"
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Native(LayerStore):
    """`Snapshotter` by copies: layers under `layers_root`, snapshots as `rw` in the container's folder under `containers_root`."""

    name = "vfs"

    def prepare(self, key: str, parent: Digest | None) -> tuple[Mount, ...]:
        """See `Snapshotter.prepare`."""
        layers = self.chain(parent)
        home = self.home(key)
        rw = home / RW
        try:
            home.mkdir(mode=0o710, exist_ok=True)
            rw.mkdir(mode=0o755)
            rw.chmod(0o755)
        except FileExistsError as error:
            raise Conflict(f"snapshot {key} already exists") from error
        except OSError as error:
            raise SystemFailure(f"cannot make a snapshot in {home}: {error.strerror}") from error
        try:
            target_fd = os.open(rw, _OPEN_DIRECTORY)
            try:
                copy = DifferenceCopy(target_fd)
                for layer in reversed(layers):
                    layer_fd = os.open(self.directory(layer), _OPEN_DIRECTORY)
                    try:
                        copy.add(layer_fd)
                    finally:
                        os.close(layer_fd)
            finally:
                os.close(target_fd)
            self.record(key, parent)
        except BaseException:
            self.throw_away(key)
            raise
        return self.mounts(key)

    def take(self, key: str) -> Path:
        """See `Snapshotter.take`. A full copy, so the layer hides all that is below it."""
        staging = super().take(key)
        os.setxattr(staging, _OPAQUE, b"y")
        return staging

    def changes(self, key: str) -> Path:
        """See `Snapshotter.changes`. A full copy, so the layer hides all that is below it."""
        directory = super().changes(key)
        os.setxattr(directory, _OPAQUE, b"y")
        return directory

    def mounts(self, key: str) -> tuple[Mount, ...]:
        self.parent(key)
        return (Mount("bind", str(self.home(key) / RW), options=("rbind", "rw")),)
