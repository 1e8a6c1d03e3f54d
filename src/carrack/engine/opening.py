"""A start while it is under way: what the shim tells too early, how long each step takes, and why it failed."""

from __future__ import annotations

import time
from collections.abc import Callable

from carrack.engine.shims import error_of
from carrack.errors import CarrackError, InvalidParameter, SystemFailure
from carrack.shim.messages import StartFailed


class Trace:
    """The steps of a start and the microseconds each took, as the daemon sees them."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, int]] = []
        self._last = time.monotonic_ns()

    def mark(self, step: str) -> None:
        """The step that has just ended, with the time since the one before."""
        now = time.monotonic_ns()
        self.steps.append((step, (now - self._last) // 1000))
        self._last = now


class Opening:
    """Keeps what a shim tells before its container's record says that it runs."""

    def __init__(self) -> None:
        self._messages: list[object] = []
        self._lost = False
        self._report: Callable[[object], None] | None = None
        self._lose: Callable[[], None] | None = None

    def report(self, message: object) -> None:
        """The conversation's `on_message`."""
        if self._report is None:
            self._messages.append(message)
        else:
            self._report(message)

    def lose(self) -> None:
        """The conversation's `on_end`."""
        if self._lose is None:
            self._lost = True
        else:
            self._lose()

    def open(self, report: Callable[[object], None], lose: Callable[[], None]) -> None:
        """Pass on what was kept, in its order, and from now on everything at once."""
        self._report, self._lose = report, lose
        for message in self._messages:
            report(message)
        if self._lost:
            lose()


class StartError(InvalidParameter):
    """A container could not be started; carries the exit code Docker records."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def failure_of(message: object) -> CarrackError:
    """The error to raise for what came instead of Created or Started."""
    if not isinstance(message, StartFailed):
        return SystemFailure(f"the container's supervisor answered {type(message).__name__}")
    if message.exit_code in (126, 127):
        return StartError(message.message, message.exit_code)
    return error_of(message.kind, message.message)
