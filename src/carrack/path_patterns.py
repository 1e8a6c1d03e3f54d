"""Patterns that choose files: Go's `filepath.Match`, and `**` for any number of folders; and lists of them, as ignore files have.

The daemon's builder, the confined workers and the command line judge by this one text, so that none of them disagrees.

Rules that follow from Docker's matcher rather than from its manual are kept: a leading `**` before plain text means "ends with", a
trailing one after plain text "begins with". A pattern with many wildcards is matched by walking its states instead of by a regular
expression, so that no pattern and path take more than the product of their lengths. Source: `filepath.Match`, moby/patternmatcher.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from carrack.errors import InvalidParameter

_MANY = 3


class _Wild(Enum):
    STAR = "[^/]*"
    FOLDERS = "(?:.*/)?"
    ALL = ".*"


@dataclass(frozen=True, slots=True)
class _One:
    """One character: a literal or a class, as a regular expression."""

    expression: str


class PathPattern:
    """A compiled pattern without its `!`. Raises InvalidParameter when it is malformed."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        tokens = _tokens(pattern)
        self._prefix = self._suffix = self._exact = None if _special(pattern) else pattern
        body = pattern.removeprefix("**")
        self._suffix = body if body != pattern and not _special(body) else None
        head = pattern.removesuffix("/**") + "/" if pattern.endswith("/**") else pattern.removesuffix("**")
        self._prefix = head if self._suffix is None and pattern.endswith("**") and not _special(head) else None
        self._tokens: list[_Wild | re.Pattern[str]] = []
        self._expression: re.Pattern[str] | None = None
        if sum(isinstance(token, _Wild) for token in tokens) > _MANY:
            self._tokens = [token if isinstance(token, _Wild) else re.compile(token.expression) for token in tokens]
        else:
            parts = (token.value if isinstance(token, _Wild) else token.expression for token in tokens)
            self._expression = re.compile("".join(parts))

    def matches(self, path: str) -> bool:
        """Whether this very path matches; its parents are the caller's business."""
        if self._exact is not None:
            return path == self._exact
        if self._suffix is not None:
            return path.endswith(self._suffix) or (self._suffix.startswith("/") and path == self._suffix[1:])
        if self._prefix is not None:
            return path.startswith(self._prefix)
        if self._expression is not None:
            return self._expression.fullmatch(path) is not None
        return self._walk(path)

    @property
    def literal_beginning(self) -> str:
        """The text before the first character that means something else than itself."""
        return re.split(r"[*?\[\\]", self.pattern, maxsplit=1)[0]

    def _walk(self, path: str) -> bool:
        """All positions of the pattern at once; `(index, inside)` is inside a `**/` that has begun to take characters."""
        states = self._entered({(0, False)})
        for character in path:
            following: set[tuple[int, bool]] = set()
            for index, inside in states:
                if index < len(self._tokens):
                    following |= self._step(index, inside, character)
            states = self._entered(following)
            if not states:
                return False
        return (len(self._tokens), False) in states

    def _step(self, index: int, inside: bool, character: str) -> set[tuple[int, bool]]:
        token = self._tokens[index]
        if token is _Wild.FOLDERS:
            return {(index, True), (index + 1, False)} if character == "/" else {(index, True)}
        if token is _Wild.ALL or (token is _Wild.STAR and character != "/"):
            return {(index, False)}
        if isinstance(token, re.Pattern) and token.fullmatch(character):
            return {(index + 1, False)}
        return set()

    def _entered(self, states: set[tuple[int, bool]]) -> set[tuple[int, bool]]:
        """With every state that needs no character."""
        waiting = list(states)
        while waiting:
            index, inside = waiting.pop()
            if not inside and index < len(self._tokens) and isinstance(self._tokens[index], _Wild):
                following = (index + 1, False)
                if following not in states:
                    states.add(following)
                    waiting.append(following)
        return states


class PathRules:
    """An ordered list of patterns: what each names is left out, `!` in front brings it back, the last that applies decides.

    A folder's verdict holds for what is in it. A walk carries the verdict of the folder it is in (`judge`); a single path is judged
    by `excludes`.
    """

    NONE = -1
    """The verdict that no rule has spoken."""

    def __init__(self, patterns: Iterable[str] = ()) -> None:
        """Patterns as an ignore file's lines hold them, comments and blank lines gone. Raises InvalidParameter."""
        self.rules: list[tuple[PathPattern, bool]] = []
        for text in patterns:
            self.add(text)

    def __bool__(self) -> bool:
        return bool(self.rules)

    def add(self, text: str) -> None:
        """One more rule, the strongest so far. A leading slash means nothing, `..` is resolved. Raises InvalidParameter."""
        brings_back = text.startswith("!")
        pattern = text[1:].strip() if brings_back else text
        if brings_back and not pattern:
            raise InvalidParameter('illegal exclusion pattern: "!"')
        pattern = clean(pattern)
        if len(pattern) > 1:
            pattern = pattern.removeprefix("/")
        self.rules.append((PathPattern(pattern), brings_back))

    @property
    def brings_back(self) -> bool:
        """Whether any rule is an exception, so that a folder left out may hold files that are not."""
        return any(brings_back for _, brings_back in self.rules)

    def judge(self, path: str, inherited: int = NONE) -> int:
        """The verdict on a clean path whose folder's verdict is `inherited`; `leaves_out` reads it."""
        for number in range(len(self.rules) - 1, inherited, -1):
            if self.rules[number][0].matches(path):
                return number
        return inherited

    def leaves_out(self, verdict: int) -> bool:
        """Whether what has this verdict is left out."""
        return verdict >= 0 and not self.rules[verdict][1]

    def excludes(self, path: str) -> bool:
        """Whether a path relative to the root is left out; slashes divide it, the root itself (`.`) never is."""
        parts = clean(path).split("/")
        verdict = self.NONE
        for count in range(1, len(parts) + 1) if parts != ["."] else ():
            verdict = self.judge("/".join(parts[:count]), verdict)
        return self.leaves_out(verdict)

    def may_hold(self, folder: str) -> bool:
        """Whether a folder that is left out can still hold something that an exception brings back: the walk must go in."""
        inside = f"{clean(folder)}/"
        for pattern, brings_back in self.rules:
            beginning = pattern.literal_beginning
            if brings_back and (beginning.startswith(inside) or (beginning != pattern.pattern and inside.startswith(beginning))):
                return True
        return False


def clean(path: str) -> str:
    """Go's `path.Clean`."""
    normal = posixpath.normpath(path)
    return normal[1:] if normal.startswith("//") else normal


def _special(text: str) -> bool:
    return any(character in text for character in "*?[]\\")


def _tokens(pattern: str) -> list[_Wild | _One]:
    tokens: list[_Wild | _One] = []
    position = 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            wild, position = _stars(pattern, position)
            if not tokens or tokens[-1] is not wild:  # two of a kind in a row mean one
                tokens.append(wild)
        elif character == "?":
            tokens.append(_One("[^/]"))
        elif character == "[":
            expression, position = _class(pattern, position)
            tokens.append(_One(expression))
        elif character == "\\":
            if position == len(pattern):
                raise InvalidParameter("syntax error in pattern")
            tokens.append(_One(re.escape(pattern[position])))
            position += 1
        else:
            tokens.append(_One(re.escape(character)))
    return tokens


def _stars(pattern: str, position: int) -> tuple[_Wild, int]:
    if pattern[position : position + 1] != "*":
        return _Wild.STAR, position
    position += 1
    if pattern[position : position + 1] == "/":
        position += 1
    return (_Wild.ALL if position == len(pattern) else _Wild.FOLDERS), position


def _class(pattern: str, position: int) -> tuple[str, int]:
    """`[abc]`, `[^a-z]`: from after the bracket to after its end."""
    negated = pattern[position : position + 1] == "^"
    position += negated
    ranges: list[str] = []
    while True:
        if ranges and pattern[position : position + 1] == "]":
            return f"[{'^/' * negated}{''.join(ranges)}]", position + 1
        low, position = _member(pattern, position)
        high = low
        if pattern[position : position + 1] == "-":
            high, position = _member(pattern, position + 1)
        ranges.append(f"{re.escape(low)}-{re.escape(high)}" if low <= high else "")
        if not ranges[-1]:
            ranges[-1] = "/-/" if negated else "\\0-\\0"  # an empty range matches nothing


def _member(pattern: str, position: int) -> tuple[str, int]:
    character = pattern[position : position + 1]
    if character == "\\":
        position += 1
        character = pattern[position : position + 1]
    elif character in ("-", "]"):
        raise InvalidParameter("syntax error in pattern")
    if not character or position + 1 >= len(pattern):
        raise InvalidParameter("syntax error in pattern")
    return character, position + 1
