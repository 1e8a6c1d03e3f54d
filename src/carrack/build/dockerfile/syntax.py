"""A Dockerfile's text to its syntax tree: lines joined, comments kept beside what they describe, heredocs attached.

Nothing is judged here beyond shape: a `Statement` is one instruction with its keyword as written, flags, arguments and lines.
`instructions_of` gives them meaning. Source: Dockerfile reference, "Format", "Parser directives", "Here-Documents".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from carrack.build.dockerfile.directives import Directive, DirectiveReader
from carrack.build.dockerfile.failure import NOWHERE, Fault, Position, locate
from carrack.build.dockerfile.heredoc import Heredoc, heredocs_of
from carrack.build.dockerfile.words import BLANKS, SPACES, blank_words, json_words, quoted_words, split_keyword

_LINE_LIMIT = (64 << 10) - 1
_HEREDOC_KEYWORDS = frozenset({"add", "copy", "run"})


@dataclass(frozen=True, slots=True)
class Pair:
    """`name=value` of ENV and LABEL as written; `legacy` is the old form `ENV name value`."""

    name: str
    value: str
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """One instruction as written. ENV and LABEL have `pairs` in place of arguments, ONBUILD has `trigger`."""

    keyword: str
    original: str
    """The whole line, continuations joined."""
    flags: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    json: bool = False
    """The arguments were a JSON array."""
    pairs: tuple[Pair, ...] = ()
    trigger: Statement | None = None
    heredocs: tuple[Heredoc, ...] = ()
    comments: tuple[str, ...] = ()
    """The comment lines right above, without their `#`."""
    position: Position = NOWHERE


@dataclass(frozen=True, slots=True)
class Syntax:
    """A parsed file: its statements in order, its directives, its lines, and the lines where a continuation was empty."""

    statements: tuple[Statement, ...]
    directives: tuple[Directive, ...]
    escape: str
    lines: tuple[str, ...]
    file: str
    empty_continuations: tuple[int, ...] = ()

    def directive(self, name: str) -> str:
        """The value of a directive, "" when it is not there."""
        return next((found.value for found in self.directives if found.name == name), "")


def parse(content: bytes | str, file: str = "Dockerfile") -> Syntax:
    """Read a Dockerfile. Bytes that are no UTF-8 become U+FFFD. Raises DockerfileError."""
    text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
    lines = tuple(re.findall(r"[^\n]*\n|[^\n]+", text.removeprefix("\ufeff")))
    return _Parser(lines, file).run()


@dataclass(slots=True)
class _Parser:
    """One pass over the lines; `number` is how many were read."""

    lines: tuple[str, ...]
    file: str
    number: int = 0
    directives: DirectiveReader = field(default_factory=DirectiveReader)
    comments: list[str] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)

    def run(self) -> Syntax:
        while self.number < len(self.lines):
            start = self.number + 1
            try:
                self.step()
            except Fault as fault:
                raise locate(fault, self.file, self.lines, Position(start, max(start, self.number))) from None
        if not self.statements:
            where = Position(max(1, len(self.lines)), max(1, len(self.lines)))
            raise locate(Fault("file with no instructions"), self.file, self.lines, where)
        return Syntax(
            tuple(self.statements), tuple(self.directives.found), self.directives.escape, self.lines, self.file, tuple(self.empty)
        )

    def take(self) -> str:
        line = self.lines[self.number]
        self.number += 1
        if len(line.encode("utf-8", "replace")) > _LINE_LIMIT:
            raise Fault(f"dockerfile line greater than max allowed size of {_LINE_LIMIT}")
        return line

    def step(self) -> None:
        """One physical line and all that belongs to it."""
        line = self.take().rstrip("\r\n").lstrip(SPACES)
        if self.directives.read(line, self.number) is not None:
            return
        if line.startswith("#"):
            comment = line[1:].strip(SPACES)
            self.comments = [*self.comments, comment] if comment else []
            return
        start = self.number
        line, more = self.continued(line)
        if not more and not line:
            return
        if more:
            line += self.continuation()
        statement = parse_statement(line, self.directives.escape)
        if _takes_heredocs(statement) and "<<" in line:
            statement = replace(statement, heredocs=tuple(self.filled(found) for found in heredocs_of(line)))
        self.statements.append(replace(statement, comments=tuple(self.comments), position=Position(start, self.number)))
        self.comments = []

    def continued(self, line: str) -> tuple[str, bool]:
        """The line without its continuation mark, and whether it had one; a doubled escape at the end is none."""
        escape = self.directives.escape
        bare = line.rstrip(" \t")
        if not bare.endswith(escape) or bare.endswith(escape * 2):
            return line, False
        return bare[:-1], True

    def continuation(self) -> str:
        """The following lines as long as each is continued; comments between vanish, empty lines do not end it."""
        parts: list[str] = []
        empty = False
        while self.number < len(self.lines):
            line = self.take().rstrip("\r\n")
            bare = line.lstrip(SPACES)
            if bare.startswith("#"):
                continue
            if not bare:
                empty = True
                continue
            line, more = self.continued(line)
            parts.append(line)
            if not more:
                break
        if empty:
            self.empty.append(self.number)
        return "".join(parts)

    def filled(self, heredoc: Heredoc) -> Heredoc:
        content: list[str] = []
        while self.number < len(self.lines):
            line = self.take()
            if heredoc.ends_at(line):
                return replace(heredoc, content="".join(content))
            content.append(line)
        raise Fault("unterminated heredoc", f"<<{heredoc.name}")


def parse_statement(line: str, escape: str) -> Statement:
    """One whole instruction, its lines already joined. Raises Fault."""
    return _statement(line, escape, inside=False)


def _statement(line: str, escape: str, *, inside: bool) -> Statement:
    keyword, flags, rest = split_keyword(line, escape)
    bare = Statement(keyword, line, flags)
    if keyword.lower() == "onbuild":
        if not rest or inside:
            return bare
        return replace(bare, trigger=_statement(rest, escape, inside=True))
    shape = _SHAPES.get(keyword.lower())
    return shape(bare, rest, escape) if shape is not None else bare


def _takes_heredocs(statement: Statement) -> bool:
    inner = statement.trigger or statement
    return inner.keyword.lower() in _HEREDOC_KEYWORDS and not inner.json


_Shape: TypeAlias = Callable[[Statement, str, str], Statement]


def _whole(bare: Statement, rest: str, escape: str) -> Statement:
    return replace(bare, arguments=(rest,) if rest else ())


def _json_or_whole(bare: Statement, rest: str, escape: str) -> Statement:
    words = json_words(rest)
    return replace(bare, arguments=words, json=True) if words is not None else _whole(bare, rest, escape)


def _list(bare: Statement, rest: str, escape: str) -> Statement:
    return replace(bare, arguments=blank_words(rest))


def _json_or_list(bare: Statement, rest: str, escape: str) -> Statement:
    words = json_words(rest)
    return replace(bare, arguments=words, json=True) if words is not None else _list(bare, rest, escape)


def _names(bare: Statement, rest: str, escape: str) -> Statement:
    return replace(bare, arguments=quoted_words(rest, escape))


def _pairs(bare: Statement, rest: str, escape: str) -> Statement:
    words = quoted_words(rest, escape)
    if not words:
        return bare
    if "=" not in words[0]:
        parts = BLANKS.split(rest, maxsplit=1)
        if len(parts) < 2:
            raise Fault(f"{bare.keyword.upper()} must have two arguments")
        return replace(bare, pairs=(Pair(parts[0], parts[1], legacy=True),))
    pairs: list[Pair] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise Fault(f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value', word)
        pairs.append(Pair(name, value))
    return replace(bare, pairs=tuple(pairs))


def _health(bare: Statement, rest: str, escape: str) -> Statement:
    kind = re.split(f"[{SPACES}]", rest, maxsplit=1)[0]
    if not kind:
        return bare
    inner = _json_or_whole(bare, rest[len(kind) :].lstrip(SPACES), escape)
    return replace(inner, arguments=(kind, *inner.arguments))


_SHAPES: dict[str, _Shape] = {
    "add": _json_or_list,
    "arg": _names,
    "cmd": _json_or_whole,
    "copy": _json_or_list,
    "entrypoint": _json_or_whole,
    "env": _pairs,
    "expose": _list,
    "from": _list,
    "healthcheck": _health,
    "label": _pairs,
    "maintainer": _whole,
    "run": _json_or_whole,
    "shell": _json_or_whole,
    "stopsignal": _whole,
    "user": _whole,
    "volume": _json_or_list,
    "workdir": _whole,
}
