"""The event loop of processes that live beside containers: epoll, a heap of timers, callbacks. Nothing else: there are many.

A callback may be told of an event that an earlier callback of the same round has used up, or that belonged to a descriptor number
since reused: everything watched is non-blocking, so it reads nothing and returns.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import time
from collections.abc import Callable

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
PEER_CLOSED = select.EPOLLRDHUP
GONE = select.EPOLLHUP | select.EPOLLERR
"""Reported whether asked for or not."""


class Timer:
    """A callback to come; `cancel` takes it back."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    """One epoll and its callbacks, for one thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll(select.EPOLL_CLOEXEC)
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._vital: set[int] = set()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._idle: tuple[float, Callable[[], None]] | None = None
        self._stopped = False

    def watch(self, fd: int, events: int, callback: Callable[[int], None], *, vital: bool = False) -> None:
        """Call `callback(events)` whenever `fd` has one of `events`, an error or a hang-up.

        A callback that fails loses its descriptor, and is said on standard error; the failure of a vital one ends `run`.
        """
        self._epoll.register(fd, events)
        self._callbacks[fd] = callback
        if vital:
            self._vital.add(fd)

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching, before the descriptor is closed. Nothing happens for one that is not watched."""
        if self._callbacks.pop(fd, None) is not None:
            self._vital.discard(fd)
            self._epoll.unregister(fd)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call back in that many seconds, once, unless the timer is cancelled."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.call_later(0, callback)

    def when_idle(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call `callback` once after each time that nothing has happened for so long, and nothing is planned."""
        self._idle = (seconds, callback)

    def run(self) -> None:
        """Serve events until `stop`."""
        idle = self._idle
        while not self._stopped:
            wait_seconds = self._wait_seconds()
            resting = wait_seconds is None and idle is not None
            happened = self._epoll.poll(idle[0] if resting and idle else wait_seconds)
            if happened:
                idle = self._idle
            elif resting and idle:
                idle[1]()
                idle = None
            for fd, events in happened:
                callback = self._callbacks.get(fd)
                if callback is not None and not self._stopped:
                    self._call(fd, callback, events)
            self._run_timers()

    def stop(self) -> None:
        self._stopped = True

    @property
    def watched(self) -> int:
        """How many descriptors are watched."""
        return len(self._callbacks)

    @property
    def fd(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        self._epoll.close()

    def _call(self, fd: int, callback: Callable[[int], None], events: int) -> None:
        try:
            callback(events)
        except Exception as error:  # the root of what this descriptor stands for: one bad client must not end a container
            if fd in self._vital:
                raise
            try:
                os.write(2, f"carrack: descriptor {fd}: {type(error).__name__}: {error}\n".encode())
            except OSError:
                pass  # who read it is gone
            self.forget(fd)

    def _wait_seconds(self) -> float | None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return None
        return max(0.0, self._timers[0][0] - time.monotonic())

    def _run_timers(self) -> None:
        now = time.monotonic()
        while not self._stopped and self._timers and self._timers[0][0] <= now:
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                callback()
