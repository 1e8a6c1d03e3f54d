"""Taking away what a container is made of, all but its record."""

from __future__ import annotations

from pathlib import Path

from carrack.engine import image_mounts, storage_options
from carrack.engine.container import Container
from carrack.engine.rooms import Rooms
from carrack.errors import Conflict, NotFound


def demolish(container: Container, rooms: Rooms, *, volumes: bool) -> None:
    """The writable layer, the directory, the hold on volumes and, with `volumes`, its anonymous ones. Blocking, idempotent."""
    storage_options.lift(container, rooms)
    image_mounts.remove(container, rooms)
    rooms.snapshots.remove(container.id)
    rooms.remove_tree(Path(container.directory))
    rooms.volumes.release(container.id)
    for point in container.mounts if volumes else ():
        if point.anonymous and point.name:
            try:
                rooms.volumes.remove(point.name, force=True)
            except (Conflict, NotFound):
                pass  # another container uses it by now, or it went before
