"""Project quotas: how much all files of one project may take (quotactl(2), ext4(5) `prjquota`, xfs_quota(8) `project`).

A directory is given a project id that its files inherit (ioctl_xfs_fsgetxattr(2)); the limit is the project's. quotactl_fd(2),
Linux 5.14, takes the file system of a descriptor, so that no block device need be found.
"""

from __future__ import annotations

import ctypes
import fcntl
import struct
from ctypes import c_uint32, c_uint64

from carrack.kernel.libc import Number, c_int, c_uint, c_void_p, check, declare

_PROJECT = 2
_GET_QUOTA, _SET_QUOTA = 0x800007, 0x800008
_BLOCK_LIMITS = 1
_BLOCK_BYTES = 1024
_GET_ATTRIBUTES, _SET_ATTRIBUTES = 0x801C581F, 0x401C5820
_ATTRIBUTES = struct.Struct("=IIIII8x")
_INHERIT = 0x00000200


class _Limits(ctypes.Structure):
    """struct if_dqblk."""

    _fields_ = [
        ("hard_blocks", c_uint64),
        ("soft_blocks", c_uint64),
        ("space_bytes", c_uint64),
        ("hard_inodes", c_uint64),
        ("soft_inodes", c_uint64),
        ("inodes", c_uint64),
        ("block_time", c_uint64),
        ("inode_time", c_uint64),
        ("valid", c_uint32),
    ]


_quotactl_fd = declare(Number.quotactl_fd, c_uint, c_uint, c_int, c_void_p)


def has_project_quota(fd: int) -> bool:
    """Whether the file system that holds `fd` counts and limits projects now."""
    try:
        _call(fd, _GET_QUOTA, 0, _Limits())
    except OSError:
        return False
    return True


def limit(fd: int, project: int, size_bytes: int) -> None:
    """Let a project take at most that much, in blocks of 1 KiB; 0: as much as it likes. Raises OSError."""
    _call(fd, _SET_QUOTA, project, _Limits(hard_blocks=-(-size_bytes // _BLOCK_BYTES), valid=_BLOCK_LIMITS))


def project_of(directory_fd: int) -> int:
    """The project a directory belongs to; 0: none. Raises OSError where the file system has no such attribute."""
    return _attributes(directory_fd)[3]


def assign(directory_fd: int, project: int) -> None:
    """Make an empty directory a project's, and with it all that will be made below. Raises OSError."""
    flags, extent, extents, _, cow = _attributes(directory_fd)
    packed = _ATTRIBUTES.pack(flags | _INHERIT if project else flags & ~_INHERIT, extent, extents, project, cow)
    fcntl.ioctl(directory_fd, _SET_ATTRIBUTES, packed)


def _attributes(fd: int) -> tuple[int, int, int, int, int]:
    flags, extent, extents, project, cow = _ATTRIBUTES.unpack(fcntl.ioctl(fd, _GET_ATTRIBUTES, bytes(_ATTRIBUTES.size)))
    return flags, extent, extents, project, cow


def _call(fd: int, command: int, project: int, limits: _Limits) -> None:
    check(_quotactl_fd(fd, command << 8 | _PROJECT, project, ctypes.addressof(limits)), "quotactl")
