"""The name under which a step's result is kept: a digest of what it does and of the content of all it reads. Pure.

A key is made of labelled parts, each a digest of its own. A record keeps the parts, so that a miss can name the first one that
differs; no value stands in them, so a build argument's text, or anything else that was meant for one build, is not written down.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from carrack.build.graph import Op, RunOp, plain

FORMAT = "1"
"""Counts up when a step of an older release could have made something else."""


class Part(msgspec.Struct, frozen=True, array_like=True):
    """One thing that a result depends on: what it is, and a digest of it."""

    label: str
    digest: str


@dataclass(frozen=True, slots=True)
class Key:
    """All that a result depends on."""

    parts: tuple[Part, ...]

    @property
    def digest(self) -> str:
        """The key itself."""
        return _digest([FORMAT, *([part.label, part.digest] for part in self.parts)])


def key_of(op: Op, inputs: Sequence[tuple[str, str]]) -> Key:
    """The key of an operation whose inputs have these labels and contents."""
    parts = [Part("kind of step", type(op).__name__)]
    parts += [Part(label, _digest(plain(value))) for label, value in _labelled(op)]
    parts += [Part(label, content) for label, content in inputs]
    return Key(tuple(parts))


def named_key(*parts: str) -> Key:
    """The key of something that is found by its name: a cache mount, a fetched source."""
    return Key(tuple(Part(f"name {number}", _digest(part)) for number, part in enumerate(parts)))


def difference(before: Iterable[Part], after: Iterable[Part]) -> str:
    """The first part that differs, in words."""
    old: Mapping[str, str] = {part.label: part.digest for part in before}
    new = {part.label: part.digest for part in after}
    for label, digest in new.items():
        if label not in old:
            return f"{label} was not there before"
        if old[label] != digest:
            return f"{label} changed"
    for label in old:
        if label not in new:
            return f"{label} is not there any more"
    return "nothing changed, but the earlier result was pruned"


def _labelled(op: Op) -> Iterable[tuple[str, object]]:
    """The parts of a definition; each variable of a RUN by itself."""
    for label, value in op.parts():
        if isinstance(op, RunOp) and label == "environment":
            for entry in op.environment:
                name, _, text = entry.partition("=")
                yield f"variable {name}", text
        elif isinstance(op, RunOp) and label == "arguments":
            yield "the command", value
        else:
            yield label, value


def _digest(value: object) -> str:
    return f"sha256:{hashlib.sha256(msgspec.json.encode(value)).hexdigest()}"
