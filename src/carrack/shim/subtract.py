"""From a full copy of a stack, changed since, to the difference: what the native driver's snapshots become when they are layers.

What is as it was goes, what is gone leaves a whiteout, what is left is a layer in overlayfs' form. A file counts as unchanged while
its kind, mode, owner, size, time of the last write, target, device and attributes are; a directory while mode, owner and attributes
are and nothing in it changed. Docker's vfs driver judges so, too.
"""

from __future__ import annotations

import os
import stat

from carrack.archive.copying import NOT_THE_FILES

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def subtract(below_fd: int, full_fd: int) -> int:
    """Leave in the full copy what differs from what is below; how many entries those are. Raises OSError."""
    for name in os.listdir(below_fd):
        base = os.fsencode(name)
        before = os.stat(base, dir_fd=below_fd, follow_symlinks=False)
        if _is_whiteout(before):
            continue  # in a lowest layer it hides nothing
        try:
            now = os.stat(base, dir_fd=full_fd, follow_symlinks=False)
        except FileNotFoundError:
            os.mknod(base, stat.S_IFCHR, 0, dir_fd=full_fd)
            continue
        if stat.S_ISDIR(before.st_mode) and stat.S_ISDIR(now.st_mode):
            _directory(below_fd, full_fd, base, before, now)
        elif _same_file(below_fd, full_fd, base, before, now):
            os.unlink(base, dir_fd=full_fd)
    return len(os.listdir(full_fd))


def _directory(below_fd: int, full_fd: int, base: bytes, before: os.stat_result, now: os.stat_result) -> None:
    below = os.open(base, _OPEN_DIRECTORY, dir_fd=below_fd)
    try:
        full = os.open(base, _OPEN_DIRECTORY, dir_fd=full_fd)
        try:
            left = subtract(below, full)
            same = _facts(before) == _facts(now) and _attributes(below) == _attributes(full)
            os.utime(full, ns=(now.st_atime_ns, now.st_mtime_ns))  # our own removals are no change of it
        finally:
            os.close(full)
    finally:
        os.close(below)
    if same and not left:
        os.rmdir(base, dir_fd=full_fd)


def _same_file(below_fd: int, full_fd: int, base: bytes, before: os.stat_result, now: os.stat_result) -> bool:
    if _facts(before) != _facts(now) or (before.st_size, before.st_mtime_ns) != (now.st_size, now.st_mtime_ns):
        return False
    if stat.S_ISLNK(now.st_mode):
        return os.readlink(base, dir_fd=below_fd) == os.readlink(base, dir_fd=full_fd)
    if not stat.S_ISREG(now.st_mode):
        return before.st_rdev == now.st_rdev
    below = os.open(base, _OPEN_FILE, dir_fd=below_fd)
    try:
        full = os.open(base, _OPEN_FILE, dir_fd=full_fd)
        try:
            return _attributes(below) == _attributes(full)
        finally:
            os.close(full)
    finally:
        os.close(below)


def _facts(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid


def _attributes(fd: int) -> dict[str, bytes]:
    names = [name for name in os.listxattr(fd) if not name.startswith(NOT_THE_FILES)]
    return {name: os.getxattr(fd, name) for name in names}


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
