"""What `--chmod` asks for: an octal number, or chmod(1)'s symbolic form, as a change that gives each file its mode."""

from __future__ import annotations

import re
from collections.abc import Callable

from carrack.errors import InvalidParameter

_CLAUSE = re.compile(r"([ugoa]*)((?:[+\-=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([+\-=])([ugo]|[rwxXst]*)")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_OCTAL_LIMIT = 0o7777

ModeChange = Callable[[int, bool], int]
"""(permission bits, whether it is a directory) → permission bits."""


def parse_mode(text: str) -> ModeChange:
    """Read a mode. Raises InvalidParameter."""
    if re.fullmatch(r"[0-9]+", text):
        try:
            number = int(text, 8)
        except ValueError:
            number = _OCTAL_LIMIT + 1
        if number > _OCTAL_LIMIT:
            raise InvalidParameter(f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777")
        return lambda mode, is_directory: number
    actions: list[tuple[str, str, str]] = []
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise InvalidParameter(f"invalid chmod parameter: '{text}'. it should be an octal number or a symbolic mode")
        who = match[1] or "a"
        actions += [(who.replace("a", "ugo"), sign, what) for sign, what in _ACTION.findall(match[2])]
    return lambda mode, is_directory: _changed(mode, is_directory, actions)


def _changed(mode: int, is_directory: bool, actions: list[tuple[str, str, str]]) -> int:
    for who, sign, what in actions:
        bits = _bits(mode, is_directory, who, what)
        if sign == "+":
            mode |= bits
        elif sign == "-":
            mode &= ~bits
        else:
            cleared = sum(0o7 << _SHIFTS[each] for each in set(who))
            cleared |= (0o4000 if "u" in who else 0) | (0o2000 if "g" in who else 0) | (0o1000 if set(who) == set("ugo") else 0)
            mode = mode & ~cleared | bits
    return mode


def _bits(mode: int, is_directory: bool, who: str, what: str) -> int:
    """The bits that an action speaks of. A letter of u, g, o copies what that class has."""
    if what in _SHIFTS:
        permissions = mode >> _SHIFTS[what] & 0o7
        return sum(permissions << _SHIFTS[each] for each in set(who))
    permissions = (4 if "r" in what else 0) | (2 if "w" in what else 0)
    if "x" in what or ("X" in what and (is_directory or mode & 0o111)):
        permissions |= 1
    bits = sum(permissions << _SHIFTS[each] for each in set(who))
    if "s" in what:
        bits |= (0o4000 if "u" in who else 0) | (0o2000 if "g" in who else 0)
    if "t" in what:
        bits |= 0o1000
    return bits
