"""Network namespaces: acting inside one, from a process that stays outside.

setns(2) moves one thread only. Whatever must happen inside runs in a thread made for it, which never serves anything else and
ends there: no pooled thread can be left in a foreign namespace. A socket opened inside stays inside for ever and may be used
by every thread; so may files of /proc/sys/net, which belong to the namespace of the thread that opens them.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)
_libc.unshare.argtypes = (ctypes.c_int,)


class _Visit(threading.Thread, Generic[T]):
    def __init__(self, enter: Callable[[], None], action: Callable[[], T]) -> None:
        super().__init__(name="netns-visit", daemon=True)
        self._enter = enter
        self._action = action
        self.result: T | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._enter()
            self.result = self._action()
        except BaseException as error:  # the root of a task: the one who waits for it gets the exception  # noqa: BLE001
            self.error = error


def _visit(enter: Callable[[], None], action: Callable[[], T]) -> T:
    visit = _Visit(enter, action)
    visit.start()
    visit.join()
    if visit.error is not None:
        raise visit.error
    return visit.result  # type: ignore[return-value]


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def inside(namespace_fd: int, action: Callable[[], T]) -> T:
    """Call `action` in the network namespace of a descriptor; wait for it and return what it returns, or raise what it raises."""
    return _visit(lambda: _check(_libc.setns(namespace_fd, CLONE_NEWNET)), action)


def new() -> int:
    """Make an empty network namespace; it lives as long as the descriptor (or a process or socket in it)."""
    return _visit(
        lambda: _check(_libc.unshare(CLONE_NEWNET)), lambda: os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    )
