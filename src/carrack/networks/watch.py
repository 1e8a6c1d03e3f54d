"""One thread that hears from the kernel: links that are gone (their addresses are free again) and changes of the ruleset that were
not ours (the table is put back).
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from carrack.errors import CarrackError
from carrack.kernel.netlink import LinkMonitor
from carrack.kernel.nftables import RulesetMonitor, Transaction
from carrack.networks.table_marks import USER_CHAIN

log = logging.getLogger(__name__)

LATER_SECONDS = 1.0
_LOOK_SECONDS = 30.0
_FIGHT_PAUSE_SECONDS = 0.2
"""At least this between two repairs: whoever flushes in a loop must not make us spin."""


class Watch:
    """The listening thread. `gone` gets the name of each link that went, or None when reports were lost; `changed` each transaction
    that touched a watched table, or None when reports were lost; `look` is called now and then, whatever is heard."""

    def __init__(
        self,
        tables: Sequence[str],
        token_set: str,
        gone: Callable[[str | None], None],
        changed: Callable[[Transaction | None], None],
        look: Callable[[], None],
    ) -> None:
        # Monitors are made here, in the maker's network namespace and before anything can happen that they should hear.
        self._links = LinkMonitor()
        self._ruleset = RulesetMonitor(tables, token_set, USER_CHAIN)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._gone = gone
        self._changed = changed
        self._look = look
        self._soon: deque[Callable[[], None]] = deque()
        self._later: deque[tuple[float, Callable[[], None]]] = deque()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="network-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def soon(self, action: Callable[[], None]) -> None:
        """Have the thread do something that nobody waits for; at once where there is no thread any more."""
        if self._closed.is_set() or self._thread.ident is None:
            action()
            return
        self._soon.append(action)
        os.eventfd_write(self._wake, 1)

    def later(self, action: Callable[[], None]) -> None:
        """`soon`, after LATER_SECONDS: what is best done for several at once."""
        due = time.monotonic() + LATER_SECONDS
        self.soon(lambda: self._later.append((due, action)) if not self._closed.is_set() else action())

    def close(self) -> None:
        """Stop listening; returns when the thread has ended. Idempotent."""
        if self._closed.is_set():
            return
        self._closed.set()
        os.eventfd_write(self._wake, 1)
        if self._thread.ident is not None:
            self._thread.join()
        self._links.close()
        self._ruleset.close()
        os.close(self._wake)

    def _run(self) -> None:
        poll = select.poll()
        for fd in (self._links.fileno(), self._ruleset.fileno(), self._wake):
            poll.register(fd, select.POLLIN)
        looked = time.monotonic()
        while not self._closed.is_set():
            wait_seconds = max(0.0, self._later[0][0] - time.monotonic()) if self._later else _LOOK_SECONDS
            ready = {fd for fd, _ in poll.poll(wait_seconds * 1000)}
            if self._closed.is_set():
                return
            while self._later and self._later[0][0] <= time.monotonic():
                self._guarded(self._later.popleft()[1])
            if time.monotonic() - looked > _LOOK_SECONDS:
                self._guarded(self._look)
                looked = time.monotonic()
            if self._wake in ready:
                os.eventfd_read(self._wake)
                while self._soon:
                    self._guarded(self._soon.popleft())
            if self._links.fileno() in ready:
                self._hear_links()
            if self._ruleset.fileno() in ready:
                self._hear_ruleset()

    def _hear_links(self) -> None:
        names, lost = self._links.read()
        for name in names:
            self._guarded(partial(self._gone, name))
        if lost:
            self._guarded(partial(self._gone, None))

    def _hear_ruleset(self) -> None:
        transactions, lost = self._ruleset.read()
        started = time.monotonic()
        for transaction in transactions:
            self._guarded(partial(self._changed, transaction))
        if lost:
            self._guarded(partial(self._changed, None))
        if any(transaction.token is None for transaction in transactions):
            self._closed.wait(max(0.0, _FIGHT_PAUSE_SECONDS - (time.monotonic() - started)))

    def _guarded(self, repair: Callable[[], None]) -> None:
        """One repair that fails must not keep the others from being done."""
        try:
            repair()
        except (OSError, CarrackError):
            log.exception("network watch: a repair failed; it is tried again at the next change")
