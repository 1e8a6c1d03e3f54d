"""Mounts, by the descriptor API of Linux 5.2 and later (open_tree, fsopen, move_mount, mount_setattr) and the old calls beside it.

Thin, without policy: paths are what the caller says, relative to the descriptor it gives. See open_tree(2), fsopen(2),
mount_setattr(2), mount(2), pivot_root(2).
"""

from __future__ import annotations

import ctypes
import os
from ctypes import c_int, c_uint64

from carrack.kernel.libc import Number, c_char_p, c_uint, c_ulong, c_void_p, check, declare, failure, libc

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_NOATIME = 1024
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

MNT_DETACH = 2

ATTR_RDONLY = 0x1
ATTR_NOSUID = 0x2
ATTR_NODEV = 0x4
ATTR_NOEXEC = 0x8
ATTR_ATIME = 0x70
ATTR_RELATIME = 0x0
ATTR_NOATIME = 0x10
ATTR_STRICTATIME = 0x20
ATTR_NODIRATIME = 0x80
ATTR_IDMAP = 0x100000
ATTR_NOSYMFOLLOW = 0x200000

_OPEN_TREE_CLONE = 1
_CLOEXEC = os.O_CLOEXEC
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CREATE = 6
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOVE_MOUNT_T_EMPTY_PATH = 0x40


class _Attributes(ctypes.Structure):
    _fields_ = [("attr_set", c_uint64), ("attr_clr", c_uint64), ("propagation", c_uint64), ("userns_fd", c_uint64)]


_open_tree = declare(Number.open_tree, c_int, c_char_p, c_uint)
_move_mount = declare(Number.move_mount, c_int, c_char_p, c_int, c_char_p, c_uint)
_fsopen = declare(Number.fsopen, c_char_p, c_uint)
_fsconfig = declare(Number.fsconfig, c_int, c_uint, c_char_p, c_char_p, c_int)
_fsmount = declare(Number.fsmount, c_int, c_uint, c_uint)
_mount_setattr = declare(Number.mount_setattr, c_int, c_char_p, c_uint, c_void_p, ctypes.c_size_t)
_pivot_root = declare(Number.pivot_root, c_char_p, c_char_p)
_mount = libc["mount"]
_mount.argtypes = (c_char_p, c_char_p, c_char_p, c_ulong, c_char_p)
_umount2 = libc["umount2"]
_umount2.argtypes = (c_char_p, c_int)


def clone_tree(path: str, *, directory_fd: int = AT_FDCWD, recursive: bool = False, follow: bool = True) -> int:
    """A detached copy of the mount at `path` (of `directory_fd` itself when the path is empty), as a descriptor.

    The mount must be of the caller's mount namespace, or itself detached (Linux 6.15).
    """
    flags = _OPEN_TREE_CLONE | _CLOEXEC
    if recursive:
        flags |= AT_RECURSIVE
    if not path:
        flags |= AT_EMPTY_PATH
    if not follow:
        flags |= AT_SYMLINK_NOFOLLOW
    return check(_open_tree(directory_fd, os.fsencode(path), flags), path or "open_tree")


def attach(mount_fd: int, target_fd: int, path: str = "") -> None:
    """Put a detached mount on the file or directory `target_fd` (or on `path` below it)."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH if path else _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    check(_move_mount(mount_fd, b"", target_fd, os.fsencode(path), flags), path or "move_mount")


def open_file_system(file_system: str) -> int:
    """A configuration context for a new instance of `file_system` (fsopen)."""
    return check(_fsopen(file_system.encode(), _FSOPEN_CLOEXEC), file_system)


def configure(context_fd: int, key: str, value: str | None = None) -> None:
    """Set one option of the context: a flag without value, or a string."""
    if value is None:
        result = _fsconfig(context_fd, _FSCONFIG_SET_FLAG, key.encode(), None, 0)
    else:
        result = _fsconfig(context_fd, _FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0)
    if result < 0:
        raise failure(f"{key}={value}" if value is not None else key)


def make_mount(context_fd: int, attributes: int = 0) -> int:
    """Create the file system that the context describes and a detached mount of it, as a descriptor."""
    check(_fsconfig(context_fd, _FSCONFIG_CREATE, None, None, 0), "fsconfig")
    return check(_fsmount(context_fd, _FSMOUNT_CLOEXEC, attributes), "fsmount")


def new_file_system(file_system: str, options: tuple[str, ...] = (), attributes: int = 0, source: str = "") -> int:
    """fsopen, fsconfig for each option (``key`` or ``key=value``), fsmount: a detached mount."""
    context = open_file_system(file_system)
    try:
        if source:
            configure(context, "source", source)
        for option in options:
            key, equals, value = option.partition("=")
            configure(context, key, value if equals else None)
        return make_mount(context, attributes)
    except OSError as error:
        raise OSError(error.errno, _explained(context, error), error.filename) from None
    finally:
        os.close(context)


def _explained(context_fd: int, error: OSError) -> str:
    """The kernel's own lines about a failed context, when it wrote any."""
    text = error.strerror or ""
    try:
        line = os.read(context_fd, 4096).decode(errors="replace").strip()
    except OSError:
        return text
    return f"{text} ({line[2:]})" if line[:2] in ("e ", "w ") else text


def set_attributes(
    fd: int,
    path: str = "",
    *,
    add: int = 0,
    remove: int = 0,
    propagation: int = 0,
    recursive: bool = False,
    user_namespace_fd: int = -1,
) -> None:
    """Change a mount's attributes and propagation (mount_setattr(2)); with an empty path, of the mount `fd` itself."""
    attributes = _Attributes(add, remove, propagation, max(user_namespace_fd, 0))
    flags = (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    result = _mount_setattr(fd, os.fsencode(path), flags, ctypes.addressof(attributes), ctypes.sizeof(attributes))
    check(result, path or "mount_setattr")


def mount(source: str, target: str, file_system: str, flags: int = 0, options: str = "") -> None:
    """mount(2), as of old."""
    result = _mount(
        os.fsencode(source), os.fsencode(target), file_system.encode(), flags, os.fsencode(options) if options else None
    )
    check(result, target)


def unmount(target: str, flags: int = 0) -> None:
    check(_umount2(os.fsencode(target), flags), target)


def pivot_root(new_root: str, put_old: str) -> None:
    check(_pivot_root(os.fsencode(new_root), os.fsencode(put_old)), new_root)
