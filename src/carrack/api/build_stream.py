"""A build's events in the form that Docker's classic builder gives them: one JSON document per line.

Steps run in parallel, and are told in the order of the file: what a later one prints waits until its turn has come.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from carrack.api.image_json import progress
from carrack.build.builder import BuildFailed
from carrack.build.dockerfile.failure import DockerfileError
from carrack.build.progress import (
    Built,
    Event,
    Opening,
    Planned,
    PlannedStep,
    Told,
    VertexCompleted,
    VertexLog,
    VertexStarted,
    VertexStatus,
    Warned,
)
from carrack.errors import CarrackError
from carrack.images.progress import Progress

_RED, _PLAIN = "\x1b[91m", "\x1b[0m"


class ClassicStream:
    """One build's stream. `quiet`: only failures and the image's id."""

    def __init__(self, *, quiet: bool, version: str) -> None:
        self._quiet = quiet
        self._version = version
        self._steps: tuple[PlannedStep, ...] = ()
        self._next = 0
        """The first step that is not told to its end."""
        self._announced = False
        self._waiting: dict[str, list[bytes]] = {}
        self._completed: dict[str, VertexCompleted] = {}
        self._anew: set[str] = set()
        """The stages of which a step was not in the cache: no later one is said to be."""
        self._said: list[bytes] = []

    def say(self, text: str) -> None:
        """A line about the whole, before there is any step. From any thread."""
        self._said.append(self._stream(f"{text}\n"))

    def lines(self, event: Event) -> Iterator[bytes]:
        """What an event adds to the stream."""
        said, self._said = self._said, []
        yield from said
        match event:
            case Planned(steps=steps):
                self._steps = steps
                yield from self._advance()
            case Opening(text=text, total=total):
                self._announced = True
                yield from self._shown([self._stream(f"Step 1/{total} : {text}"), self._stream("\n")])
            case VertexStarted():
                yield from self._advance()
            case VertexStatus():
                if not self._quiet and not self._steps:
                    line = Progress(event.text, event.id, event.current, event.total)
                    yield msgspec.json.encode(progress(line, self._version)) + b"\r\n"
            case VertexLog(vertex=vertex, stream=number, data=data):
                text = data.decode(errors="replace")
                line_bytes = self._stream(f"{_RED}{text}{_PLAIN}" if number == 2 else text)
                if self._current == vertex:
                    yield from self._shown([line_bytes])
                else:
                    self._waiting.setdefault(vertex, []).append(line_bytes)
            case VertexCompleted(vertex=vertex):
                self._completed[vertex] = event
                yield from self._advance()
            case Warned():
                yield from self._shown([self._stream(f"[Warning] {event.rule}: {event.message} (line {event.line})\n")])
            case Told(text=text):
                yield from self._shown([self._stream(f"{text}\n")])
            case Built():
                yield from self._end(event)

    def failure(self, error: CarrackError) -> Iterator[bytes]:
        """The last document of a build that failed."""
        message = error.message
        detail: dict[str, object] = {"message": message}
        if isinstance(error, BuildFailed):
            message = _classic(error)
            detail = {"code": error.code, "message": message} if error.code else {"message": message}
        elif isinstance(error, DockerfileError):
            message = f"{error.message}\n{error.render()}"
            detail = {"message": message}
        yield msgspec.json.encode({"errorDetail": detail, "error": message}) + b"\r\n"

    @property
    def _current(self) -> str:
        return self._steps[self._next].vertex if self._announced and self._next < len(self._steps) else ""

    def _advance(self) -> Iterator[bytes]:
        """Tell every step whose turn has come, as far as it is known."""
        while self._next < len(self._steps):
            step = self._steps[self._next]
            if not self._announced:
                self._announced = True
                text = f"Step {self._next + 1}/{len(self._steps)} : {step.text}"
                yield from self._shown([self._stream(text), self._stream("\n")])
                yield from self._shown(self._waiting.pop(step.vertex, []))
            done = self._completed.get(step.vertex) if step.vertex else None
            if step.vertex and done is None:
                return
            if done is not None and done.error:
                return
            yield from self._shown(self._ending(step, done))
            self._next += 1
            self._announced = False

    def _ending(self, step: PlannedStep, done: VertexCompleted | None) -> list[bytes]:
        """The last lines of a step: whether it was in the cache, and what it came to."""
        cached = done.cached if done is not None else step.known and step.stage not in self._anew
        if not cached:
            self._anew.add(step.stage)
        result = _short((done.result if done is not None else "") or step.vertex or step.line)
        lines = [self._stream(f" ---> {result}\n")] if result else []
        if cached and not step.text.upper().startswith("FROM "):
            lines.insert(0, self._stream(" ---> Using cache\n"))
        return lines

    def _end(self, built: Built) -> Iterator[bytes]:
        yield msgspec.json.encode({"aux": {"ID": built.image}}) + b"\r\n"
        short = _short(built.image)
        if self._quiet:
            yield self._stream(f"{built.image}\n")
            return
        yield self._stream(f"Successfully built {short}\n")
        for name in built.names:
            yield self._stream(f"Successfully tagged {_tagged(name)}\n")

    def _shown(self, lines: list[bytes]) -> Iterator[bytes]:
        if not self._quiet:
            yield from lines

    def _stream(self, text: str) -> bytes:
        return msgspec.json.encode({"stream": text}) + b"\r\n"


def _classic(error: BuildFailed) -> str:
    """The classic builder's sentence for a failure, where scripts know it."""
    keyword = error.instruction.partition(" ")[0].upper()
    missing = _MISSING.fullmatch(error.message)
    if missing is not None and keyword in ("COPY", "ADD"):
        name = missing[1].lstrip("/")
        return f"{keyword} failed: file not found in build context or excluded by .dockerignore: stat {name}: file does not exist"
    return error.message


_MISSING = re.compile(r'"([^"]*)": not found')


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12] or digest[:12]


def _tagged(name: str) -> str:
    from carrack.oci.reference import Reference

    return Reference.parse(name).with_default_tag().familiar
