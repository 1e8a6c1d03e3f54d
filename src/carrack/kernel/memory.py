"""The C library's heap."""

from __future__ import annotations

import ctypes

from carrack.kernel.libc import libc

_M_ARENA_MAX = -8
_mallopt = getattr(libc, "mallopt", None)
_malloc_trim = getattr(libc, "malloc_trim", None)  # musl has none


def give_back_free() -> None:
    """Return to the kernel what was freed: for a process that will only be forked from now on, so that no child pays for it."""
    if _malloc_trim is not None:
        _malloc_trim.argtypes = (ctypes.c_size_t,)
        _malloc_trim(0)


def few_arenas(count: int) -> None:
    """Let all threads share so many heaps (mallopt(3), M_ARENA_MAX): of one heap for each, what is free is no use to the others.

    Before any thread is started.
    """
    if _mallopt is not None:
        _mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
        _mallopt(_M_ARENA_MAX, count)
