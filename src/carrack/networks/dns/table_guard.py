"""The firewall table while no carrackd is there: the names process takes it down as it was left, and puts it back when somebody
flushes it.

A carrackd that comes back is known by the token that its transactions carry, even before it says a word: from then on the table is
its own affair again.
"""

from __future__ import annotations

import os
from contextlib import suppress

from carrack.errors import SystemFailure
from carrack.kernel.loop import READ, Loop
from carrack.kernel.nftables import Nftables, RulesetMonitor, Transaction, new_token
from carrack.networks.table_marks import TOKEN_SET, USER_CHAIN

_FIGHT_PAUSE_SECONDS = 0.2
"""At least this between two repairs: whoever flushes in a loop must not make us spin."""


class TableGuard:
    """Guards one table. Every method runs on the loop."""

    def __init__(self, loop: Loop, table: str) -> None:
        self.table = table
        self._loop = loop
        self._monitor: RulesetMonitor | None = None
        self._text = ""
        self._tokens: set[int] = set()

    def begin(self) -> None:
        """Remember the table as it is, and put it back from now on when it is changed. Without one there is nothing to guard."""
        self.end()
        monitor = RulesetMonitor((self.table,), TOKEN_SET, USER_CHAIN)  # before the look, so that no change is missed
        try:
            self._text = self._run(f"list table inet {self.table}\n")
        except SystemFailure:
            monitor.close()
            return
        self._monitor = monitor
        self._loop.watch(monitor.fileno(), READ, self._hear)

    def end(self) -> None:
        """A carrackd sees to it. Idempotent."""
        if self._monitor is not None:
            self._loop.forget(self._monitor.fileno())
            self._monitor.close()
            self._monitor = None

    def _hear(self, _: int) -> None:
        assert self._monitor is not None
        transactions, lost = self._monitor.read()
        foreign = [each for each in transactions if not self._is_ours(each)]
        if any(each.token is not None for each in foreign):
            self.end()
        elif foreign or lost:
            monitor = self._monitor
            self._loop.forget(monitor.fileno())
            self._put_back()
            self._loop.call_later(_FIGHT_PAUSE_SECONDS, lambda: self._listen_again(monitor))

    def _listen_again(self, monitor: RulesetMonitor) -> None:
        if self._monitor is monitor:
            self._loop.watch(monitor.fileno(), READ, self._hear)

    def _is_ours(self, transaction: Transaction) -> bool:
        return transaction.token in self._tokens

    def _put_back(self) -> None:
        token = new_token()
        self._tokens.add(token)
        mark = f"flush set inet {self.table} {TOKEN_SET}\nadd element inet {self.table} {TOKEN_SET} {{ {token:#x} }}\n"
        try:
            self._run(f"add table inet {self.table}\ndelete table inet {self.table}\n{self._text}\n{mark}")
        except SystemFailure as error:
            with suppress(OSError):
                os.write(2, f"carrack: table inet {self.table} cannot be put back: {error.message}\n".encode())

    def _run(self, commands: str) -> str:
        nft = Nftables()
        try:
            return nft.run(commands)
        finally:
            nft.close()
