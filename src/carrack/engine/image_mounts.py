"""`--mount type=image`: another image's files in a container, to read.

Each is a snapshot beside the container's, ``<container id>.<number>``, so that the layers stay as long as it does. Blocking.
"""

from __future__ import annotations

from pathlib import Path

from carrack.engine.container import Container, MountPoint
from carrack.engine.rooms import Rooms
from carrack.errors import InvalidParameter, NotFound
from carrack.oci.mount import Mount
from carrack.oci.runtime_spec import MountTree

SEPARATOR = "."
"""Between a container's id and the number of a mount, in the name of its snapshot."""


def prepare(container: Container, rooms: Rooms) -> None:
    """Make the snapshots, and write each image's id into the mount's `name`. Raises InvalidParameter."""
    for key, point in _keys(container):
        try:
            image = rooms.images.get(point.source)
        except NotFound as error:
            raise InvalidParameter(error.message) from error  # a 404 would have the command line pull the container's own image
        if image.chain_id is None:
            raise InvalidParameter(f'invalid mount config for type "image": {point.source} has no files')
        point.name = str(image.id)
        rooms.snapshots.prepare(key, image.chain_id)


def trees(container: Container, rooms: Rooms) -> dict[str, MountTree]:
    """What is mounted where, by destination. Raises NotFound."""
    return {point.destination: _tree(rooms.snapshots.mounts(key)[0], point) for key, point in _keys(container)}


def remove(container: Container, rooms: Rooms) -> None:
    """Take the snapshots away. Idempotent."""
    for key, _ in _keys(container):
        rooms.snapshots.remove(key)
        rooms.remove_tree(Path(rooms.directories.container(key)))


def images_of(container: Container) -> list[str]:
    """The ids of the images whose files a container has, as its root or as a mount."""
    return [container.image_id, *(point.name for point in container.mounts if point.type == "image")]


def owner_of(key: str) -> str:
    """The id of the container that a directory below `containers/` belongs to."""
    return key.partition(SEPARATOR)[0]


def _keys(container: Container) -> list[tuple[str, MountPoint]]:
    points = [point for point in container.mounts if point.type == "image"]
    return [(f"{container.id}{SEPARATOR}{number}", point) for number, point in enumerate(points)]


def _tree(mount: Mount, point: MountPoint) -> MountTree:
    subpath = next((option.removeprefix("subpath=") for option in point.options if option.startswith("subpath=")), "")
    if not mount.lower:  # the native driver: a copy
        return MountTree((mount.source,), subpath)
    return MountTree(mount.lower, subpath)
