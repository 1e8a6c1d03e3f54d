"""Taking back work that threads do: a flag with listeners, safe from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from carrack.errors import Cancelled


class Cancellation:
    """Whether somebody still wants a piece of work. Once cancelled it stays so."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._listeners: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    @property
    def event(self) -> threading.Event:
        """Set when cancelled; for those who wait on one."""
        return self._event

    def cancel(self) -> None:
        """Tell everyone. Idempotent."""
        with self._lock:
            self._event.set()
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()

    def check(self) -> None:
        """Raises Cancelled when nobody wants the work any more."""
        if self._event.is_set():
            raise Cancelled("the build was cancelled")

    @contextmanager
    def calling(self, listener: Callable[[], None]) -> Iterator[None]:
        """Within it, `listener` is called at a cancellation (at once when that has happened): it closes a connection, say."""
        with self._lock:
            gone = self._event.is_set()
            if not gone:
                self._listeners.append(listener)
        if gone:
            listener()
        try:
            yield
        finally:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)
