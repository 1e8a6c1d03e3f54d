"""A thread's capability sets: capget(2) and capset(2) on 64-bit masks. Names live in `runtime/capabilities.py`."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_uint32

from carrack.kernel.libc import Number, c_void_p, check, declare

SYS_RESOURCE = 1 << 24
"""As a mask. Who has it is bound by no quota of ext4's."""

_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = [("version", c_uint32), ("pid", c_int)]


class _Sets(ctypes.Structure):
    _fields_ = [("effective", c_uint32), ("permitted", c_uint32), ("inheritable", c_uint32)]


_capget = declare(Number.capget, c_void_p, c_void_p)
_capset = declare(Number.capset, c_void_p, c_void_p)


def get() -> tuple[int, int, int]:
    """(effective, permitted, inheritable) of the calling thread."""
    header = _Header(_VERSION_3, 0)
    sets = (_Sets * 2)()
    check(_capget(ctypes.addressof(header), ctypes.addressof(sets)), "capget")
    low, high = sets[0], sets[1]
    return (
        low.effective | high.effective << 32,
        low.permitted | high.permitted << 32,
        low.inheritable | high.inheritable << 32,
    )


def set(effective: int, permitted: int, inheritable: int) -> None:
    """The three sets of this thread, one bit for each capability (capset(2)). Raises OSError."""
    header = _Header(_VERSION_3, 0)
    low = _Sets(effective & 0xFFFFFFFF, permitted & 0xFFFFFFFF, inheritable & 0xFFFFFFFF)
    high = _Sets(effective >> 32, permitted >> 32, inheritable >> 32)
    sets = (_Sets * 2)(low, high)
    check(_capset(ctypes.addressof(header), ctypes.addressof(sets)), "capset")
