"""What each version of the API shows of a document, as data: a noun builds its document once, with everything any version knows,
and one table per kind of document says what to leave out.

A path's parts are joined by dots; ``*`` stands for every value of an object or every item of a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from carrack.api.versions import at_least

Document = dict[str, object]


@dataclass(frozen=True, slots=True)
class Field:
    """A field that not every version shows in the same way."""

    path: str
    since: str = ""
    """The first version that has it."""
    gone: str = ""
    """The first version that has it no more."""
    omitted_empty: str = ""
    """The first version that leaves it out when it says nothing: Go's omitempty."""


class Shape:
    """The table of one kind of document."""

    def __init__(self, *fields: Field) -> None:
        self.fields = fields
        self._plans: dict[str, tuple[tuple[tuple[str, ...], bool], ...]] = {}

    def fit(self, document: Document, version: str) -> Document:
        """The same document, with only what this version shows. Changes it in place."""
        plan = self._plans.get(version)
        if plan is None:
            plan = self._plans[version] = tuple(self._plan(version))
        for parts, only_empty in plan:
            _drop(document, parts, only_empty)
        return document

    def _plan(self, version: str) -> Iterator[tuple[tuple[str, ...], bool]]:
        for field in self.fields:
            parts = tuple(field.path.split("."))
            if (field.since and not at_least(version, field.since)) or (field.gone and at_least(version, field.gone)):
                yield parts, False
            elif field.omitted_empty and at_least(version, field.omitted_empty):
                yield parts, True


def fields(names: str, *, inside: str = "", since: str = "", gone: str = "", omitted_empty: str = "") -> Iterator[Field]:
    """The same rule for several fields, named in one line."""
    for name in names.split():
        yield Field(f"{inside}.{name}" if inside else name, since, gone, omitted_empty)


def _drop(place: object, parts: tuple[str, ...], only_empty: bool) -> None:
    first, rest = parts[0], parts[1:]
    if first == "*":
        for item in place.values() if isinstance(place, dict) else cast(list[object], place or ()):
            _drop(item, rest, only_empty)
    elif isinstance(place, dict) and first in place:
        if rest:
            _drop(place[first], rest, only_empty)
        elif not only_empty or not place[first]:
            del place[first]
