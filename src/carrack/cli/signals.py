"""Signals as bytes on a pipe, for a `select` loop: those to pass on to the container, and SIGWINCH.

Uses the C module `_signal`: the `signal` module costs 4 ms of import for its enums.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os

from carrack.cli.failure import CommandFailure
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

    from carrack.client.engine import Engine

_NEVER = ("SIGCHLD", "SIGCLD", "SIGPIPE", "SIGURG", "SIGKILL", "SIGSTOP", "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGWINCH")
"""Ours alone: what cannot be caught, what the kernel sends for a fault of ours, and what concerns only this process."""


_PATIENCE = 3
"""Who presses ctrl-c so often wants to go, whatever the container does about it. As many as Docker's command counts."""


def signal_names() -> dict[int, str]:
    """Number → name without SIG, of every signal this system has."""
    names: dict[int, str] = {}
    for name in dir(_signal):
        if (
            name.startswith("SIG")
            and not name.startswith("SIG_")
            and name not in ("SIGCLD", "SIGPOLL", "SIGIOT", "SIGRTMIN", "SIGRTMAX")
        ):
            names[int(getattr(_signal, name))] = name[3:]
    return names


def _notice(_number: int, _frame: FrameType | None) -> None:
    """The pipe has it already; a handler must stand so that the default action does not happen."""


class SignalWatch:
    """Catches signals from its making to `close`. With an engine and a container, they are passed on by `kill`."""

    def __init__(self, *, engine: Engine | None = None, container: str = "") -> None:
        self._engine = engine
        self._container = container
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        _signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._names = signal_names()
        self._insisted = 0
        self._before: dict[int, Any] = {}
        for number, name in self._names.items():
            if f"SIG{name}" == "SIGWINCH" or (engine is not None and f"SIG{name}" not in _NEVER):
                self._before[number] = _signal.signal(number, _notice)

    def fileno(self) -> int:
        """Readable when a signal has come."""
        return self._reader

    def forward(self) -> bool:
        """Passes on what has come; true when the terminal's size changed. Raises CommandFailure when the user insists on an end."""
        try:
            numbers = os.read(self._reader, 512)
        except BlockingIOError:
            return False
        resized = False
        for number in numbers:
            name = self._names.get(number, "")
            if name == "WINCH":
                resized = True
            elif self._engine is not None and name:
                try:
                    self._engine.order("POST", f"/containers/{self._container}/kill", {"signal": f"SIG{name}"})
                except CarrackError:
                    pass  # not running yet, or not any more: there is nobody to tell
                self._insisted += name in ("INT", "TERM")
        if self._insisted >= _PATIENCE:
            raise CommandFailure(f"got {_PATIENCE} SIGTERM/SIGINTs, forcefully exiting; the container goes on")
        return resized

    def close(self) -> None:
        """Gives every signal its old meaning back."""
        _signal.set_wakeup_fd(-1)
        for number, before in self._before.items():
            if before is not None:
                _signal.signal(number, before)
        os.close(self._reader)
        os.close(self._writer)
        if self._engine is not None:
            self._engine.close()
