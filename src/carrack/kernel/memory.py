"""The C library's heap."""

from __future__ import annotations

import _thread
import ctypes

from carrack.kernel.libc import libc

_M_ARENA_MAX = -8
_GAPS = 1000
"""More than the gaps of a lock's size that the heap of a process has when it has just imported its modules."""
_FORK_LOCKS = 12
_fillers: list[object] = []
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


def gather_locks() -> None:
    """For a process that only forks from now on: the dozen locks that the interpreter makes anew in each child then lie together.

    Else each comes from a gap somewhere in the heap, and every child gets a page of its own for each. The gaps stay filled: were
    they given back, the first child that wants a large piece would go through them all (malloc_consolidate).
    """
    _fillers.extend(_thread.allocate_lock() for _ in range(_GAPS))
    del _fillers[-_FORK_LOCKS:]
