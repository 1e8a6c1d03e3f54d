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


def copy_content(source: int, target: int, size: int) -> None:
    """Every stretch of data to its place in an empty file; what lies between stays a hole. Raises OSError, SystemFailure."""
    if size <= _AT_ONCE_BYTES:
        content = os.read(source, size + 1) if size else b""
        if len(content) != size:
            raise SystemFailure("a file changed while it was copied")
        written = os.write(target, content) if size else 0
        while written < size:
            written += os.write(target, content[written:])
        return
    position = 0
    while position < size:
        try:
            start = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break  # only a hole up to the end
            raise
        position = min(os.lseek(source, start, os.SEEK_HOLE), size)
        _copy_stretch(source, target, start, position)
    os.ftruncate(target, size)


def _copy_stretch(source: int, target: int, start: int, end: int) -> None:
    """By sharing blocks where the file systems can, by the kernel's own copying elsewhere."""
    try:
        while start < end:
            copied = os.copy_file_range(source, target, min(end - start, _COPY_BYTES), start, start)
            if not copied:
                raise SystemFailure("a file became shorter while it was copied")
            start += copied
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise
        os.lseek(target, start, os.SEEK_SET)
        while start < end:
            copied = os.sendfile(target, source, start, min(end - start, _COPY_BYTES))
            if not copied:
                raise SystemFailure("a file became shorter while it was copied") from None
            start += copied


def copy_attributes(source: int, target: int) -> None:
    """The extended attributes that are the file's own; one that the target's file system does not know is passed over."""
    for key in os.listxattr(source):
        if key.startswith(NOT_THE_FILES):
            continue
        try:
            os.setxattr(target, key, os.getxattr(source, key))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.ENODATA):
                raise


def copy_facts(source: int, target: int, status: os.stat_result) -> None:
    """Owner, attributes, mode and times, in the order that lets each of them last."""
    os.fchown(target, status.st_uid, status.st_gid)
    copy_attributes(source, target)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def copy_entry(source_fd: int, target_fd: int, name: str, status: os.stat_result) -> None:
    """What is called `name` in one directory, and is none itself, made again in another where nothing is called so.

    With all that is its own: content, holes, owner, mode, attributes, times. Raises OSError, SystemFailure.
    """
    if stat.S_ISREG(status.st_mode):
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source_fd)
        try:
            target = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target_fd)
            try:
                copy_content(source, target, status.st_size)
                copy_facts(source, target, status)
            finally:
                os.close(target)
        finally:
            os.close(source)
        return
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source_fd), name, dir_fd=target_fd)
    else:
        os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target_fd)
    os.chown(name, status.st_uid, status.st_gid, dir_fd=target_fd, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target_fd)
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target_fd, follow_symlinks=False)
