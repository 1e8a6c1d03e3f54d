"""The logs of several containers at once: each line with the name it is of in front, as it comes.

Docker's command takes one container; people run a shell loop for this. Names are coloured on a terminal unless NO_COLOR is set.
"""

from __future__ import annotations

import os
from select import select

from carrack.cli.console import write_all
from carrack.cli.containers.lifecycle import container_path
from carrack.cli.failure import CommandFailure
from carrack.client.frames import STDERR, STDOUT, SYSTEM_ERROR, FrameReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.session import Session

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


class _Source:
    """One container's answer, cut into lines."""

    def __init__(self, session: Session, container: dict[str, Any], query: dict[str, str], label: bytes) -> None:
        self._frames = None if container["Config"]["Tty"] else FrameReader()
        self._waiting: dict[int, bytes] = {}
        self._label = label
        # each is read for as long as it lasts: a connection of its own
        self.response = session.new_engine().request("GET", container_path(container["Id"], "/logs"), query)

    def fileno(self) -> int:
        return self.response.body.fileno()

    def pass_on(self) -> bool:
        """Prints what came; false at the end."""
        data = self.response.body.read()
        for stream, piece in self._frames.feed(data) if self._frames else [(STDOUT, data)]:
            if stream == SYSTEM_ERROR:
                raise CommandFailure(f"error from daemon in stream: {piece.decode('utf-8', 'replace')}")
            *lines, self._waiting[stream] = (self._waiting.get(stream, b"") + piece).split(b"\n")
            for line in lines:
                write_all(2 if stream == STDERR else 1, self._label + line + b"\n")
        if not data:
            for stream, rest in self._waiting.items():
                if rest:
                    write_all(2 if stream == STDERR else 1, self._label + rest + b"\n")
        return bool(data)


def print_several(session: Session, containers: list[dict[str, Any]], query: dict[str, str]) -> None:
    """Prints the logs of containers; with `follow` in the query until the last has ended. Raises CommandFailure."""
    names = [str(container["Name"]).lstrip("/") for container in containers]
    width = max([len(name) for name in names])
    coloured = session.out.is_terminal and not os.environ.get("NO_COLOR")
    sources = []
    for number, (container, name) in enumerate(zip(containers, names, strict=True)):
        label = f"{name:<{width}} | "
        if coloured:
            label = f"\x1b[{_COLOURS[number % len(_COLOURS)]}m{label}\x1b[0m"
        sources.append(_Source(session, container, query, label.encode()))
    while sources:
        ready = [source for source in sources if source.response.body.buffered]
        if not ready:
            ready, _, _ = select(sources, [], [])
        for source in ready:
            if not source.pass_on():
                source.response.close()
                sources.remove(source)
