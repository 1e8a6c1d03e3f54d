"""Copying a directory with everything that belongs to its files: owner, mode, times, extended attributes, hard links, devices."""

from __future__ import annotations

import errno
import os
import stat

from carrack.archive.copying import copy_entry, copy_facts

_DEEPEST = 400
"""Two descriptors are open for each level."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeCopy:
    """One copy under way; `entries` and `size_bytes` say how much was copied."""

    def __init__(self) -> None:
        self.entries = 0
        self.size_bytes = 0
        self._links: dict[tuple[int, int], str] = {}
        """Files met with several names → where the first one was put, from the target's root."""
        self._root_fd = -1

    def copy(self, source_fd: int, target_fd: int) -> None:
        """Copy the content of directory `source_fd` into `target_fd`, and its own owner, mode and times onto it. Raises OSError."""
        self._root_fd = target_fd
        self._directory(source_fd, target_fd, "", 0)

    def _directory(self, source_fd: int, target_fd: int, path: str, depth: int) -> None:
        if depth > _DEEPEST:
            raise OSError(errno.ELOOP, "directories are nested too deeply", path)
        for name in os.listdir(source_fd):
            self._entry(source_fd, target_fd, name, f"{path}{name}", depth)
            self.entries += 1
        copy_facts(source_fd, target_fd, os.fstat(source_fd))

    def _entry(self, source_fd: int, target_fd: int, name: str, path: str, depth: int) -> None:
        status = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=target_fd)
            source, target = os.open(name, _DIRECTORY, dir_fd=source_fd), os.open(name, _DIRECTORY, dir_fd=target_fd)
            try:
                self._directory(source, target, f"{path}/", depth + 1)
            finally:
                os.close(source)
                os.close(target)
        elif status.st_nlink > 1 and (first := self._links.get((status.st_dev, status.st_ino))) is not None:
            os.link(first, name, src_dir_fd=self._root_fd, dst_dir_fd=target_fd, follow_symlinks=False)
        else:
            copy_entry(source_fd, target_fd, name, status)
            if stat.S_ISREG(status.st_mode):
                self.size_bytes += status.st_size
            if status.st_nlink > 1:
                self._links[status.st_dev, status.st_ino] = path
