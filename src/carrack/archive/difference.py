"""One layer's tree laid over another by copying: what overlayfs shows, as plain files.

Whiteouts remove, opaque directories start empty, everything else replaces or joins what is below. Content is copied by the kernel
(copy_file_range: shared where the file system can), holes and hard links within the layer survive.
"""

from __future__ import annotations

import errno
import os
import stat

from carrack.archive.copying import copy_entry, copy_facts
from carrack.archive.extract import OPAQUE
from carrack.archive.removal import remove_tree
from carrack.errors import SystemFailure

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class DifferenceCopy:
    """Copies layers, lowest first, into one directory. The caller is the only one who writes there."""

    def __init__(self, target_fd: int) -> None:
        self._target_fd = target_fd
        self._links: dict[int, bytes] = {}
        """inode → the first name of a file with several, within one layer."""

    def add(self, layer_fd: int) -> None:
        """Lay one more layer on top. Raises SystemFailure."""
        self._links.clear()
        try:
            self._directory(layer_fd, self._target_fd, b"")
        except OSError as error:
            raise SystemFailure(f"cannot copy a layer: {error}") from error

    def _directory(self, source_fd: int, target_fd: int, path: bytes) -> None:
        if _is_opaque(source_fd):
            for name in os.listdir(target_fd):
                remove_tree(target_fd, name)
        for name in os.listdir(source_fd):
            base = os.fsencode(name)
            status = os.stat(base, dir_fd=source_fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                self._subdirectory(source_fd, target_fd, base, path)
                continue
            remove_tree(target_fd, name)
            if not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0):
                self._node(source_fd, target_fd, base, path + b"/" + base, status)
        copy_facts(source_fd, target_fd, os.fstat(source_fd))

    def _subdirectory(self, source_fd: int, target_fd: int, base: bytes, path: bytes) -> None:
        try:
            os.mkdir(base, 0o700, dir_fd=target_fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(base, dir_fd=target_fd, follow_symlinks=False).st_mode):
                remove_tree(target_fd, os.fsdecode(base))
                os.mkdir(base, 0o700, dir_fd=target_fd)
        inner_source = os.open(base, _OPEN_DIRECTORY, dir_fd=source_fd)
        try:
            inner_target = os.open(base, _OPEN_DIRECTORY, dir_fd=target_fd)
            try:
                self._directory(inner_source, inner_target, path + b"/" + base)
            finally:
                os.close(inner_target)
        finally:
            os.close(inner_source)

    def _node(self, source_fd: int, target_fd: int, base: bytes, path: bytes, status: os.stat_result) -> None:
        if status.st_nlink > 1:
            first = self._links.setdefault(status.st_ino, path)
            if first != path:
                os.link(first[1:], base, src_dir_fd=self._target_fd, dst_dir_fd=target_fd, follow_symlinks=False)
                return
        copy_entry(source_fd, target_fd, os.fsdecode(base), status)


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, OPAQUE) == b"y"
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP):
            return False
        raise
