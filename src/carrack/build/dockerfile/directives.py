"""Parser directives: `# syntax=`, `# escape=` and `# check=` at the very top of a Dockerfile.

They end at the first line that is none (a blank line and an ordinary comment included); each may stand once (Dockerfile reference,
"Parser directives"). `syntax` is accepted and recorded: the built-in front end serves every Dockerfile.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from carrack.build.dockerfile.failure import Fault
from carrack.build.dockerfile.words import SPACES

_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+)")
_NAMES = frozenset({"syntax", "escape", "check"})
_ESCAPES = ("\\", "`")


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive: its name in small letters, its value, its line."""

    name: str
    value: str
    line: int


class DirectiveReader:
    """Reads the first lines of a file one by one until one is no directive."""

    def __init__(self) -> None:
        self.found: list[Directive] = []
        self._open = True

    @property
    def escape(self) -> str:
        """The character that escapes and continues lines: a backslash unless a directive says a backtick."""
        return next((found.value for found in self.found if found.name == "escape"), "\\")

    def read(self, line: str, number: int) -> Directive | None:
        """Take line `number`. Raises Fault for a directive given twice and for an escape that is neither ``\\`` nor `````."""
        if not self._open:
            return None
        match = _DIRECTIVE.fullmatch(line[1:].strip(SPACES)) if line.startswith("#") else None
        if match is None or match[1].lower() not in _NAMES:
            self._open = False
            return None
        name, value = match[1].lower(), match[2]
        if any(found.name == name for found in self.found):
            raise Fault(f"only one {name} parser directive can be used")
        if name == "escape" and value not in _ESCAPES:
            raise Fault(f"invalid escape token '{value}' does not match ` or \\", value)
        directive = Directive(name, value, number)
        self.found.append(directive)
        return directive
