"""Flags as pflag reads them: `--flag=value`, `--flag value`, clusters, and a bool that takes a value only after `=`.

A command's flags are written as a text table, one line each, because a hundred objects would cost `carrack run` a millisecond
and a table reads better:

    -m, --memory bytes             Memory limit
        --memory-swappiness int=-1 Tune container memory swappiness (0 to 100)
        --net network!             (hidden; the text after `!` may name the flag it stands for: `network!network`)
        --platform string=$VAR     (its default is a variable's value)
        --annotation map@1.43      (needs that API version; `@windows` that system, `@experimental` such a daemon)

Nothing here knows a command. Texts of errors are pflag's own: scripts match them.
"""

from __future__ import annotations

from os import environ

from carrack.cli.failure import FlagError
from carrack.cli.values import COLLECTING, READERS, ZERO, go_quote, split_csv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any


class Flag:
    """One line of a table."""

    __slots__ = ("default", "help", "hidden", "kind", "name", "needs", "same_as", "shorthand")

    def __init__(
        self, shorthand: str, name: str, kind: str, needs: str, default: str, hidden: bool, same_as: str, help_text: str
    ) -> None:
        self.shorthand = shorthand
        self.name = name
        self.kind = kind
        self.needs = needs
        self.default = default
        self.hidden = hidden
        self.same_as = same_as or name
        self.help = help_text

    @property
    def label(self) -> str:
        """How errors name the flag: `-m, --memory`."""
        return f"-{self.shorthand}, --{self.name}" if self.shorthand else f"--{self.name}"


def parse_table(text: str) -> dict[str, Flag]:
    """The flags of a table by name, in the table's order."""
    flags: dict[str, Flag] = {}
    for line in text.splitlines():
        words = line.split(None, 3 if line.lstrip().startswith("-") and line.lstrip()[1:2] != "-" else 2)
        if not words:
            continue
        shorthand = words.pop(0)[1:2] if words[0][1] != "-" else ""
        name = words[0][2:]
        kind, hidden_mark, same_as = words[1].partition("!")
        kind, _, default = kind.partition("=")
        kind, _, needs = kind.partition("@")
        if default.startswith("$"):
            default = environ.get(default[1:], "")
        flags[name] = Flag(shorthand, name, kind, needs, default, bool(hidden_mark), same_as, words[2] if len(words) > 2 else "")
    return flags


class Parsed:
    """What a command line said: its flags' values by name, and its arguments."""

    __slots__ = ("_flags", "_given", "arguments", "help_by_shorthand", "wants_help")

    def __init__(self, flags: Mapping[str, Flag]) -> None:
        self._flags = flags
        self._given: dict[str, Any] = {}
        self.arguments: list[str] = []
        self.wants_help = False
        self.help_by_shorthand = False

    def changed(self, name: str) -> bool:
        """Whether the flag was on the command line, whatever its value."""
        return name in self._given

    @property
    def given_flags(self) -> list[str]:
        """The names of the flags on the command line, in order of name."""
        return sorted(self._given)

    def needing(self) -> list[Flag]:
        """The flags given that not every daemon has, in order of name."""
        return [self._flags[name] for name in sorted(self._given) if name in self._flags and self._flags[name].needs]

    def value(self, name: str) -> Any:
        """The flag's value: what was given, or its default."""
        if name in self._given:
            return self._given[name]
        flag = self._flags[name]
        if flag.kind in COLLECTING:
            return []
        if flag.default:
            reader = READERS.get(flag.kind)
            return reader(flag.default) if reader else flag.default
        return ZERO.get(flag.kind, "")

    def flag(self, name: str) -> bool:
        """A bool flag."""
        return bool(self.value(name))

    def text(self, name: str) -> str:
        """A string flag."""
        return str(self.value(name))

    def number(self, name: str) -> int:
        """A flag of a whole number (int, uint, bytes, decimal, duration)."""
        return int(self.value(name))

    def items(self, name: str) -> list[str]:
        """A list flag, in the order given."""
        return list(self.value(name))

    def pairs(self, name: str) -> dict[str, str]:
        """A map flag; the last of a key wins."""
        return dict(self.value(name))

    def filters(self, name: str = "filter") -> dict[str, list[str]]:
        """A filter flag as the API wants it: name → values."""
        collected: dict[str, list[str]] = {}
        for key, text in self.value(name):
            values = collected.setdefault(key, [])
            if text not in values:
                values.append(text)
        return collected


def parse(
    arguments: Sequence[str],
    flags: Mapping[str, Flag],
    *,
    interspersed: bool = True,
    checks: Mapping[str, Callable[[str], Any]] | None = None,
) -> Parsed:
    """Reads a command line. With `interspersed` false the first argument ends the flags. Raises FlagError with pflag's text."""
    return _Parser(flags, interspersed, checks or {}).parse(list(arguments))


class _Parser:
    def __init__(self, flags: Mapping[str, Flag], interspersed: bool, checks: Mapping[str, Callable[[str], Any]]) -> None:
        self._flags = flags
        self._shorthands = {flag.shorthand: flag for flag in flags.values() if flag.shorthand}
        self._interspersed = interspersed
        self._checks = checks
        self._result = Parsed(flags)

    def parse(self, left: list[str]) -> Parsed:
        result = self._result
        left.reverse()
        while left:
            word = left.pop()
            if len(word) < 2 or word[0] != "-":
                result.arguments.append(word)
                if not self._interspersed:
                    break
            elif word == "--":
                break
            elif word[1] == "-":
                self._long(word, left)
            else:
                self._cluster(word, left)
            if result.wants_help:
                return result
        left.reverse()
        result.arguments.extend(left)
        return result

    def _long(self, word: str, left: list[str]) -> None:
        name, equals, text = word[2:].partition("=")
        if not name or name[0] in "-=":
            raise FlagError(f"bad flag syntax: {word}")
        flag = self._flags.get(name)
        if flag is None:
            if name == "help":
                self._help(text if equals else "true")
                return
            raise FlagError(f"unknown flag: --{name}")
        if equals:
            self._set(flag, text)
        elif flag.kind == "bool":
            self._set(flag, "true")
        elif left:
            self._set(flag, left.pop())
        else:
            raise FlagError(f"flag needs an argument: --{name}")

    def _cluster(self, word: str, left: list[str]) -> None:
        letters = word[1:]
        while letters:
            letter, rest = letters[0], letters[1:]
            flag = self._shorthands.get(letter)
            if flag is None:
                if letter == "h":
                    self._result.help_by_shorthand = True
                    self._help("true")
                    return
                raise FlagError(f"unknown shorthand flag: {_quote_letter(letter)} in -{letters}")
            if len(letters) > 2 and rest.startswith("="):
                self._set(flag, rest[1:])
                return
            if flag.kind == "bool":
                self._set(flag, "true")
                letters = rest
                continue
            if rest:
                self._set(flag, rest)
            elif left:
                self._set(flag, left.pop())
            else:
                raise FlagError(f"flag needs an argument: {_quote_letter(letter)} in -{letters}")
            return

    def _help(self, text: str) -> None:
        try:
            self._result.wants_help = bool(READERS["bool"](text))
        except ValueError as error:
            raise FlagError(f'invalid argument {go_quote(text)} for "--help" flag: {error}') from None

    def _set(self, flag: Flag, text: str) -> None:
        given = self._result._given
        target = flag.same_as
        reader = self._checks.get(flag.name) or self._checks.get(target) or READERS.get(flag.kind)
        try:
            if flag.kind == "strings":
                given.setdefault(target, []).extend(split_csv(text))
                return
            value = reader(text) if reader else text
        except ValueError as error:
            raise FlagError(f"invalid argument {go_quote(text)} for {go_quote(flag.label)} flag: {error}") from None
        if flag.kind in COLLECTING:
            given.setdefault(target, []).append(value)
        else:
            given[target] = value


def _quote_letter(letter: str) -> str:
    return f"'{letter}'"
