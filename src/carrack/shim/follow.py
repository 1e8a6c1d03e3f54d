"""Writing a log to a client from the files: `logs -f` (in HTTP chunks, to the end of the container) and an attach's replay."""

from __future__ import annotations

import time
from collections.abc import Callable

from carrack.errors import CarrackError
from carrack.kernel.loop import PEER_CLOSED, Loop, Timer
from carrack.shim.framing import FINAL_CHUNK, chunk
from carrack.shim.logs.reader import Cursor
from carrack.shim.logs.record import LogRequest, Rendering, render
from carrack.shim.logs.writer import Log
from carrack.shim.messages import FollowLogs, LogPlan
from carrack.shim.outgoing import Outgoing

_AHEAD_BYTES = 256 * 1024
"""How much is rendered before the client has taken it."""


class LogFeed:
    """Pumps records from a cursor into a client's socket as fast as it takes them, and no faster."""

    def __init__(self, loop: Loop, log: Log, plan: LogPlan, request: LogRequest, how: Rendering, outgoing: Outgoing) -> None:
        """Raises InvalidParameter for a driver that keeps nothing."""
        self._loop = loop
        self._log = log
        self._how = how
        self._cursor = Cursor(plan, request)
        self._outgoing = outgoing
        self._scheduled = False
        self._closed = False
        self.chunked = False
        self.on_caught_up: Callable[[], None] = lambda: None
        """Called whenever everything that there is has been written."""
        live_fd = log.follow(self)
        self._cursor.open_history(live_fd)
        self.appended()

    @property
    def passed_until(self) -> bool:
        return self._cursor.finished

    def appended(self) -> None:
        """Told by the log: there is more to read."""
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self._loop.call_soon(self.pump)

    def rotated(self, file_fd: int) -> None:
        """Told by the log: there is another file to read, whose descriptor is ours now."""
        self._cursor.add_file(file_fd)
        self.appended()

    def pump(self) -> None:
        """Write as many records as the client takes now."""
        self._scheduled = False
        while not self._closed and self._outgoing.queued_bytes < _AHEAD_BYTES:
            try:
                batches = self._cursor.next()
            except (CarrackError, OSError):
                batches = None  # a damaged file ends the history that can be read
            if batches is None:
                self.on_caught_up()
                return
            content = b"".join([render(batch, self._how) for batch in batches])
            if content:
                self._outgoing.write(chunk(content) if self.chunked else content)

    def close(self) -> None:
        """Stop, and close the files. Idempotent."""
        if not self._closed:
            self._closed = True
            self._log.leave(self)
            self._cursor.close()


class LogFollower:
    """One `logs -f` client, whose HTTP header is already sent."""

    def __init__(
        self,
        loop: Loop,
        log: Log,
        plan: LogPlan,
        order: FollowLogs,
        enter: Callable[[Callable[[], None]], Outgoing],
        *,
        framed: bool,
        on_gone: Callable[[LogFollower], None],
    ) -> None:
        """`enter` gives the client's socket as an Outgoing, when told what to call at its end."""
        self._on_gone = on_gone
        self._ending = False
        self._timer: Timer | None = None
        self._feed: LogFeed | None = None
        self._outgoing = enter(self._gone)
        self._outgoing.listen_to(PEER_CLOSED)
        self._outgoing.on_peer_closed = self._outgoing.close
        request = LogRequest(order.stdout, order.stderr, order.since_nanoseconds, order.until_nanoseconds, order.tail)
        how = Rendering(framed, order.timestamps, order.details)
        try:
            self._feed = feed = LogFeed(loop, log, plan, request, how, self._outgoing)
        except BaseException:
            self._outgoing.close()
            raise
        feed.chunked = True
        feed.on_caught_up = self._caught_up
        self._outgoing.on_relieved = feed.pump
        if order.until_nanoseconds:
            seconds = max(0.0, (order.until_nanoseconds - time.time_ns()) / 1e9)
            self._timer = loop.call_later(seconds, self.end)

    def end(self) -> None:
        """Nothing more will be logged: write what is left, then the final chunk."""
        self._ending = True
        if self._feed is not None:
            self._feed.pump()

    def _caught_up(self) -> None:
        if self._feed is not None and (self._ending or self._feed.passed_until):
            self._feed.close()
            self._outgoing.write(FINAL_CHUNK)
            self._outgoing.finish()

    def _gone(self) -> None:
        if self._feed is not None:
            self._feed.close()
        if self._timer is not None:
            self._timer.cancel()
        self._on_gone(self)
