"""What a build tells while it runs, as values in BuildKit's sense: vertices, their states, statuses, logs and warnings.

The transport decides how they look: api/build.py makes Docker's classic stream of them, or one JSON event per line for the display
of `carrack build`; BuildKit's gRPC would send the same as its SolveStatus.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec


class _Event(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="event"):
    pass


class PlannedStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """One instruction in file order: what the classic builder prints after ``Step n/m :``, and the vertex that carries it out.

    ``vertex`` is "" for an instruction that touches no file; then ``line`` names it and all before it, down to the base image.
    """

    text: str
    vertex: str = ""
    stage: str = ""
    line: str = ""
    known: bool = False
    """For an instruction that touches no file: the same was built before."""


class Planned(_Event, frozen=True, tag="planned"):
    """The instructions that will be carried out, once they are known."""

    steps: tuple[PlannedStep, ...]


class Opening(_Event, frozen=True, tag="opening"):
    """The first instruction, and how many there will be as far as the file says: told before any image is looked for."""

    text: str
    total: int


class VertexStarted(_Event, frozen=True, tag="started"):
    """A step is being worked on. Told again, with `cached`, when it needed no work."""

    vertex: str
    """The digest of its definition."""
    name: str
    """As the display shows it: ``[build 2/5] RUN make``."""
    started_nanoseconds: int
    inputs: tuple[str, ...] = ()
    stage: str = ""


class VertexCompleted(_Event, frozen=True, tag="completed"):
    """A step's end. `error` is for people; `cached`: its result was known."""

    vertex: str
    completed_nanoseconds: int
    cached: bool = False
    error: str = ""
    result: str = ""
    """The layer or image the step ends with, for displays that show one."""


class VertexStatus(_Event, frozen=True, tag="status"):
    """How far a part of a step is: ``current`` of ``total`` (0: unknown), in bytes unless the id says otherwise."""

    vertex: str
    id: str
    text: str = ""
    current: int = 0
    total: int = 0
    completed: bool = False


class VertexLog(_Event, frozen=True, tag="log"):
    """Output of a step; `stream` 1 or 2."""

    vertex: str
    stream: int
    data: bytes
    moment_nanoseconds: int = 0


class VertexMiss(_Event, frozen=True, tag="miss"):
    """`--explain`: why a step was not taken from the cache, naming the first input that differed."""

    vertex: str
    reason: str


class Answered(_Event, frozen=True, tag="answer"):
    """What a method of the front end gave (``--call``), as BuildKit's document."""

    document: dict[str, object]


class Warned(_Event, frozen=True, tag="warning"):
    """A lint warning or advice, with its place in the Dockerfile; `source` shows the lines around it."""

    rule: str
    message: str
    url: str = ""
    file: str = ""
    line: int = 0
    detail: tuple[str, ...] = ()
    last_line: int = 0
    source: str = ""


class Told(_Event, frozen=True, tag="told"):
    """A line about the whole build."""

    text: str


class Built(_Event, frozen=True, tag="built"):
    """The build's outcome: the image's id and manifest, its names, the metadata file's content."""

    image: str = ""
    names: tuple[str, ...] = ()
    metadata: dict[str, object] = {}


class Failed(_Event, frozen=True, tag="failed"):
    """The build's failure, once, last. `source` shows the Dockerfile's lines around it."""

    message: str
    code: int = 0
    source: str = ""
    vertex: str = ""


Event = (
    Opening
    | Planned
    | VertexStarted
    | VertexCompleted
    | VertexStatus
    | VertexLog
    | VertexMiss
    | Answered
    | Warned
    | Told
    | Built
    | Failed
)
Tell = Callable[[Event], None]
"""Takes an event from any thread; never blocks for long."""
