"""The door to the C library: how a system call is declared, made and its errno kept. The other modules of `kernel/` go through it.

A call is declared once, with its argument types, and raises OSError with the kernel's errno and the path it was about. The numbers
are those of x86_64 and aarch64; from 424 on both (and every other architecture) share them.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from ctypes import c_char_p, c_int, c_long, c_uint, c_ulong, c_void_p
from typing import Any

__all__ = [
    "ARCHITECTURE",
    "Number",
    "c_char_p",
    "c_int",
    "c_long",
    "c_uint",
    "c_ulong",
    "c_void_p",
    "check",
    "declare",
    "failure",
    "libc",
]

libc = ctypes.CDLL(None, use_errno=True)
ARCHITECTURE = os.uname().machine
_ARM = ARCHITECTURE == "aarch64"


class Number:
    """System call numbers."""

    clone = 220 if _ARM else 56
    pivot_root = 41 if _ARM else 155
    capget = 90 if _ARM else 125
    capset = 91 if _ARM else 126
    keyctl = 219 if _ARM else 250
    seccomp = 277 if _ARM else 317
    bpf = 280 if _ARM else 321
    pidfd_send_signal = 424
    open_tree = 428
    move_mount = 429
    fsopen = 430
    fsconfig = 431
    fsmount = 432
    clone3 = 435
    close_range = 436
    openat2 = 437
    mount_setattr = 442
    quotactl_fd = 443


def failure(subject: object = None) -> OSError:
    """The OSError of the call that just failed."""
    number = ctypes.get_errno()
    if subject is None:
        return OSError(number, os.strerror(number))
    return OSError(number, os.strerror(number), subject)


def check(result: int, subject: object = None) -> int:
    """Pass a result on, or raise what errno says; `subject` is the path or object that the text names."""
    if result < 0:
        raise failure(subject)
    return result


def declare(number: int, *argument_types: Any) -> Callable[..., int]:
    """A callable for system call `number`; it returns the raw result, -1 with errno set on failure."""
    function = libc["syscall"]
    function.argtypes = (c_long, *argument_types)
    function.restype = c_long

    def call(*arguments: object) -> int:
        return function(number, *arguments)  # type: ignore[no-any-return]

    return call
