"""JSON text laid out as Go's json.Indent does it: the daemon's own spelling of every value is kept."""

from __future__ import annotations


def indent(text: str, unit: str = "    ") -> str:
    """The same document with line breaks and `unit` per level; empty objects and lists stay closed."""
    pieces: list[str] = []
    depth = 0
    position = 0
    length = len(text)
    while position < length:
        character = text[position]
        if character == '"':
            end = _string_end(text, position + 1)
            pieces.append(text[position:end])
            position = end
            continue
        position += 1
        if character in " \t\r\n":
            continue
        if character in "{[":
            following = _skip(text, position)
            if following < length and text[following] in "}]":
                pieces.append(character + text[following])
                position = following + 1
                continue
            depth += 1
            pieces.append(character + "\n" + unit * depth)
        elif character in "}]":
            depth -= 1
            pieces.append("\n" + unit * depth + character)
        elif character == ",":
            pieces.append(",\n" + unit * depth)
        elif character == ":":
            pieces.append(": ")
        else:
            end = position
            while end < length and text[end] not in ",]} \t\r\n":
                end += 1
            pieces.append(text[position - 1 : end])
            position = end
    return "".join(pieces)


def compact(text: str) -> str:
    """The same document without a space between its tokens."""
    pieces: list[str] = []
    position = 0
    while position < len(text):
        if text[position] == '"':
            end = _string_end(text, position + 1)
            pieces.append(text[position:end])
            position = end
            continue
        if text[position] not in " \t\r\n":
            pieces.append(text[position])
        position += 1
    return "".join(pieces)


def _string_end(text: str, position: int) -> int:
    while True:
        end = text.find('"', position)
        if end == -1:
            return len(text)
        backslashes = end - len(text[position:end].rstrip("\\")) - position
        if backslashes % 2 == 0:
            return end + 1
        position = end + 1


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position
