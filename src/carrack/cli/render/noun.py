"""What a list shows: a noun declares its fields once, name → (header, function of a row)."""

from __future__ import annotations

from carrack.cli.failure import CommandFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Fields = Mapping[str, tuple[str, Callable[[Any], Any]]]


class Noun:
    """What a list shows. `kind` names the row in error texts; `calls` are fields with arguments (`.Label "x"`), never in JSON."""

    __slots__ = ("calls", "fields", "kind")

    def __init__(self, kind: str, fields: Fields, calls: Mapping[str, Callable[..., Any]] | None = None) -> None:
        self.kind = kind
        self.fields = fields
        self.calls = calls or {}


def refuse(text: str) -> CommandFailure:
    """A template failure as commands report it."""
    return CommandFailure(f"template parsing error: {text}")
