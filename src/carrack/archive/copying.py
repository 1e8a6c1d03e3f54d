"""Copying one entry of a directory, as every copier of trees needs it: holes, shared blocks, owners before set-uid bits."""

from __future__ import annotations

import errno
import os
import stat

from carrack.errors import SystemFailure

NOT_THE_FILES = ("trusted.overlay.", "user.overlay.", "security.selinux")
"""Attributes that say where a file is rather than what it is: overlayfs' marks, and the host's label."""

_AT_ONCE_BYTES = 1 << 18
_COPY_BYTES = 1 << 30
_NOT_SUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EINVAL)


def copy_content(source_fd: int, target_fd: int, size_bytes: int) -> None:
    """Every stretch of data to its place in an empty file; what lies between stays a hole. Raises OSError, SystemFailure."""
    if size_bytes <= _AT_ONCE_BYTES:
        content = os.read(source_fd, size_bytes + 1) if size_bytes else b""
        if len(content) != size_bytes:
            raise SystemFailure("a file changed while it was copied")
        written = os.write(target_fd, content) if size_bytes else 0
        while written < size_bytes:
            written += os.write(target_fd, content[written:])
        return
    position = 0
    while position < size_bytes:
        try:
            start = os.lseek(source_fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break  # only a hole up to the end
            raise
        position = min(os.lseek(source_fd, start, os.SEEK_HOLE), size_bytes)
        _copy_stretch(source_fd, target_fd, start, position)
    os.ftruncate(target_fd, size_bytes)


def _copy_stretch(source_fd: int, target_fd: int, start: int, end: int) -> None:
    """By sharing blocks where the file systems can, by the kernel's own copying elsewhere."""
    try:
        while start < end:
            copied = os.copy_file_range(source_fd, target_fd, min(end - start, _COPY_BYTES), start, start)
            if not copied:
                raise SystemFailure("a file became shorter while it was copied")
            start += copied
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        os.lseek(target_fd, start, os.SEEK_SET)
        while start < end:
            copied = os.sendfile(target_fd, source_fd, start, min(end - start, _COPY_BYTES))
            if not copied:
                raise SystemFailure("a file became shorter while it was copied") from None
            start += copied


def copy_attributes(source_fd: int, target_fd: int) -> None:
    """The extended attributes that are the file's own; one that the target's file system does not know is passed over."""
    for key in os.listxattr(source_fd):
        if key.startswith(NOT_THE_FILES):
            continue
        try:
            os.setxattr(target_fd, key, os.getxattr(source_fd, key))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.ENODATA):
                raise


def copy_facts(source_fd: int, target_fd: int, status: os.stat_result) -> None:
    """Owner, attributes, mode and times, in the order that lets each of them last."""
    os.fchown(target_fd, status.st_uid, status.st_gid)
    copy_attributes(source_fd, target_fd)
    os.fchmod(target_fd, stat.S_IMODE(status.st_mode))
    os.utime(target_fd, ns=(status.st_atime_ns, status.st_mtime_ns))


def copy_entry(source_fd: int, target_fd: int, name: str, status: os.stat_result) -> None:
    """What is called `name` in one directory, and is none itself, made again in another where nothing is called so.

    With all that is its own: content, holes, owner, mode, attributes, times. Raises OSError, SystemFailure.
    """
    if stat.S_ISREG(status.st_mode):
        reading_fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source_fd)
        try:
            writing_fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target_fd)
            try:
                copy_content(reading_fd, writing_fd, status.st_size)
                copy_facts(reading_fd, writing_fd, status)
            finally:
                os.close(writing_fd)
        finally:
            os.close(reading_fd)
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source_fd), name, dir_fd=target_fd)
    else:
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target_fd)
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target_fd, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target_fd)
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target_fd, follow_symlinks=False)
