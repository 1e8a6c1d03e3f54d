"""The patterns of `${x#p}`, `${x%p}` and `${x/p/r}`: `*` and `?` only, without brackets (as BuildKit reads them).

Python's regular expressions backtrack, and a pattern from a stranger's Dockerfile must not buy hours of it: all stars but the
last match as little as they can inside an atomic group, which changes no answer and keeps the time of one attempt linear in each.
"""

from __future__ import annotations

import re

from carrack.build.dockerfile.failure import Fault

_LIMIT = 4096
_STAR = object()


def trim_prefix(value: str, pattern: str, *, longest: bool) -> str:
    """`value` without the shortest or longest beginning that matches. Raises Fault for a broken pattern."""
    match = _compile(_tokens(pattern), pattern, longest=longest).match(value)
    return value[match.end() :] if match else value


def trim_suffix(value: str, pattern: str, *, longest: bool) -> str:
    """`value` without the shortest or longest end that matches. Raises Fault for a broken pattern."""
    tokens = _tokens(pattern)
    match = _compile(tokens[::-1], pattern, longest=longest).match(value[::-1])
    return value[: len(value) - match.end()] if match else value


def replace(value: str, pattern: str, replacement: str, *, every: bool) -> str:
    """`value` with the first or every longest match replaced. Raises Fault for a broken pattern or one longer than is sane."""
    if len(value) > 16 * _LIMIT:
        raise Fault(f"invalid pattern ({pattern}) in substitution: the value is too long to search")
    return _compile(_tokens(pattern), pattern, longest=True).sub(lambda _: replacement, value, count=0 if every else 1)


def _tokens(pattern: str) -> list[object]:
    """Regular expressions of one character each, and `_STAR`."""
    tokens: list[object] = []
    characters = iter(pattern)
    for character in characters:
        if character == "*":
            tokens.append(_STAR)
        elif character == "?":
            tokens.append(".")
        elif character == "\\":
            escaped = next(characters, "")
            if not escaped or escaped not in "*?\\}/":
                raise Fault(f"invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'", pattern)
            tokens.append(re.escape(escaped))
        else:
            tokens.append(re.escape(character))
    return tokens


def _compile(tokens: list[object], pattern: str, *, longest: bool) -> re.Pattern[str]:
    if len(tokens) > _LIMIT:
        raise Fault(f"invalid pattern ({pattern[:32]}…) in substitution: longer than {_LIMIT} characters")
    parts: list[str] = [""]
    for token in tokens:
        if token is _STAR:
            parts.append("")
        else:
            parts[-1] += str(token)
    first, *rest = parts
    text = first
    for index, part in enumerate(rest, 1):
        if index == len(rest):
            text += f".*{part}" if longest else f".*?{part}"
        elif part:
            text += f"(?>.*?{part})"
    return re.compile(text)
