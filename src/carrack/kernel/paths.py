"""Opening files inside a tree that is not ours: openat2(2), where the kernel keeps the walk below a root, and fstatfs(2)."""

from __future__ import annotations

import ctypes
import os
from ctypes import c_int, c_uint64

from carrack.kernel.libc import Number, c_char_p, c_long, c_void_p, check, declare, libc

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

PROC_SUPER_MAGIC = 0x9FA0
DEVPTS_SUPER_MAGIC = 0x1CD1
TMPFS_MAGIC = 0x01021994


class _How(ctypes.Structure):
    _fields_ = [("flags", c_uint64), ("mode", c_uint64), ("resolve", c_uint64)]


_openat2 = declare(Number.openat2, c_int, c_char_p, c_void_p, ctypes.c_size_t)
_fstatfs = libc["fstatfs"]
_fstatfs.argtypes = (c_int, c_void_p)


def open_in(root_fd: int, path: str, flags: int, *, resolve: int = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS) -> int:
    """Open `path` as a process chrooted into `root_fd` would, no symbolic link leading out. Close-on-exec."""
    how = _How(flags | os.O_CLOEXEC, 0, resolve)
    return check(_openat2(root_fd, os.fsencode(path), ctypes.addressof(how), ctypes.sizeof(how)), path)


def file_system_magic(fd: int) -> int:
    """The type number of the file system that holds `fd` (`f_type` of fstatfs(2))."""
    buffer = (c_long * 32)()
    check(_fstatfs(fd, ctypes.addressof(buffer)), "fstatfs")
    return int(buffer[0])
