"""`--storage-opt size=…`: how large a container's writable layer may grow, kept by the file system's project quota.

Docker has it on xfs alone; here ext4 does as well. Blocking.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from carrack.engine.container import Container
from carrack.engine.rooms import Rooms
from carrack.errors import InvalidParameter, SystemFailure
from carrack.kernel import quota
from carrack.volumes.drivers.sizes import parse_size

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
    with _opened(rooms.directories.data_root) as fd:
        if not quota.has_project_quota(fd):
            raise InvalidParameter(
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option (or ext4 with 'prjquota'), "
                f"which the file system of {rooms.directories.data_root} has not"
            )
    if parse_size(options["size"]) == 0:
        raise InvalidParameter(f"invalid size: '{options['size']}'")


def limit(container: Container, rooms: Rooms) -> None:
    """Limit a new container's layer, which is empty. Raises SystemFailure."""
    size = (container.host_config.storage_opt or {}).get("size")
    if size is None:
        return
    home = rooms.directories.container(container.id)
    try:
        project = max(_projects(rooms.directories.data_root / "containers"), default=FIRST_PROJECT - 1) + 1
        for name in _LAYER:
            with _opened(home / name) as fd:
                quota.assign(fd, project)
                quota.limit(fd, project, parse_size(size))
    except OSError as error:
        raise SystemFailure(f"cannot limit the container's layer to {size}: {error.strerror}") from error


def lift(container: Container, rooms: Rooms) -> None:
    """Forget the limit of a layer that is about to go. Idempotent."""
    if not container.host_config.storage_opt:
        return
    try:
        with _opened(rooms.directories.container(container.id) / "rw") as fd:
            if project := quota.project_of(fd):
                quota.limit(fd, project, 0)
    except OSError:
        return


def _projects(containers: Path) -> Iterator[int]:
    for entry in os.scandir(containers):
        try:
            with _opened(Path(entry.path, "rw")) as fd:
                project = quota.project_of(fd)
        except OSError:
            continue
        if project >= FIRST_PROJECT:
            yield project


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
