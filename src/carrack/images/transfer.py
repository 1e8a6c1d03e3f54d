"""A transfer that several clients may watch: it runs in a thread of its own, and is cancelled when the last of them has gone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator

from carrack.distribution.cancellation import Cancellation
from carrack.errors import CarrackError, SystemFailure
from carrack.images.progress import Progress

Tell = Callable[[Progress], None]
Work = Callable[[Tell, Cancellation], None]
"""Does the transfer, telling of its progress, until it is done or the event is set."""


class Transfers:
    """The transfers that are under way, by what they are: who asks for the same joins in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[Hashable, _Transfer] = {}

    def watch(self, key: Hashable, work: Work) -> Watching:
        """Begin a transfer, or join the same that runs already."""
        while True:
            with self._lock:
                transfer = self._running.get(key)
                if transfer is None:
                    transfer = self._running[key] = _Transfer(work, lambda: self._forget(key))
            watching = Watching(transfer)
            if transfer.join(watching):
                return watching

    def _forget(self, key: Hashable) -> None:
        with self._lock:
            self._running.pop(key, None)


class Watching(Iterator[Progress]):
    """One client's view of a transfer: its progress from the beginning, then its failure if it fails.

    Of how far a part has come only the last is told to who joins late, or reads slowly.

    Closed by who watches, from any thread, even while another waits in it.
    """

    def __init__(self, transfer: _Transfer) -> None:
        self._transfer = transfer
        self._seen = 0

    def __next__(self) -> Progress:
        self._seen, line = self._transfer.line(self._seen, self)
        return line

    def close(self) -> None:
        """Watch no longer. The last who leaves ends the transfer. Idempotent."""
        self._transfer.leave(self)


class _Transfer:
    """One transfer and its watchers."""

    def __init__(self, work: Work, ended: Callable[[], None]) -> None:
        self._work = work
        self._ended = ended
        self._changed = threading.Condition()
        self._told: list[Progress | None] = []
        """None where a later line says how far the same part has come since: a long transfer must not fill the memory."""
        self._last: dict[tuple[str, str], int] = {}
        self._watchers: set[Watching] = set()
        self._done = False
        self._failure: CarrackError | None = None
        self._cancel = Cancellation("transfer")
        self._started = False

    def join(self, watching: Watching) -> bool:
        """Let one more watch; False, after its end, when it is being given up."""
        with self._changed:
            if self._cancel.is_set():
                self._changed.wait_for(lambda: self._done)
                return False
            self._watchers.add(watching)
            if not self._started:
                self._started = True
                threading.Thread(target=self._run, name="transfer", daemon=True).start()
            return True

    def leave(self, watching: Watching) -> None:
        with self._changed:
            self._watchers.discard(watching)
            if not self._watchers and not self._done:
                self._cancel.cancel()
            self._changed.notify_all()

    def line(self, number: int, watching: Watching) -> tuple[int, Progress]:
        """The first line from `number` on, once it is told, and the number behind it.

        Raises StopIteration behind the last one, or the transfer's failure.
        """
        with self._changed:
            while watching in self._watchers:
                while number < len(self._told):
                    line, number = self._told[number], number + 1
                    if line is not None:
                        return number, line
                if self._done:
                    break
                self._changed.wait()
            if self._failure is not None and watching in self._watchers:
                raise self._failure
            raise StopIteration

    def _tell(self, line: Progress) -> None:
        with self._changed:
            if line.total:
                before = self._last.get((line.id, line.status))
                if before is not None:
                    self._told[before] = None
                self._last[line.id, line.status] = len(self._told)
            self._told.append(line)
            self._changed.notify_all()

    def _run(self) -> None:
        failure: CarrackError | None = None
        try:
            self._work(self._tell, self._cancel)
        except CarrackError as error:
            failure = error
        except Exception as error:  # the root of a thread: its watchers must be told  # noqa: BLE001
            failure = SystemFailure(f"transfer failed: {type(error).__name__}: {error}")
        finally:
            self._ended()
            with self._changed:
                self._done = True
                self._failure = failure
                self._changed.notify_all()
