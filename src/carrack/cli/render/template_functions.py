"""The functions of Go templates (package text/template) and those Docker adds, on JSON's values."""

from __future__ import annotations

from carrack.cli.render.template_parser import Context
from carrack.cli.values import go_quote
from carrack.client.codec import encode, format_float

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def is_true(value: Any) -> bool:
    """Go's truth: anything but false, 0, nil and what is empty."""
    return True if isinstance(value, Context) else bool(value)


def show(value: Any) -> str:
    """Go's %v."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return format_float(value) if abs(value) < 1e21 else f"{value:g}"
    if isinstance(value, dict):
        return "map[" + " ".join([f"{show(key)}:{show(value[key])}" for key in sorted(value)]) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join([show(item) for item in value]) + "]"
    if isinstance(value, Context):
        return value.to_json()
    return str(value)


def to_json(value: Any) -> str:
    """`json`: compact, nothing escaped for HTML."""
    if isinstance(value, Context):
        return value.to_json()
    return encode(value, sort=False)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if value is None:
            raise ValueError("index of nil pointer")
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, (list, tuple, str)):
            if isinstance(key, bool) or not isinstance(key, int):
                raise ValueError(f"cannot index slice/array with type {'string' if isinstance(key, str) else type(key).__name__}")
            if not 0 <= key < len(value):
                raise ValueError(f"index out of range: {key}" if key < 0 else "reflect: slice index out of range")
            value = ord(value[key]) if isinstance(value, str) else value[key]
        else:
            raise ValueError(f"can't index item of type {type(value).__name__}")
    return value


def _slice(value: Any, *bounds: int) -> Any:
    if not isinstance(value, (list, str)):
        raise ValueError(f"can't slice item of type {type(value).__name__}")
    for bound in bounds:
        if not 0 <= bound <= len(value):
            raise ValueError(f"index out of range: {bound}")
    return value[bounds[0] if bounds else 0 : bounds[1] if len(bounds) > 1 else len(value)]


def _length(value: Any) -> int:
    if value is None:
        raise ValueError("len of nil pointer")
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, (dict, list, tuple)):
        return len(value)
    raise ValueError(f"len of type {type(value).__name__}")


def _same_kind(left: Any, right: Any) -> None:
    numbers = (int, float)
    if isinstance(left, numbers) and isinstance(right, numbers) and isinstance(left, bool) == isinstance(right, bool):
        return
    if left is not None and right is not None and type(left) is not type(right):
        raise ValueError("incompatible types for comparison")


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise ValueError("missing argument for comparison")
    for other in others:
        _same_kind(first, other)
        if first == other:
            return True
    return False


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def ordered(left: Any, right: Any) -> bool:
        _same_kind(left, right)
        if isinstance(left, (dict, list, bool)) or left is None:
            raise ValueError("invalid type for comparison")
        return compare(left, right)

    return ordered


def _not_equal(left: Any, right: Any) -> bool:
    return not _equal(left, right)


def _print(*values: Any) -> str:
    pieces: list[str] = []
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            pieces.append(" ")
        pieces.append(show(value))
    return "".join(pieces)


def _println(*values: Any) -> str:
    return " ".join([show(value) for value in values]) + "\n"


def _printf(text: str, *values: Any) -> str:
    pieces: list[str] = []
    left = list(values)
    at = 0
    while at < len(text):
        start = text.find("%", at)
        if start == -1:
            pieces.append(text[at:])
            break
        pieces.append(text[at:start])
        at = start + 1
        while at < len(text) and text[at] in "+-# 0123456789.*":
            at += 1
        if at == len(text):
            pieces.append("%!(NOVERB)")
            break
        options, verb = text[start + 1 : at], text[at]
        at += 1
        if verb == "%":
            pieces.append("%")
            continue
        while "*" in options and left:
            options = options.replace("*", str(left.pop(0)), 1)
        pieces.append(_verb(options, verb, left.pop(0)) if left else f"%!{verb}(MISSING)")
    if left:
        pieces.append("%!(EXTRA " + ", ".join([f"{_type(value)}={show(value)}" for value in left]) + ")")
    return "".join(pieces)


def _type(value: Any) -> str:
    names = {
        str: "string",
        bool: "bool",
        int: "int",
        float: "float64",
        list: "[]interface {}",
        dict: "map[string]interface {}",
        type(None): "<nil>",
    }
    return names.get(type(value), type(value).__name__)


def _verb(options: str, verb: str, value: Any) -> str:
    flags = options[: len(options) - len(options.lstrip("+-# 0"))]
    width_text, dot, precision_text = options[len(flags) :].partition(".")
    precision = int(precision_text or "0") if dot else None
    body = _convert(verb, value, flags, precision)
    width = int(width_text or "0")
    if "-" in flags:
        return body.ljust(width)
    if "0" in flags and verb in "dfgexXobF" and not isinstance(value, str):
        sign = body[0] if body[:1] in ("+", "-") else ""
        return sign + body[len(sign) :].rjust(width - len(sign), "0")
    return body.rjust(width)


def _convert(verb: str, value: Any, flags: str, precision: int | None) -> str:
    number = isinstance(value, int) and not isinstance(value, bool)
    if verb == "v":
        return show(value)
    if verb == "s" and (isinstance(value, (str, list, dict)) or value is None):
        text = "%!s(<nil>)" if value is None else show(value)
        return text if precision is None else text[:precision]
    if verb == "q" and isinstance(value, str):
        return go_quote(value)
    if verb == "q" and isinstance(value, list):
        return "[" + " ".join([go_quote(show(item)) for item in value]) + "]"
    if verb == "T":
        return _type(value)
    if verb == "t" and isinstance(value, bool):
        return show(value)
    if verb in "dboxXcU" and number:
        if verb == "c":
            return chr(value)
        if verb == "U":
            return f"U+{value:04X}"
        return ("+" if "+" in flags and value >= 0 else "") + format(value, verb)
    if verb in "xX" and isinstance(value, str):
        return value.encode().hex() if verb == "x" else value.encode().hex().upper()
    if verb in "feEgGF" and isinstance(value, float):
        if precision is None:
            return show(value) if verb in "gG" else format(value, f".6{verb}")
        return ("+" if "+" in flags and value >= 0 else "") + format(value, f".{precision}{verb}")
    return f"%!{verb}({_type(value)}={show(value)})"


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _truncate(text: str, length: int) -> str:
    return text[:length]


def _title(text: str) -> str:
    return "".join(
        [
            c.upper() if index == 0 or not (text[index - 1].isalnum() or text[index - 1] in "_'") else c
            for index, c in enumerate(text)
        ]
    )


def _html(*values: Any) -> str:
    text = _print(*values)
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        text = text.replace(character, entity)
    return text


def _urlquery(*values: Any) -> str:
    from carrack.client.http import percent_encode

    return percent_encode(_print(*values), keep=" ").replace(" ", "+")


def _join(items: list[str] | None, separator: str) -> str:
    return separator.join([str(item) for item in items or []])


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "and": _equal,  # short-circuit: the evaluator does these two itself
    "or": _equal,
    "call": _call,
    "html": _html,
    "index": _index,
    "slice": _slice,
    "js": lambda *values: encode(_print(*values))[1:-1],
    "len": _length,
    "not": lambda value: not is_true(value),
    "print": _print,
    "printf": _printf,
    "println": _println,
    "urlquery": _urlquery,
    "eq": _equal,
    "ge": _ordered(lambda left, right: left >= right),
    "gt": _ordered(lambda left, right: left > right),
    "le": _ordered(lambda left, right: left <= right),
    "lt": _ordered(lambda left, right: left < right),
    "ne": _not_equal,
    "json": to_json,
    "split": _split,
    "join": _join,
    "title": _title,
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "pad": _pad,
    "truncate": _truncate,
}

HEADER_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda text: text,
    "split": lambda text, _: text,
    "join": lambda text, _: text,
    "title": lambda text: text,
    "lower": lambda text: text,
    "upper": lambda text: text,
    "truncate": lambda text, _: text,
}
"""What the functions do to a table's header line: nothing."""
