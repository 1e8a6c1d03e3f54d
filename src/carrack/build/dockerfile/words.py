"""The ways an instruction's text falls into words: flags, blank-separated arguments, quoted words, the JSON form.

Quotes are kept by `quoted_words` (expansion removes them later) and removed by `split_flags`. Blanks are those of Go's
`unicode.IsSpace`, since that is what every existing Dockerfile was read with. Source: Dockerfile reference, "Format" and "Shell and
exec form".
"""

from __future__ import annotations

import re

import msgspec

from carrack.build.dockerfile.failure import Fault

SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
BLANKS = re.compile(r"[\t\v\f\r ]+")


def split_keyword(line: str, escape: str) -> tuple[str, tuple[str, ...], str]:
    """An instruction's keyword, its flags (`--…`), and the rest without blanks at its ends."""
    parts = BLANKS.split(line.strip(SPACES), maxsplit=1)
    if len(parts) == 1:
        return parts[0], (), ""
    flags, rest = split_flags(parts[1], escape)
    return parts[0], flags, rest.strip(SPACES)


def split_flags(text: str, escape: str) -> tuple[tuple[str, ...], str]:
    """The leading words that begin with `--`, unquoted and unescaped, and what follows them; a bare `--` ends them and vanishes."""
    flags: list[str] = []
    position = 0
    while True:
        while position < len(text) and text[position] in SPACES:
            position += 1
        if not text.startswith("--", position):
            return tuple(flags), text[position:]
        word, quoted, position = _flag(text, position, escape)
        if word == "--":
            return tuple(flags), text[position:]
        if word or quoted:
            flags.append(word)


def _flag(text: str, position: int, escape: str) -> tuple[str, bool, int]:
    """One flag from `position`: its text, whether it had quotes, where it ends."""
    word: list[str] = []
    quote, quoted = "", False
    while position < len(text):
        character = text[position]
        if not quote and character in SPACES:
            break
        if not quote and character in "'\"":
            quote, quoted = character, True
        elif quote and character == quote:
            quote = ""
        elif character == escape:
            position += 1
            word.append(text[position : position + 1])
        else:
            word.append(character)
        position += 1
    return "".join(word), quoted, position


def quoted_words(text: str, escape: str) -> tuple[str, ...]:
    """Words divided by blanks that stand in no quotes; quotes and escapes stay as they are, save an escape at the very end."""
    words: list[str] = []
    word: list[str] = []
    quote = ""
    position = 0
    while position < len(text):
        character = text[position]
        position += 1
        if not quote and character in SPACES:
            if word:
                words.append("".join(word))
                word = []
            continue
        if character == escape and quote != "'":
            if position == len(text):
                break
            word.append(character + text[position])
            position += 1
            continue
        if not quote and character in "'\"":
            quote = character
        elif character == quote:
            quote = ""
        word.append(character)
    if word:
        words.append("".join(word))
    return tuple(words)


def blank_words(text: str) -> tuple[str, ...]:
    """Words divided by blanks, quotes meaning nothing."""
    return tuple(BLANKS.split(text)) if text else ()


def json_words(text: str) -> tuple[str, ...] | None:
    """The words of the JSON form, or None when the text is no JSON array. Raises Fault for an array of anything but strings."""
    if not text.lstrip(SPACES).startswith("["):
        return None
    try:
        array = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    if not all(isinstance(word, str) for word in array):
        raise Fault("when using JSON array syntax, arrays must be comprised of strings only", "[")
    return tuple(array)
