"""runc's way with flags: one or two dashes, `--name value` or `--name=value`, a boolean takes a value only after `=`.

Flags may stand behind the positional arguments, except for commands that end in another command line (`exec`, `ps`).
"""

from __future__ import annotations

from typing import NamedTuple


class UsageError(Exception):
    """The command line cannot be understood; the text says why."""


class Flag(NamedTuple):
    """One flag: its long name first, then its short ones. `value` False: a boolean."""

    names: tuple[str, ...]
    value: bool = True
    many: bool = False


def flag(names: str, *, value: bool = True, many: bool = False) -> Flag:
    """``flag("bundle b")``."""
    return Flag(tuple(names.split()), value, many)


class Arguments:
    """What a command line said."""

    def __init__(self) -> None:
        self._values: dict[str, list[str]] = {}
        self.positional: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        """The last value given for a flag."""
        values = self._values.get(name)
        return values[-1] if values else default

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(self._values.get(name, ()))

    def has(self, name: str) -> bool:
        """Whether a flag was given at all."""
        return name in self._values

    def on(self, name: str) -> bool:
        """A boolean's value."""
        return self.text(name, "false").lower() in ("true", "1", "t")

    def number(self, name: str, default: int | None = None) -> int | None:
        """A decimal value. Raises UsageError."""
        if not self.has(name):
            return default
        try:
            return int(self.text(name))
        except ValueError:
            raise UsageError(f'invalid value "{self.text(name)}" for flag -{name}') from None

    def add(self, name: str, value: str) -> None:
        self._values.setdefault(name, []).append(value)


def parse(words: list[str], flags: tuple[Flag, ...], *, stop_at_first: bool = False) -> tuple[Arguments, list[str]]:
    """The flags and positional words of `words`; with `stop_at_first`, everything from the first positional on comes back apart."""
    known = {name: each for each in flags for name in each.names}
    found = Arguments()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            found.positional += rest
            return found, rest
        if not word.startswith("-") or word == "-":
            if stop_at_first:
                return found, [word, *rest]
            found.positional.append(word)
            continue
        name, equals, value = word.lstrip("-").partition("=")
        each = known.get(name)
        if each is None:
            raise UsageError(f"flag provided but not defined: -{name}")
        if not equals:
            if not each.value:
                value = "true"
            elif rest:
                value = rest.pop(0)
            else:
                raise UsageError(f"flag needs an argument: -{name}")
        found.add(each.names[0], value)
    return found, []
