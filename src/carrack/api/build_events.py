"""A build's events as they are, one JSON document per line: for a display that shows parallel steps (`carrack build`)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from carrack.build.builder import BuildFailed
from carrack.build.dockerfile.failure import DockerfileError
from carrack.build.progress import Event, Failed, Told, VertexCompleted
from carrack.errors import CarrackError


class EventStream:
    """One build's stream, with the shape of `build_stream.ClassicStream`."""

    def __init__(self) -> None:
        self._said: list[Event] = []

    def say(self, text: str) -> None:
        """A line about the whole, before there is any step. From any thread."""
        self._said.append(Told(text))

    def lines(self, event: Event) -> Iterator[bytes]:
        """What an event adds to the stream."""
        said, self._said = self._said, []
        if isinstance(event, VertexCompleted) and event.error:
            event = msgspec.structs.replace(event, error=in_words(event.error))
        for each in (*said, event):
            yield msgspec.json.encode(each) + b"\n"

    def failure(self, error: CarrackError) -> Iterator[bytes]:
        """The last document of a build that failed."""
        failed = Failed(error.message)
        if isinstance(error, BuildFailed):
            failed = Failed(in_words(error.message), error.code, error.source, error.vertex)
        elif isinstance(error, DockerfileError):
            failed = Failed(error.message, source=error.render())
        yield from self.lines(failed)


def in_words(message: str) -> str:
    """A failure as BuildKit words it, which programs that read logs look for."""
    failed = _FAILED.fullmatch(message)
    if failed is not None:
        return f'process "{failed[1]}" did not complete successfully: exit code: {failed[2]}'
    return f"failed to compute cache key: {message}" if _MISSING.fullmatch(message) else message


_FAILED = re.compile(r"The command '(.*)' returned a non-zero code: ([0-9]+)", re.DOTALL)
_MISSING = re.compile(r'"[^"]*": not found')
