"""`--storage-opt size=…`: how large a container's writable layer may grow, kept by the file system's project quota.

Docker has it on xfs alone; here ext4 does as well. Blocking.
"""

from __future__ import annotations

from collections.abc import Mapping

from carrack.engine.container import Container
from carrack.engine.rooms import Rooms
from carrack.errors import InvalidParameter, SystemFailure
from carrack.kernel import quota
from carrack.volumes.drivers import sizes

FIRST_PROJECT = 1 << 24
"""Far from the projects of volumes and of /etc/projid."""
_LAYER = ("rw", "work")


def check(options: Mapping[str, str], rooms: Rooms) -> None:
    """Raises InvalidParameter in Docker's words for an option that means nothing, or cannot be kept here."""
    for name in options:
        if name != "size":
            raise InvalidParameter(f"unknown option {name}")
    if not options:
        return
    with sizes.opened(rooms.directories.data_root) as fd:
        if not quota.has_project_quota(fd):
            raise InvalidParameter(
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option (or ext4 with 'prjquota'), "
                f"which the file system of {rooms.directories.data_root} has not"
            )
    if sizes.parse_size(options["size"]) == 0:
        raise InvalidParameter(f"invalid size: '{options['size']}'")


def limit(container: Container, rooms: Rooms) -> None:
    """Limit a new container's layer, which is empty. Raises SystemFailure."""
    size = (container.host_config.storage_opt or {}).get("size")
    if size is None:
        return
    home = rooms.directories.container(container.id)
    others = (each / _LAYER[0] for each in (rooms.directories.data_root / "containers").iterdir())
    try:
        sizes.limit_together((home / name for name in _LAYER), sizes.free_project(others, FIRST_PROJECT), size)
    except OSError as error:
        raise SystemFailure(f"cannot limit the container's layer to {size}: {error.strerror}") from error


def lift(container: Container, rooms: Rooms) -> None:
    """Forget the limit of a layer that is about to go. Idempotent."""
    if container.host_config.storage_opt:
        sizes.lift(rooms.directories.container(container.id) / _LAYER[0])
