"""Variable expansion: quotes, escapes, `$name` and every `${…}` form of the Dockerfile reference ("Environment replacement").

`Expansion.word` gives one string, `Expansion.words` divides the result at blanks that came from no quotes. A `Lookup` says what a
variable is worth, None meaning unset. Both the depth of `${a:-${b:-…}}` and the size of a result are bounded, so no input takes
more than its share of stack or memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from carrack.build.dockerfile import shell_pattern
from carrack.build.dockerfile.failure import Fault
from carrack.build.dockerfile.words import SPACES

Lookup: TypeAlias = Callable[[str], str | None]

_DEPTH = 64
_SIZE = 4 << 20
_SPECIAL = "@*#?-$!0"


@dataclass(frozen=True, slots=True)
class Expanded:
    """A result: the string, the words it divides into, the variables that were found and those that were not."""

    text: str
    words: tuple[str, ...]
    found: frozenset[str]
    missing: frozenset[str]


@dataclass(frozen=True, slots=True)
class Expansion:
    """How to expand: the escape character, and what is left as it was written."""

    lookup: Lookup
    escape: str = "\\"
    keep_quotes: bool = False
    """Quotes still group, but stay in the result."""
    keep_escapes: bool = False
    keep_unset: bool = False
    """An unset variable stays as written."""
    ignore_quotes: bool = False
    """Quotes are characters like any other: the content of a heredoc."""

    def expand(self, source: str) -> Expanded:
        """Expand `source`. Raises Fault for an open quote, an open or malformed `${`, and where `${x:?…}` demands it."""
        reader = _Reader(source, self)
        try:
            text, words = reader.run("", self.keep_escapes)
        except Fault as fault:
            word = fault.word or source.partition("\n")[0]
            raise Fault(f'failed to process "{source[:200]}": {fault.message}', word) from None
        return Expanded(text, tuple(words), frozenset(reader.found), frozenset(reader.missing))

    def word(self, source: str) -> str:
        """The expanded string. Raises as `expand`."""
        return self.expand(source).text

    def words(self, source: str) -> tuple[str, ...]:
        """The expanded words. Raises as `expand`."""
        return self.expand(source).words


def variables(values: Mapping[str, str]) -> Lookup:
    """The lookup that reads a mapping."""
    return values.get


@dataclass(slots=True)
class _Words:
    """Words while they are collected: blanks divide, unless they come from quotes or escapes."""

    done: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)

    def raw(self, text: str) -> None:
        if text:
            self.current.append(text)

    def divided(self, text: str) -> None:
        for character in text:
            if character not in SPACES:
                self.current.append(character)
            elif self.current:
                self.end()

    def end(self) -> list[str]:
        if self.current:
            self.done.append("".join(self.current))
            self.current.clear()
        return self.done


class _Reader:
    """One pass over one source text."""

    def __init__(self, source: str, rules: Expansion) -> None:
        self.source = source
        self.rules = rules
        self.position = 0
        self.depth = 0
        self.size = 0
        self.found: set[str] = set()
        self.missing: set[str] = set()
        self.keep_escapes = rules.keep_escapes

    def peek(self) -> str:
        return self.source[self.position : self.position + 1]

    def next(self) -> str:
        character = self.peek()
        self.position += 1
        return character

    def run(self, stop: str, keep_escapes: bool) -> tuple[str, list[str]]:
        """Up to the character `stop`, which is consumed, or to the end when `stop` is empty."""
        if self.depth > _DEPTH:
            raise Fault("syntax error: substitutions are nested too deeply")
        outer, self.keep_escapes = self.keep_escapes, keep_escapes
        self.depth += 1
        try:
            return self._run(stop)
        finally:
            self.depth -= 1
            self.keep_escapes = outer

    def _run(self, stop: str) -> tuple[str, list[str]]:
        result: list[str] = []
        words = _Words()
        while character := self.peek():
            if character == stop:
                self.position += 1
                return "".join(result), words.end()
            if character == "$":
                text = self.dollar()
                words.divided(text)
            elif character == "<":
                text = self.less()
                words.raw(text)
            elif character in "'\"" and not self.rules.ignore_quotes:
                text = self.single() if character == "'" else self.double()
                words.raw(text)
            elif character == self.rules.escape:
                text = self.escaped()
                words.raw(text)
            else:
                self.position += 1
                text = character
                words.divided(text)
            result.append(text)
        if stop:
            raise Fault(f"unexpected end of statement while looking for matching {stop}")
        return "".join(result), words.end()

    def escaped(self) -> str:
        kept = self.next() if self.keep_escapes else ""
        if not kept:
            self.position += 1
        return kept + self.next()

    def less(self) -> str:
        """`<`, or `<<` with the blanks behind it, which belong to a heredoc's word."""
        start = self.position
        self.position += 1
        if self.peek() == "<":
            self.position += 1
            while self.peek() and self.peek() in "\t\r ":
                self.position += 1
        return self.source[start : self.position]

    def single(self) -> str:
        end = self.source.find("'", self.position + 1)
        if end < 0:
            self.position = len(self.source)
            raise Fault("unexpected end of statement while looking for matching single-quote")
        inside = self.source[self.position + 1 : end]
        self.position = end + 1
        return f"'{inside}'" if self.rules.keep_quotes else inside

    def double(self) -> str:
        mark = '"' if self.rules.keep_quotes else ""
        self.position += 1
        result = [mark]
        while character := self.peek():
            if character == "$":
                result.append(self.dollar())
                continue
            self.position += 1
            if character == '"':
                result.append(mark)
                return "".join(result)
            if character != self.rules.escape:
                result.append(character)
                continue
            if self.keep_escapes:
                result.append(character)
            following = self.peek()
            if following and following in f'"${self.rules.escape}':
                result.append(self.next())
            elif following:
                result.append(character)
        raise Fault("unexpected end of statement while looking for matching double-quote")

    def name(self) -> str:
        """A variable's name, a row of digits, or one special character; "" when none stands here."""
        start = self.position
        first = self.peek()
        if first.isdecimal():
            while self.peek().isdecimal():
                self.position += 1
        elif first and first in _SPECIAL:
            self.position += 1
        else:
            while (character := self.peek()) and (character.isalpha() or character.isdecimal() or character == "_"):
                self.position += 1
        return self.source[start : self.position]

    def value(self, name: str) -> str | None:
        value = self.rules.lookup(name)
        (self.missing if value is None else self.found).add(name)
        self.grow(value or "")
        return value

    def grow(self, text: str) -> None:
        self.size += len(text)
        if self.size > _SIZE:
            raise Fault(f"expansion result is larger than {_SIZE >> 20} MiB")

    def dollar(self) -> str:
        self.position += 1
        if self.peek() != "{":
            name = self.name()
            if not name:
                return "$"
            value = self.value(name)
            return (f"${name}" if self.rules.keep_unset else "") if value is None else value
        self.position += 1
        if not self.peek():
            raise Fault("syntax error: missing '}'")
        if self.peek() in "{}:":
            raise Fault("syntax error: bad substitution")
        return self.braced(self.name())

    def braced(self, name: str) -> str:
        modifier = self.next()
        if modifier == "}":
            value = self.value(name)
            return (f"${{{name}}}" if self.rules.keep_unset else "") if value is None else value
        if modifier == "/":
            return self.replaced(name)
        colon = modifier == ":"
        if colon:
            modifier = self.next()
        trims = modifier in ("#", "%")
        if (colon and trims) or modifier not in ("-", "+", "?", "#", "%"):
            raise Fault(f"unsupported modifier ({':' * colon}{modifier}) in substitution")
        word = self.operand("}", trims)
        value = self.value(name)
        if value is None and self.rules.keep_unset:
            return f"${{{name}{':' * colon}{modifier}{word}}}"
        if trims:
            return _trimmed(value or "", modifier, word)
        return _chosen(name, value, modifier, word, colon)

    def operand(self, stop: str, keep_escapes: bool) -> str:
        try:
            return self.run(stop, keep_escapes)[0]
        except Fault as fault:
            if self.peek() or "too deeply" in fault.message:
                raise
            raise Fault(f"syntax error: missing '{stop}'{' in ${}' if stop == '/' else ''}") from None

    def replaced(self, name: str) -> str:
        every = self.peek() == "/"
        if every:
            self.position += 1
        pattern = self.operand("/", True)
        replacement = self.operand("}", True)
        value = self.value(name)
        if value is None and self.rules.keep_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        if every and len(replacement) * (len(value or "") + 1) > _SIZE:
            raise Fault(f"expansion result may be larger than {_SIZE >> 20} MiB")
        result = shell_pattern.replace(value or "", pattern, replacement, every=every)
        self.grow(result)
        return result


def _trimmed(value: str, modifier: str, pattern: str) -> str:
    longest = pattern.startswith(modifier)
    trim = shell_pattern.trim_prefix if modifier == "#" else shell_pattern.trim_suffix
    return trim(value, pattern[1:] if longest else pattern, longest=longest)


def _chosen(name: str, value: str | None, modifier: str, word: str, colon: bool) -> str:
    absent = value is None or (colon and not value)
    if modifier == "-":
        return word if absent or value is None else value
    if modifier == "+":
        return "" if absent else word
    if absent or value is None:
        fallback = "is not allowed to be unset" if value is None else "is not allowed to be empty"
        raise Fault(f"{name}: {word or fallback}")
    return value
