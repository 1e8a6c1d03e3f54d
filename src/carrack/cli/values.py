"""The types of flag values and how each reads its text: Go's rules and texts, since scripts rely on both.

A reader takes the text after a flag and returns the value, or raises ValueError whose text completes Docker's
`invalid argument "…" for "…" flag: …`. Types that collect (list, map, filter, …) get their texts one at a time.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))


def go_quote(text: str) -> str:
    """Go's %q: a double-quoted literal with escapes."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    names = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v", '"': '\\"', "\\": "\\\\"}
    pieces = []
    for character in text:
        code = ord(character)
        if character in names:
            pieces.append(names[character])
        elif 0xDC80 <= code <= 0xDCFF:  # an undecodable byte kept by surrogateescape
            pieces.append(f"\\x{code - 0xDC00:02x}")
        elif character.isprintable():
            pieces.append(character)
        elif code < 0x80:
            pieces.append(f"\\x{code:02x}")
        else:
            pieces.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(pieces) + '"'


def read_bool(text: str) -> bool:
    """Go's strconv.ParseBool."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"strconv.ParseBool: parsing {go_quote(text)}: invalid syntax")


def _read_number(text: str, name: str, bits: int, *, signed: bool) -> int:
    sign = text[:1] if text[:1] in ("+", "-") and signed else ""
    digits = text[len(sign) :]
    bases = {"0x": 16, "0b": 2, "0o": 8}
    base = bases.get(digits[:2].lower(), 8 if len(digits) > 1 and digits[0] == "0" else 10)
    try:
        if not digits or not digits.isascii() or digits[0] in "+-_" or digits.endswith("_") or " " in digits:
            raise ValueError
        value = int(digits, base)
    except ValueError:
        raise ValueError(f"strconv.{name}: parsing {go_quote(text)}: invalid syntax") from None
    value = -value if sign == "-" else value
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if not low <= value <= high:
        raise ValueError(f"strconv.{name}: parsing {go_quote(text)}: value out of range")
    return value


def read_int(text: str) -> int:
    """A signed 64-bit number, decimal, 0x, 0o, 0b or with a leading 0."""
    return _read_number(text, "ParseInt", 64, signed=True)


def read_uint(text: str) -> int:
    """An unsigned 64-bit number."""
    return _read_number(text, "ParseUint", 64, signed=False)


def read_uint16(text: str) -> int:
    """An unsigned 16-bit number."""
    return _read_number(text, "ParseUint", 16, signed=False)


def read_uint32(text: str) -> int:
    """An unsigned 32-bit number."""
    return _read_number(text, "ParseUint", 32, signed=False)


def read_float(text: str) -> float:
    """A 64-bit floating-point number."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"strconv.ParseFloat: parsing {go_quote(text)}: invalid syntax") from None


_BINARY_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}


def read_bytes(text: str) -> int:
    """A size with a binary unit (`512m`, `1.5GiB`), in bytes."""
    end = max([text.rfind(character) for character in "01234567890. "])
    if end == -1:
        raise ValueError(f"invalid size: '{text}'")
    number, suffix = text[: end + 1], text[end + 1 :]
    if text[end] == " ":
        number = text[:end]
    try:
        if number.strip() != number:
            raise ValueError
        size = float(number)
    except ValueError:
        raise ValueError(f"strconv.ParseFloat: parsing {go_quote(number)}: invalid syntax") from None
    if size < 0:
        raise ValueError(f"invalid size: '{text}'")
    unit = suffix.lower()
    if unit not in ("", "b"):
        factor = _BINARY_UNITS.get(unit[0])
        if factor is None or unit[1:] not in ("", "b", "ib"):
            raise ValueError(f"invalid suffix: '{suffix}'")
        size *= factor
    return int(size) if size < 1 << 63 else -(1 << 63)  # what Go makes of too large a number


def read_swap_bytes(text: str) -> int:
    """A size, or -1 for no limit."""
    return -1 if text == "-1" else read_bytes(text)


def read_decimal(text: str) -> int:
    """A number of CPUs as billionths, without rounding."""
    body = text.lstrip("+-")
    whole, _, fraction = body.partition(".")
    numerator, slash, denominator = body.partition("/")
    if slash and numerator.isdigit() and denominator.isdigit() and int(denominator):
        value, rest = divmod(int(numerator) * 10**9, int(denominator))
        if rest:
            raise ValueError("value is too precise")
    elif (whole + fraction).isdigit() and (whole + fraction).isascii():
        if fraction[9:].strip("0"):
            raise ValueError("value is too precise")
        value = int(whole or "0") * 10**9 + int((fraction + "000000000")[:9])
    else:
        raise ValueError(f"failed to parse {text} as a rational number")
    return -value if text.startswith("-") else value


_DURATION_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def read_duration(text: str) -> int:
    """Go's time.ParseDuration (`1h15m30.918s`), in nanoseconds."""
    rest = text[1:] if text[:1] in ("+", "-") else text
    if rest == "0":
        return 0
    total = 0
    if not rest:
        raise ValueError(f"time: invalid duration {go_quote(text)}")
    while rest:
        length = len(rest) - len(rest.lstrip("0123456789."))
        number, rest = rest[:length], rest[length:]
        if not number.strip(".") or number.count(".") > 1:
            raise ValueError(f"time: invalid duration {go_quote(text)}")
        letters = 0
        while letters < len(rest) and rest[letters] not in "0123456789.":
            letters += 1
        unit, rest = rest[:letters], rest[letters:]
        if not unit:
            raise ValueError(f"time: missing unit in duration {go_quote(text)}")
        if unit not in _DURATION_UNITS:
            raise ValueError(f"time: unknown unit {go_quote(unit)} in duration {go_quote(text)}")
        whole, _, fraction = number.partition(".")
        total += int(whole or "0") * _DURATION_UNITS[unit]
        total += int(fraction or "0") * _DURATION_UNITS[unit] // 10 ** len(fraction)
    return -total if text.startswith("-") else total


def read_filter(text: str) -> tuple[str, str]:
    """`name=value` of --filter; the name in small letters."""
    if "=" not in text:
        raise ValueError("bad format of filter (expected name=value)")
    name, _, value = text.partition("=")
    return name.strip().lower(), value.strip()


def read_pair(text: str) -> tuple[str, str]:
    """`key=value`, or a key alone with an empty value."""
    key, _, value = text.partition("=")
    return key, value


def split_csv(text: str) -> list[str]:
    """One line of comma-separated values as Go's encoding/csv reads it, quotes included."""
    if not text:
        return []
    if '"' not in text:
        return text.split(",")
    fields: list[str] = []
    position = 0
    while True:
        if text.startswith('"', position):
            field, position = _quoted_field(text, position + 1)
        else:
            end = text.find(",", position)
            end = len(text) if end == -1 else end
            field, position = text[position:end], end
            if '"' in field:
                raise ValueError(f'parse error on line 1, column {text.index(chr(34)) + 1}: bare " in non-quoted-field')
        fields.append(field)
        if position >= len(text):
            return fields
        position += 1


def _quoted_field(text: str, position: int) -> tuple[str, int]:
    pieces: list[str] = []
    while True:
        end = text.find('"', position)
        if end == -1:
            raise ValueError(f'parse error on line 1, column {len(text) + 1}: extraneous or missing " in quoted-field')
        pieces.append(text[position:end])
        if text.startswith('""', end):
            pieces.append('"')
            position = end + 2
        elif end + 1 == len(text) or text[end + 1] == ",":
            return "".join(pieces), end + 1
        else:
            raise ValueError(f'parse error on line 1, column {end + 1}: extraneous or missing " in quoted-field')


def read_ulimit(text: str) -> dict[str, Any]:
    """`name=soft[:hard]` as the API's Ulimit."""
    name, equals, limits = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in _ULIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    numbers = limits.split(":")
    if len(numbers) > 2:
        raise ValueError(f"too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`")
    hard = read_int(numbers[-1])
    soft = read_int(numbers[0])
    if hard != -1 and (soft == -1 or soft > hard):
        shown = "-1 (unlimited)" if soft == -1 else str(soft)
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {shown} > {hard}")
    return {"Name": name, "Hard": hard, "Soft": soft}


_ULIMITS = frozenset(
    (
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    )
)

READERS: dict[str, Callable[[str], Any]] = {
    "bool": read_bool,
    "bytes": read_bytes,
    "decimal": read_decimal,
    "duration": read_duration,
    "filter": read_filter,
    "float": read_float,
    "int": read_int,
    "map": read_pair,
    "stringToString": read_pair,
    "uint": read_uint,
    "uint16": read_uint16,
    "uint32": read_uint32,
    "ulimit": read_ulimit,
}
"""The readers of types that have one; every other type keeps the text."""

COLLECTING = frozenset(
    (
        "list",
        "map",
        "filter",
        "strings",
        "ulimit",
        "mount",
        "network",
        "gpu-request",
        "stringToString",
        "ipNetSlice",
        "external-ca",
        "config",
        "secret",
        "pref",
        "port",
    )
)
"""Types whose flag may be given again, each adding to the ones before."""

ZERO: dict[str, Any] = {
    "bool": False,
    "bytes": 0,
    "decimal": 0,
    "duration": 0,
    "float": 0.0,
    "int": 0,
    "uint": 0,
    "uint16": 0,
    "uint32": 0,
}
"""The value of a flag nobody gave; an empty text for the types not listed."""
