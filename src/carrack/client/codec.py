"""JSON at the speed a short command needs: the C scanner and encoder of the standard library without the `json` package.

Importing `json` costs about 5 ms of a 15 ms command because it pulls `re` in; the C parts (`_json`) cost nothing. They are an
implementation detail of CPython, so when they are missing or changed the `json` package takes over with the same results.
Encoding follows Go's `encoding/json` (compact, characters outside ASCII left as they are, `<`, `>` and `&` optionally escaped),
because that is what the Engine API's other clients send and what the `json` template function must print.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_WHITESPACE = " \t\r\n"


class _ScannerSettings:
    """What `json.JSONDecoder` would hand to its scanner."""

    strict = False
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}  # noqa: RUF012


def _make_scan() -> Callable[[str, int], tuple[Any, int]]:
    try:
        from _json import make_scanner

        scan: Callable[[str, int], tuple[Any, int]] = make_scanner(_ScannerSettings())  # type: ignore[arg-type]
        scan('{"a": [1]}', 0)
    except (ImportError, TypeError, AttributeError):
        from json import JSONDecoder

        scan = JSONDecoder(strict=False).scan_once  # type: ignore[attr-defined]
    return scan


_scan = _make_scan()


def decode(data: bytes | str) -> Any:
    """The value one JSON document stands for. Raises ValueError when it is not exactly one document."""
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    start = skip_whitespace(text, 0)
    try:
        value, end = _scan(text, start)
    except StopIteration as stop:
        raise ValueError(f"invalid JSON at character {stop.value}") from None
    if skip_whitespace(text, end) != len(text):
        raise ValueError(f"invalid JSON: more text after the value at character {end}")
    return value


def skip_whitespace(text: str, position: int) -> int:
    """The index of the first character at or after `position` that JSON does not ignore."""
    length = len(text)
    while position < length and text[position] in _WHITESPACE:
        position += 1
    return position


class DocumentReader:
    """Cuts a stream of JSON documents (events, pull progress) into values, however the bytes happen to arrive."""

    def __init__(self) -> None:
        self._waiting = b""

    def feed(self, data: bytes) -> list[Any]:
        """Take what arrived; return the documents it completed, perhaps none."""
        self._waiting += data
        if b"}" not in data and b"]" not in data:
            return []
        # surrogateescape keeps a character cut in half at the end of the buffer intact for the next round
        text = self._waiting.decode("utf-8", "surrogateescape")
        documents: list[Any] = []
        position = 0
        while True:
            position = skip_whitespace(text, position)
            if position == len(text):
                break
            try:
                value, position = _scan(text, position)
            except (StopIteration, ValueError):
                break
            documents.append(value)
        self._waiting = text[position:].encode("utf-8", "surrogateescape")
        return documents

    @property
    def unfinished(self) -> bytes:
        """What is left of a document that has not ended."""
        return self._waiting


_SHORT_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}


def quote(text: str, *, escape_html: bool = False) -> str:
    """A JSON string literal as Go writes it."""
    plain = text.isascii() and text.isprintable() and '"' not in text and "\\" not in text
    if plain and not (escape_html and ("<" in text or ">" in text or "&" in text)):
        return f'"{text}"'
    pieces = ['"']
    for character in text:
        short = _SHORT_ESCAPES.get(character)
        if short is not None:
            pieces.append(short)
        elif character < " " or character in "\u2028\u2029" or (escape_html and character in "<>&"):
            pieces.append(f"\\u{ord(character):04x}")
        elif "\ud800" <= character <= "\udfff":
            pieces.append("\ufffd")
        else:
            pieces.append(character)
    pieces.append('"')
    return "".join(pieces)


def encode(value: Any, *, escape_html: bool = False, sort: bool = False) -> str:
    """A value as compact JSON; `sort` orders keys as Go does for maps. Raises TypeError for what JSON cannot say."""
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return quote(value, escape_html=escape_html)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return format_float(value)
    if isinstance(value, dict):
        keys = sorted(value) if sort else value
        items = [
            quote(str(key), escape_html=escape_html) + ":" + encode(value[key], escape_html=escape_html, sort=sort) for key in keys
        ]
        return "{" + ",".join(items) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join([encode(item, escape_html=escape_html, sort=sort) for item in value]) + "]"
    raise TypeError(f"{type(value).__name__} has no JSON form")


def format_float(value: float) -> str:
    """A number as Go's encoder writes it: no exponent between 1e-6 and 1e21, no trailing `.0`."""
    if not float("-inf") < value < float("inf"):
        raise TypeError("NaN and infinity have no JSON form")
    if value == int(value) and abs(value) < 1e21:
        return str(int(value))
    text = repr(value)
    if "e" in text and 1e-6 <= abs(value) < 1e21:
        return f"{value:.20f}".rstrip("0")
    if "e" in text:
        mantissa, exponent = text.split("e")
        sign = exponent[0] if exponent[0] in "+-" else "+"
        digits = exponent.lstrip("+-").lstrip("0")
        return f"{mantissa}e{sign}{digits.rjust(1, '0')}" if sign == "-" else f"{mantissa}e+{digits}"
    return text
