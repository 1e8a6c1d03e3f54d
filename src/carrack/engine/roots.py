"""The root of a container: its snapshot over a lowest layer of places that the engine mounts on.

Every start mounts /proc, /dev, /etc/hosts and a few more. Where an image lacks their places, the lowest layer has them, so that
no start leaves a trace in a container's own files: `diff` shows and `commit` keeps what the container did, and nothing else. The
same layer holds /.dockerenv, by which programs know that they are in a container, and /etc/mtab.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from carrack.engine.container import Container
from carrack.engine.rooms import Directories, Rooms
from carrack.oci.mount import Mount

_DIRECTORIES = ("dev", "dev/pts", "dev/shm", "proc", "sys", "etc")
_FILES = (".dockerenv", "dev/console", "etc/hosts", "etc/hostname", "etc/resolv.conf")
_MTAB, _MOUNTS = "etc/mtab", "/proc/mounts"
PLACES = tuple(f"/{name}" for name in (*_DIRECTORIES, *_FILES, _MTAB))
"""Every path that the lowest layer has."""


def make_places(directories: Directories) -> None:
    """Make the lowest layer. Blocking, idempotent."""
    root = directories.places
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    root.chmod(0o755)
    for name in _DIRECTORIES:
        (root / name).mkdir(mode=0o755, exist_ok=True)
    for name in _FILES:
        (root / name).touch(mode=0o644, exist_ok=True)
        (root / name).chmod(0o755 if name == ".dockerenv" else 0o644)
    if not os.path.lexists(root / _MTAB):
        os.symlink(_MOUNTS, root / _MTAB)


def root_of(container: Container, rooms: Rooms) -> tuple[Mount, ...]:
    """How a container's root is mounted. Raises NotFound."""
    mounts = rooms.snapshots.mounts(container.id)
    wanted, places = mounts[0], str(rooms.directories.places)
    if wanted.type == "overlay":
        return (replace(wanted, lower=(*wanted.lower, places)),)
    work = Path(wanted.source).parent / "work"
    if work.is_dir():  # an image without layers, which needs no overlay of its own
        return (Mount("overlay", "overlay", options=(f"upperdir={wanted.source}", f"workdir={work}"), lower=(places,)),)
    return mounts  # full copies: there is nothing below them


def image_tree(container: Container, rooms: Rooms) -> tuple[Mount, ...]:
    """The files of a container's image as a read-only tree; empty for an image without layers. Raises NotFound."""
    layers = tuple(map(str, rooms.snapshots.directories(rooms.snapshots.parent(container.id))))
    if len(layers) == 1:
        return (Mount("bind", layers[0], options=("bind", "ro")),)
    return (Mount("overlay", "overlay", options=("ro",), lower=layers),) if layers else ()
