"""tmpcopyup: a tmpfs that begins with what the image has there. Runs in init, on held descriptors, before the mount shows."""

from __future__ import annotations

import os
import stat

_CHUNK = 1 << 20
_DEEPEST = 512


def copy_into(source_fd: int, target_fd: int) -> None:
    """Copy the content, mode and owner of directory `source_fd` into directory `target_fd`; links stay links."""
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=source_fd)
    try:
        _tree(readable, target_fd, 0)
    finally:
        os.close(readable)


def _tree(source: int, target: int, depth: int) -> None:
    if depth > _DEEPEST:
        raise OSError(40, "directory tree is too deep", "tmpcopyup")
    for name in os.listdir(source):
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            below, there = os.open(name, flags, dir_fd=source), os.open(name, flags, dir_fd=target)
            try:
                _tree(below, there, depth + 1)
            finally:
                os.close(below)
                os.close(there)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        elif stat.S_ISREG(status.st_mode):
            _file(source, target, name)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)
    own = os.fstat(source)
    os.chown(".", own.st_uid, own.st_gid, dir_fd=target)
    os.chmod(".", stat.S_IMODE(own.st_mode), dir_fd=target)


def _file(source: int, target: int, name: str) -> None:
    reader = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source)
    try:
        writer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        try:
            while chunk := os.read(reader, _CHUNK):
                while chunk:
                    chunk = chunk[os.write(writer, chunk) :]
        finally:
            os.close(writer)
    finally:
        os.close(reader)
