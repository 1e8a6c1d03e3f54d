"""The flags in front of an instruction's arguments (`--link`, `--chown=…`): which exist, what each takes, refusal of the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from carrack.build.dockerfile.failure import Fault, suggestion


class Takes(Enum):
    """What a flag takes."""

    SWITCH = "switch"
    VALUE = "value"
    VALUES = "values"


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags that were given, values in order."""

    given: Mapping[str, tuple[str, ...]]

    def text(self, name: str, default: str = "") -> str:
        return self.given.get(name, (default,))[-1]

    def texts(self, name: str) -> tuple[str, ...]:
        return self.given.get(name, ())

    def switch(self, name: str) -> bool:
        return self.text(name) == "true"

    def maybe(self, name: str) -> bool | None:
        return self.switch(name) if name in self.given else None


def read_flags(written: tuple[str, ...], known: Mapping[str, Takes]) -> Flags:
    """Read an instruction's flags. Raises Fault for one that is unknown, given twice, lacks its value or has a wrong one."""
    given: dict[str, tuple[str, ...]] = {}
    for flag in written:
        start, equals, value = flag.partition("=")
        name = start[2:]
        takes = known.get(name)
        if takes is None:
            raise Fault(f"unknown flag: {start}{suggestion(name, known)}", start)
        if name in given and takes is not Takes.VALUES:
            raise Fault(f"duplicate flag specified: {start}", start)
        if takes is Takes.SWITCH:
            value = _switch(start, bool(equals), value)
        elif not equals:
            raise Fault(f"missing a value on flag: {start}", start)
        given[name] = (*given.get(name, ()), value)
    return Flags(given)


def _switch(start: str, has_value: bool, value: str) -> str:
    if has_value and not value:
        raise Fault(f"missing a value on flag: {start}", start)
    word = value.lower() or "true"
    if word not in ("true", "false"):
        raise Fault(f"expecting boolean value for flag {start}, not: {value}", start)
    return word
