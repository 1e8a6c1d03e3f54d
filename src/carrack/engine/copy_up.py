"""What an image holds where a fresh volume will be mounted goes into the volume first, as Docker has it. Blocking."""

from __future__ import annotations

import os

from carrack.engine.container import Container
from carrack.engine.rooms import Rooms
from carrack.engine.roots import root_of
from carrack.shim.messages import CopyUp


def copy_up(container: Container, rooms: Rooms) -> None:
    """Fill every empty volume of a new container from its image. Raises SystemFailure."""
    for point in container.mounts:
        if point.type != "volume" or not point.copy_up:
            continue
        directory = os.open(point.source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            with os.scandir(directory) as entries:
                if any(True for _ in entries):
                    continue
            rooms.run_job(CopyUp(root_of(container, rooms), point.destination), (directory,))
        finally:
            os.close(directory)
