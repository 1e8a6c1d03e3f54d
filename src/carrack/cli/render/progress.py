"""The daemon's progress messages (pull, push, load, build) as Docker shows them: a line per layer, redrawn on a terminal.

The messages are the API's JSONMessage documents. Elsewhere than on a terminal every status is a line of its own, and progress
bars are left out.
"""

from __future__ import annotations

from carrack.cli.failure import CommandFailure
from carrack.cli.render.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from carrack.cli.console import Output


class ProgressDisplay:
    """Prints progress messages in their order. `on_aux` gets what is meant for programs, such as the id of a built image."""

    def __init__(self, out: Output, *, on_aux: Callable[[Any], None] | None = None) -> None:
        self._out = out
        self._on_aux = on_aux
        self._lines: dict[str, int] = {}
        self._terminal = out.is_terminal

    def show_all(self, messages: Iterable[Any]) -> None:
        """Shows messages as they come. Raises CommandFailure with the daemon's text when one reports a failure."""
        for message in messages:
            self.show(message)
            self._out.flush()

    def show(self, message: dict[str, Any]) -> None:
        """Shows one message. Raises CommandFailure."""
        if "aux" in message and message["aux"] is not None:
            if self._on_aux:
                self._on_aux(message["aux"])
            return
        failure = message.get("errorDetail")
        if failure or message.get("error"):
            failure = failure or {"message": message["error"]}
            if failure.get("code") == 401:
                raise CommandFailure("authentication is required")
            raise CommandFailure(str(failure.get("message") or ""), 1)
        identity = str(message.get("id") or "")
        detail = message.get("progressDetail")
        if identity and (detail is not None or message.get("progress")):
            rise = self._line_of(identity)
            if self._terminal:
                self._out.write(f"\x1b[{rise}A")
        else:
            # what is no progress ends the block of lines that may be redrawn
            self._lines.clear()
            rise = 0
        self._print(message, identity, detail)
        if self._terminal and identity and rise:
            self._out.write(f"\x1b[{rise}B")

    def _line_of(self, identity: str) -> int:
        """How many lines above the cursor the line of this id is; a new id gets a new line."""
        if identity not in self._lines:
            self._lines[identity] = len(self._lines)
            if self._terminal:
                self._out.write("\n")
        return len(self._lines) - self._lines[identity]

    def _print(self, message: dict[str, Any], identity: str, detail: dict[str, Any] | None) -> None:
        end = ""
        text = str(message.get("stream") or "")
        bar = progress_bar(detail, self._out.size()[1] or 200) if detail else ""
        if self._terminal and not text and detail is not None:
            end = "\r"
            self._out.write("\x1b[2K\r")
        elif bar:
            return  # elsewhere than on a terminal a bar says nothing
        line = ""
        if message.get("timeNano") or message.get("time"):
            from carrack.cli.render.units import rfc3339_nano

            line += rfc3339_nano(int(message.get("timeNano") or int(message["time"]) * 10**9)) + " "
        if identity:
            line += f"{identity}: "
        if message.get("from"):
            line += f"(from {message['from']}) "
        status = str(message.get("status") or "")
        if detail is not None and self._terminal:
            self._out.write(f"{line}{status} {bar}{end}")
        elif message.get("progress"):
            self._out.write(f"{line}{status} {message['progress']}{end}")
        elif text:
            self._out.write(f"{line}{text}{end}")
        else:
            self._out.write(f"{line}{status}{end}\n")


def progress_bar(progress: dict[str, Any], width: int) -> str:
    """`[=====>     ]  3.1MB/7.6MB`; the bar is left out of a narrow terminal."""
    current, total = int(progress.get("current") or 0), int(progress.get("total") or 0)
    units = str(progress.get("units") or "")
    if current <= 0 and total <= 0:
        return ""
    if total <= 0:
        return f"{current} {units}" if units else f"{human_size(current):>8}"
    percentage = min(int(current / total * 100) // 2, 50)
    bar = ""
    if width > 110:
        bar = f"[{'=' * percentage}>{' ' * (50 - percentage)}] "
    if progress.get("hidecounts"):
        numbers = ""
    elif units:
        numbers = f"{current}/{total} {units}" if current <= total else f"{current} {units}"
    else:
        numbers = f"{human_size(current):>8}/{human_size(total)}" if current <= total else f"{human_size(current):>8}"
    left = ""
    start = progress.get("start")
    if width > 50 and current > 0 and start and percentage < 50:
        import time

        left = f" {round((time.time() - start) / current * (total - current))}s"
    return f"{bar}{numbers}{left}"
