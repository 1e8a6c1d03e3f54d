"""Header fields and query parameters as they came: ordered, repeatable, read without regard to case (fields) or exactly (query).

Names and values of fields are ISO-8859-1 text (RFC 9110 section 5.5). Query parameters follow the reading of Go's net/url, whose
habits Docker's clients rely on: `+` is a space, a parameter without `=` is empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote_to_bytes

from carrack.errors import InvalidParameter

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}")
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_FALSE = frozenset(("", "0", "no", "false", "none"))


class Headers:
    """A multi-map of header fields."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self._fields = [(name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")) for name, value in fields]

    def get(self, name: str, default: str = "") -> str:
        """The first value of a field."""
        wanted = name.lower()
        for have, value in self._fields:
            if have == wanted:
                return value
        return default

    def all(self, name: str) -> list[str]:
        """Every value of a field, in the order they came."""
        wanted = name.lower()
        return [value for have, value in self._fields if have == wanted]

    def tokens(self, name: str) -> frozenset[str]:
        """The members of a comma-separated field, in small letters: `Connection: Upgrade, close`."""
        return frozenset(token.strip().lower() for value in self.all(name) for token in value.split(",") if token.strip())

    def items(self) -> Iterator[tuple[str, str]]:
        """Names (in small letters) and values, in the order they came."""
        return iter(self._fields)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(have == name.lower() for have, _ in self._fields)


class Query:
    """The parameters after the question mark."""

    __slots__ = ("_parameters",)

    def __init__(self, text: str = "") -> None:
        """Raises InvalidParameter when an escape is broken, in the words of Go's net/url."""
        self._parameters: list[tuple[str, str]] = []
        for pair in text.split("&") if text else ():
            if pair:
                name, _, value = pair.partition("=")
                self._parameters.append((_decode(name), _decode(value)))

    def get(self, name: str, default: str = "") -> str:
        """The first value of a parameter."""
        for have, value in self._parameters:
            if have == name:
                return value
        return default

    def all(self, name: str) -> list[str]:
        """Every value of a parameter."""
        return [value for have, value in self._parameters if have == name]

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean as Docker reads it: absent is the default; empty, 0, no, false and none are false; all else is true."""
        if name not in self:
            return default
        return self.get(name).strip().lower() not in _FALSE

    def integer(self, name: str) -> int | None:
        """A 64-bit integer; None when absent or empty. Raises InvalidParameter in the words of Go's strconv."""
        text = self.get(name)
        if not text:
            return None
        if _INTEGER.fullmatch(text) is None:
            raise InvalidParameter(f'strconv.Atoi: parsing "{text}": invalid syntax')
        value = int(text)
        if not -(1 << 63) <= value < 1 << 63:
            raise InvalidParameter(f'strconv.Atoi: parsing "{text}": value out of range')
        return value

    def items(self) -> Iterator[tuple[str, str]]:
        """Names and values, in the order they came."""
        return iter(self._parameters)

    def __contains__(self, name: object) -> bool:
        return any(have == name for have, _ in self._parameters)


def unescape(text: str) -> str:
    """Undo percent-encoding; bytes that are not UTF-8 are kept as surrogates. Raises InvalidParameter on a broken escape."""
    if "%" not in text:
        return text
    if (broken := _BAD_ESCAPE.search(text)) is not None:
        raise InvalidParameter(f'invalid URL escape "{broken.group()}"')
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape")


def _decode(text: str) -> str:
    return unescape(text.replace("+", " ") if "+" in text else text)
