"""The overlay driver, the default: a snapshot is an overlayfs mount of its layers' directories and one of its own.

Nothing is mounted here. The mount is made inside the container's own mount namespace by who runs it, and dies with it.
"""

from __future__ import annotations

from carrack.errors import Conflict, SystemFailure
from carrack.oci.digest import Digest
from carrack.oci.mount import Mount
from carrack.snapshots.layers import RW, WORK, LayerStore


class Overlay(LayerStore):
    """Layers under `layers_root`, snapshots as `rw` and `work` in the container's folder under `containers_root`."""

    name = "overlay2"

    def prepare(self, key: str, parent: Digest | None) -> tuple[Mount, ...]:
        """See `Snapshotter.prepare`. The root directory belongs to root with mode 0755, as Docker makes it."""
        mounts = self._mounts(key, parent)
        home = self.home(key)
        try:
            home.mkdir(mode=0o710, exist_ok=True)
            (home / RW).mkdir(mode=0o755)
            (home / RW).chmod(0o755)
            (home / WORK).mkdir(mode=0o700)
        except FileExistsError as error:
            raise Conflict(f"snapshot {key} already exists") from error
        except OSError as error:
            raise SystemFailure(f"cannot make a snapshot in {home}: {error.strerror}") from error
        try:
            self.record(key, parent)
        except BaseException:
            self.throw_away(key)
            raise
        return mounts

    def mounts(self, key: str) -> tuple[Mount, ...]:
        return self._mounts(key, self.parent(key))

    def _mounts(self, key: str, parent: Digest | None) -> tuple[Mount, ...]:
        rw, work = self.home(key) / RW, self.home(key) / WORK
        if parent is None:
            # overlayfs wants a lower directory; an image without layers has none, and needs no overlay.
            return (Mount("bind", str(rw), options=("rbind", "rw")),)
        lower = tuple(map(str, self.directories(parent)))
        return (Mount("overlay", "overlay", options=(f"upperdir={rw}", f"workdir={work}"), lower=lower),)
