"""Go's file modes (io/fs, FileMode), in which fsutil tells what kind a file is."""

from __future__ import annotations

import stat

DIRECTORY, SYMLINK, DEVICE, FIFO, SOCKET = 1 << 31, 1 << 27, 1 << 26, 1 << 25, 1 << 24
_SETUID, _SETGID, _CHARACTER, _STICKY, _IRREGULAR = 1 << 23, 1 << 22, 1 << 21, 1 << 20, 1 << 19
_TYPE = DIRECTORY | SYMLINK | DEVICE | FIFO | SOCKET | _CHARACTER | _IRREGULAR
_KINDS = {0: "f", DIRECTORY: "d", SYMLINK: "l", FIFO: "o"}
_SPECIAL = ((_SETUID, stat.S_ISUID), (_SETGID, stat.S_ISGID), (_STICKY, stat.S_ISVTX))


def kind(mode: int) -> str:
    """The kind in the words of `archive.manifest`; "" for what no context holds."""
    return _KINDS.get(mode & _TYPE, "")


def permissions(mode: int) -> int:
    """The permissions as Unix has them."""
    return (mode & 0o777) | sum(unix for go, unix in _SPECIAL if mode & go)


def of(permissions_bits: int, type_bits: int = 0) -> int:
    """Go's mode of Unix' permissions and one of the types above."""
    return type_bits | (permissions_bits & 0o777) | sum(go for go, unix in _SPECIAL if permissions_bits & unix)
