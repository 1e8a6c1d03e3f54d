"""The C library's heap."""

from __future__ import annotations

import ctypes

from carrack.kernel.libc import libc

_malloc_trim = getattr(libc, "malloc_trim", None)  # musl has none


def give_back_free() -> None:
    """Return to the kernel what was freed: for a process that will only be forked from now on, so that no child pays for it."""
    if _malloc_trim is not None:
        _malloc_trim.argtypes = (ctypes.c_size_t,)
        _malloc_trim(0)
