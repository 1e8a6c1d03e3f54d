"""A transfer that several clients may watch: it runs in a thread of its own, and is cancelled when the last of them has gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator

from carrack.errors import Cancelled, CarrackError, SystemFailure
from carrack.images.progress import Progress

Tell = Callable[[Progress], None]
Work = Callable[[Tell, threading.Event], None]
"""Does the transfer, telling of its progress, until it is done or the event is set."""


class Transfers:
    """The transfers that are under way, by what they are: who asks for the same joins in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Hashable, _Transfer] = {}

    def watch(self, key: Hashable, work: Work) -> Iterator[Progress]:
        """Begin a transfer, or join the same that runs already; its progress from the beginning, then its failure if it fails."""
        while True:
            with self._lock:
                transfer = self._running.get(key)
                if transfer is None:
                    transfer = self._running[key] = _Transfer(work, lambda: self._forget(key))
            if transfer.join():
                break
        try:
            yield from transfer.progress()
        finally:
            transfer.leave()

    def _forget(self, key: Hashable) -> None:
        with self._lock:
            self._running.pop(key, None)


class _Transfer:
    """One transfer and its watchers."""

    def __init__(self, work: Work, ended: Callable[[], None]) -> None:
        self._work = work
        self._ended = ended
        self._changed = threading.Condition()
        self._told: list[Progress] = []
        self._watchers = 0
        self._done = False
        self._failure: CarrackError | None = None
        self._cancel = threading.Event()
        self._started = False

    def join(self) -> bool:
        """Be one more watcher; False when it is being given up."""
        with self._changed:
            if self._cancel.is_set():
                self._changed.wait_for(lambda: self._done)
                return False
            self._watchers += 1
            if not self._started:
                self._started = True
                threading.Thread(target=self._run, name="transfer", daemon=True).start()
            return True

    def leave(self) -> None:
        with self._changed:
            self._watchers -= 1
            if not self._watchers and not self._done:
                self._cancel.set()

    def progress(self) -> Iterator[Progress]:
        seen = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda seen=seen: self._done or len(self._told) > seen)  # type: ignore[misc]
                fresh, done = self._told[seen:], self._done
            yield from fresh
            seen += len(fresh)
            if done and seen == len(self._told):
                break
        if self._failure is not None:
            raise self._failure

    def _tell(self, line: Progress) -> None:
        with self._changed:
            self._told.append(line)
            self._changed.notify_all()

    def _run(self) -> None:
        failure: CarrackError | None = None
        try:
            self._work(self._tell, self._cancel)
        except CarrackError as error:
            failure = error
        except Exception as error:  # the root of a thread: its watchers must be told
            failure = SystemFailure(f"transfer failed: {type(error).__name__}: {error}")
        finally:
            self._ended()
            with self._changed:
                self._done = True
                self._failure = failure
                self._changed.notify_all()


def check(cancel: threading.Event) -> None:
    """Raises Cancelled once nobody watches any more."""
    if cancel.is_set():
        raise Cancelled("the transfer was cancelled")
