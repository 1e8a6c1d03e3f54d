"""seccomp(2) and libseccomp: a filter made of rules and exported as classic BPF, and such bytes put in force.

libseccomp is opened at the first use, so that a process which only loads ready bytes never maps it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from ctypes import c_int, c_uint, c_uint16, c_uint32, c_uint64
from typing import Any, Self

from carrack.kernel.libc import Number, c_char_p, c_void_p, check, declare

ALLOW = 0x7FFF0000
ERRNO = 0x00050000

_SET_MODE_FILTER = 1
_ATTRIBUTE_NO_NEW_PRIVILEGES = 3
_ATTRIBUTE_OPTIMIZE = 8
_UNKNOWN = -1
_INSTRUCTION_BYTES = 8


class _Program(ctypes.Structure):
    _fields_ = [("length", c_uint16), ("filter", c_void_p)]


class _Comparison(ctypes.Structure):
    _fields_ = [("argument", c_uint), ("operator", c_int), ("a", c_uint64), ("b", c_uint64)]


_seccomp = declare(Number.seccomp, c_uint, c_uint, c_void_p)
_library: Any = None


def load(program: bytes, flags: int = 0) -> int:
    """Put a filter (struct sock_filter array) in force for this thread. Needs no_new_privs or CAP_SYS_ADMIN.

    Returns what the kernel returns: the listener's descriptor when `flags` asked for one, else 0.
    """
    code = ctypes.create_string_buffer(program, len(program))
    described = _Program(len(program) // _INSTRUCTION_BYTES, ctypes.addressof(code))
    return check(_seccomp(_SET_MODE_FILTER, flags, ctypes.addressof(described)), "seccomp")


def _open() -> Any:
    global _library
    if _library is None:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        library.seccomp_init.argtypes = (c_uint32,)
        library.seccomp_init.restype = c_void_p
        library.seccomp_release.argtypes = (c_void_p,)
        library.seccomp_release.restype = None
        library.seccomp_arch_native.argtypes = ()
        library.seccomp_arch_native.restype = c_uint32
        library.seccomp_arch_resolve_name.argtypes = (c_char_p,)
        library.seccomp_arch_resolve_name.restype = c_uint32
        library.seccomp_arch_add.argtypes = (c_void_p, c_uint32)
        library.seccomp_attr_set.argtypes = (c_void_p, c_int, c_uint32)
        library.seccomp_syscall_resolve_name.argtypes = (c_char_p,)
        library.seccomp_syscall_resolve_name_arch.argtypes = (c_uint32, c_char_p)
        library.seccomp_rule_add_array.argtypes = (c_void_p, c_uint32, c_int, c_uint, c_void_p)
        library.seccomp_export_bpf.argtypes = (c_void_p, c_int)
        _library = library
    return _library


def native_architecture() -> int:
    """The AUDIT_ARCH number of this machine."""
    return int(_open().seccomp_arch_native())


def architecture(name: str) -> int:
    """``x86_64`` → its AUDIT_ARCH number; 0: libseccomp does not know it."""
    return int(_open().seccomp_arch_resolve_name(name.encode()))


def number_of(name: str, architecture_number: int = 0) -> int:
    """A system call's number (negative: libseccomp knows the name, the architecture lacks the call); None-like -1: unknown."""
    if architecture_number:
        return int(_open().seccomp_syscall_resolve_name_arch(architecture_number, name.encode()))
    return int(_open().seccomp_syscall_resolve_name(name.encode()))


class Filter:
    """A filter under construction. A context manager: leaving it frees libseccomp's memory."""

    def __init__(self, default_action: int) -> None:
        self._library = _open()
        self._context = self._library.seccomp_init(default_action)
        if not self._context:
            raise OSError(22, "libseccomp refused the default action", hex(default_action))
        self._set(_ATTRIBUTE_NO_NEW_PRIVILEGES, 0)
        self._set(_ATTRIBUTE_OPTIMIZE, 2)  # a binary tree: an old library without it is fine

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.seccomp_release(self._context)

    def _set(self, attribute: int, value: int) -> None:
        self._library.seccomp_attr_set(self._context, attribute, value)

    def add_architecture(self, number: int) -> None:
        """Filter the calls of one more architecture, an AUDIT_ARCH number (seccomp_arch_add(3)). Raises OSError."""
        result = self._library.seccomp_arch_add(self._context, number)
        if result < 0 and result != -17:  # it is there already
            raise OSError(-result, os.strerror(-result), "seccomp_arch_add")

    def add(self, action: int, call: int, comparisons: Sequence[tuple[int, int, int, int]] = ()) -> None:
        """Add one rule; all of `comparisons` (argument, operator, a, b) must hold."""
        array = (_Comparison * max(len(comparisons), 1))(*(_Comparison(*each) for each in comparisons))
        result = self._library.seccomp_rule_add_array(self._context, action, call, len(comparisons), ctypes.addressof(array))
        if result < 0:
            raise OSError(-result, os.strerror(-result), f"seccomp rule for call {call}")

    def export(self) -> bytes:
        """The finished filter as an array of struct sock_filter."""
        fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        try:
            result = self._library.seccomp_export_bpf(self._context, fd)
            if result < 0:
                raise OSError(-result, os.strerror(-result), "seccomp_export_bpf")
            return os.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)
