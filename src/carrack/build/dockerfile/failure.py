"""What is wrong in a Dockerfile, and where: one kind of error that carries file, line, column and the line itself.

The parts of the front end raise `Fault` with a text and, where one is to blame, a word; whoever knows the lines turns it into a
`DockerfileError`. A mistyped name comes with the nearest one that exists, as Docker suggests it: at most two edits away.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from carrack.errors import InvalidParameter

_FAR = 3


@dataclass(frozen=True, slots=True)
class Position:
    """Lines `start` to `end` of a Dockerfile, both counted from 1 and both included."""

    start: int
    end: int


NOWHERE = Position(0, 0)


class Fault(InvalidParameter):
    """Something a Dockerfile cannot mean, its place not yet known; `word` is the text to blame, if one is."""

    def __init__(self, message: str, word: str = "") -> None:
        super().__init__(message)
        self.word = word


class DockerfileError(InvalidParameter):
    """A `Fault` with its place; lines and columns count from 1. `str()` is one line, `render()` shows the source."""

    def __init__(self, reason: str, file: str, position: Position, column: int, source: str) -> None:
        super().__init__(f"{file}:{position.start}: dockerfile parse error on line {position.start}: {reason}")
        self.reason = reason
        self.file = file
        self.position = position
        self.line = position.start
        self.column = column
        self.source = source

    def render(self) -> str:
        """The place, the source line with a mark under the column, and the reason."""
        margin = f"{self.line:4d} | "
        lead = "".join("\t" if character == "\t" else " " for character in self.source[: self.column - 1])
        return f"{self.file}:{self.line}:{self.column}\n{margin}{self.source}\n{' ' * len(margin)}{lead}^\n{self.reason}"


def locate(fault: Fault, file: str, lines: tuple[str, ...], position: Position) -> DockerfileError:
    """Find the fault's word within its lines; without a word the column is that of the first character that is no blank."""
    for number in range(position.start, min(position.end, len(lines)) + 1):
        line = lines[number - 1].rstrip("\r\n")
        column = line.find(fault.word) if fault.word else -1
        if column >= 0:
            return DockerfileError(fault.message, file, Position(number, position.end), column + 1, line)
    line = lines[position.start - 1].rstrip("\r\n") if 0 < position.start <= len(lines) else ""
    column = len(line) - len(line.lstrip()) + 1
    return DockerfileError(fault.message, file, position, column, line)


def nearest(word: str, options: Iterable[str], *, fold: bool = False) -> str:
    """The option at most two edits from `word`, or "" when none is, or when one equals it. `fold`: case does not count."""
    wanted = word.lower() if fold else word
    best, distance = "", _FAR
    for option in options:
        offered = option.lower() if fold else option
        if offered == wanted:
            return ""
        found = _distance(wanted, offered, distance)
        if found < distance:
            best, distance = offered, found
    return best.upper() if fold and word == word.upper() else best


def suggestion(word: str, options: Iterable[str], *, fold: bool = False) -> str:
    """Docker's ` (did you mean X?)`, or nothing."""
    found = nearest(word, options, fold=fold)
    return f" (did you mean {found}?)" if found else ""


def _distance(one: str, other: str, limit: int) -> int:
    """Levenshtein's distance, or `limit` as soon as it cannot be less."""
    if abs(len(one) - len(other)) >= limit:
        return limit
    row = list(range(len(other) + 1))
    for index, character in enumerate(one, 1):
        before, row[0] = row[0], index
        for column, against in enumerate(other, 1):
            before, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, before + (character != against))
        if min(row) >= limit:
            return limit
    return row[-1]
