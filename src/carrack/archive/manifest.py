"""A context's manifest: what a client has, told without any content, so that only what changed must travel.

For each entry three fields, each ended by NUL: the facts ``kind mode size mtime ctime`` (mode octal, times in nanoseconds), the
path from the context's root, the link's target (or nothing). Folders precede what is in them. `kind` is ``f`` for a file, ``d`` for
a folder, ``l`` for a symbolic link, ``o`` for anything else, which then always travels.

A file whose facts are those of the last time is the same file: the time of its last change (ctime) is among them, which no program
can set back, so that this is as exact as comparing bytes, in all but a file system with coarse times.
"""

from __future__ import annotations

from dataclasses import dataclass

from carrack.archive.header import PATH_LIMIT_BYTES, shown
from carrack.errors import InvalidParameter

ENTRIES_LIMIT = 2_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """What a manifest says about one path. `facts` are its words as they came, `target` a link's."""

    facts: bytes
    target: bytes

    @property
    def kind(self) -> bytes:
        return self.facts[:1]

    @property
    def mode(self) -> int:
        return int(self.facts.split(b" ")[1], 8) & 0o7777

    @property
    def size(self) -> int:
        return int(self.facts.split(b" ")[2])

    @property
    def mtime_ns(self) -> int:
        return int(self.facts.split(b" ")[3])


def parse_manifest(content: bytes) -> dict[bytes, Line]:
    """Path → line, in the manifest's order. Raises InvalidParameter for paths that leave the context or are given twice."""
    fields = content.split(b"\0")
    if fields.pop() or len(fields) % 3:
        raise InvalidParameter("invalid manifest: cut off")
    if len(fields) > 3 * ENTRIES_LIMIT:
        raise InvalidParameter("invalid manifest: too many files")
    lines = {path: Line(facts, target) for facts, path, target in zip(fields[0::3], fields[1::3], fields[2::3], strict=True)}
    if len(lines) != len(fields) // 3:
        raise InvalidParameter("invalid manifest: a path is given twice")
    for path, line in lines.items():
        _check(path, line, lines)
    return lines


def missing(old: dict[bytes, Line], new: dict[bytes, Line]) -> list[int]:
    """Which entries of `new`, by their place in it, must travel to whoever has `old`."""
    return [
        number
        for number, (path, line) in enumerate(new.items())
        if line.kind == b"o" or (line.kind == b"f" and old.get(path) != line)
    ]


def _check(path: bytes, line: Line, lines: dict[bytes, Line]) -> None:
    words = line.facts.split(b" ")
    if len(words) != 5 or words[0] not in (b"f", b"d", b"l", b"o") or not all(word.lstrip(b"-").isdigit() for word in words[1:]):
        raise InvalidParameter(f"invalid manifest: {shown(path)}: malformed facts")
    try:
        int(words[1], 8)
    except ValueError:
        raise InvalidParameter(f"invalid manifest: {shown(path)}: malformed facts") from None
    if len(path) > PATH_LIMIT_BYTES or (words[0] == b"l") != bool(line.target):
        raise InvalidParameter(f"invalid manifest: {shown(path)}: malformed")
    parent, slash, name = path.rpartition(b"/")
    if name in (b"", b".", b"..") or (slash and not parent):
        raise InvalidParameter(f"invalid manifest: {shown(path)}: not a path inside the context")
    if parent and (parent not in lines or lines[parent].kind != b"d"):
        raise InvalidParameter(f"invalid manifest: {shown(path)}: its folder is not told before it")
