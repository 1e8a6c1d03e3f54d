"""How much a directory tree holds, whoever writes to it meanwhile: every step is taken by a descriptor, no link is followed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 500
"""One directory is open for each level; what lies deeper is not counted."""


def tree_size(path: Path | str) -> int:
    """The bytes of a tree's files, each inode once. What goes, or cannot be read, while we look is not counted."""
    walk = _Walk()
    try:
        walk.enter(path, None)
        while walk.levels:
            fd, directories = walk.levels[-1]
            if directories and len(walk.levels) < _DEEPEST:
                walk.enter(directories.pop(), fd)
            else:
                walk.levels.pop()
                os.close(fd)
    finally:
        for fd, _ in walk.levels:
            os.close(fd)
    return walk.size_bytes


class _Walk:
    """Where a walk is, and what it has counted."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self.seen: set[tuple[int, int]] = set()
        self.levels: list[tuple[int, list[str]]] = []
        """The directories from the root to where we are, each with those in it that are still to be seen."""

    def enter(self, name: Path | str, parent_fd: int | None) -> None:
        """Count what is in a directory, and have its own directories wait."""
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=parent_fd)
        except OSError:
            return  # it has gone, or is something else by now
        directories: list[str] = []
        self.levels.append((fd, directories))
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    self._count(entry, directories)
        except OSError:
            return

    def _count(self, entry: os.DirEntry[str], directories: list[str]) -> None:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            return
        inode = (status.st_dev, status.st_ino)
        if inode in self.seen:
            return
        self.seen.add(inode)
        if stat.S_ISDIR(status.st_mode):
            directories.append(entry.name)
        else:
            self.size_bytes += status.st_size
