"""Taking back work that threads do: an event with listeners, safe from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from carrack.errors import Cancelled


class Cancellation(threading.Event):
    """Whether somebody still wants a piece of work. Set when nobody does; it stays so."""

    def __init__(self, work: str = "build") -> None:
        super().__init__()
        self._work = work
        self._turn = threading.Lock()
        self._listeners: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        return self.is_set()

    def set(self) -> None:
        self.cancel()

    def cancel(self) -> None:
        """Tell everyone. Idempotent."""
        with self._turn:
            super().set()
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()

    def check(self) -> None:
        """Raises Cancelled when nobody wants the work any more."""
        if self.is_set():
            raise Cancelled(f"the {self._work} was cancelled")

    def listen(self, listener: Callable[[], None]) -> None:
        """Have `listener` called at a cancellation, at once when that has happened: it closes a connection, say."""
        with self._turn:
            gone = self.is_set()
            if not gone:
                self._listeners.append(listener)
        if gone:
            listener()

    def ignore(self, listener: Callable[[], None]) -> None:
        """Call it no more. Idempotent."""
        with self._turn:
            if listener in self._listeners:
                self._listeners.remove(listener)

    @contextmanager
    def calling(self, listener: Callable[[], None]) -> Iterator[None]:
        """`listen` within it."""
        self.listen(listener)
        try:
            yield
        finally:
            self.ignore(listener)
