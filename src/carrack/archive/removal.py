"""Removing a tree that somebody hostile may have made: no link is followed, no depth is too deep, no permission bit stops it."""

from __future__ import annotations

import os

from carrack.errors import SystemFailure

_DEPTH = 64
"""How deep the walk holds descriptors open; what lies deeper is first moved up beside the tree's root."""


def remove_tree(directory_fd: int, name: str) -> None:
    """Remove `name` in a directory, with everything below it when it is a directory itself. A missing name is no error.

    The caller must be the only one who writes below it. Raises SystemFailure.
    """
    waiting = [name]
    try:
        while waiting:
            _remove(directory_fd, waiting.pop(), directory_fd, waiting, 0)
    except OSError as error:
        raise SystemFailure(f"cannot remove {name}: {error.strerror}") from error


def _remove(parent_fd: int, name: str, top_fd: int, waiting: list[str], depth: int) -> None:
    try:
        os.unlink(name, dir_fd=parent_fd)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        pass
    if depth == _DEPTH:
        moved = f".removing-{os.urandom(8).hex()}"
        os.rename(name, moved, src_dir_fd=parent_fd, dst_dir_fd=top_fd)
        waiting.append(moved)
        return
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
    try:
        with os.scandir(fd) as entries:
            inside = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for entry_name, is_directory in inside:
            if is_directory:
                _remove(fd, entry_name, top_fd, waiting, depth + 1)
            else:
                os.unlink(entry_name, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent_fd)
