"""The text of a Go template cut into text and actions, and an action into tokens (package text/template/parse, lex.go).

Positions are offsets into the source; error texts count them in bytes, as Go does.
"""

from __future__ import annotations


class TemplateError(Exception):
    """The template cannot be read, or not for this value."""

    def __init__(self, source: str, position: int, text: str) -> None:
        before = source[:position]
        line = before.count("\n") + 1
        column = len(before[before.rfind("\n") + 1 :].encode())
        place = f"template: :{line}:{column}: " if text.startswith("executing") else f"template: :{line}: "
        super().__init__(place + text)


class Token:
    """A piece of an action: its kind, its text, its offset in the source."""

    __slots__ = ("kind", "position", "text")

    def __init__(self, kind: str, text: str, position: int) -> None:
        self.kind = kind  # word field variable dot string char number ( ) | := = , space
        self.text = text
        self.position = position


_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "\\": "\\", '"': '"', "'": "'"}


def split_actions(source: str) -> list[tuple[str, str, int]]:
    """The template cut into ("text" | "action", content, position); trim marks and comments are done with here."""
    pieces: list[tuple[str, str, int]] = []
    position = 0
    trim_next = False
    while True:
        start = source.find("{{", position)
        text = source[position:] if start == -1 else source[position:start]
        if trim_next:
            text = text.lstrip(" \t\r\n")
        if start == -1:
            if text:
                pieces.append(("text", text, position))
            return pieces
        inner = start + 2
        if source.startswith("-", inner) and source[inner + 1 : inner + 2] in (" ", "\t", "\r", "\n"):
            text = text.rstrip(" \t\r\n")
            inner += 2
        if text:
            pieces.append(("text", text, position))
        end = _action_end(source, inner)
        content = source[inner:end]
        position = end + 2
        trim_next = content.endswith("-") and content[-2:-1] in (" ", "\t", "\r", "\n")
        if trim_next:
            content = content[:-2]
        if not content.strip().startswith("/*"):
            pieces.append(("action", content, inner))


def _action_end(source: str, position: int) -> int:
    if source[position:].lstrip().startswith("/*"):
        close = source.find("*/", position)
        end = source.find("}}", close) if close != -1 else -1
        if end == -1:
            raise TemplateError(source, position, "unclosed comment")
        return end
    while position < len(source):
        if source.startswith("}}", position):
            return position
        character = source[position]
        if character in "\"'":
            position = _quoted_end(source, position)
        elif character == "`":
            position = source.find("`", position + 1) + 1
            if position == 0:
                raise TemplateError(source, len(source), "unterminated raw quoted string")
        else:
            position += 1
    raise TemplateError(source, len(source), "unclosed action")


def _quoted_end(source: str, position: int) -> int:
    mark = source[position]
    at = position + 1
    while at < len(source) and source[at] != "\n":
        if source[at] == "\\":
            at += 2
        elif source[at] == mark:
            return at + 1
        else:
            at += 1
    kind = "quoted string" if mark == '"' else "character constant"
    raise TemplateError(source, position, f"unterminated {kind}")


def tokenize(source: str, content: str, start: int) -> list[Token]:
    """The tokens of one action."""
    tokens: list[Token] = []
    at = 0
    while at < len(content):
        character = content[at]
        position = start + at
        end = at + 1
        if character in " \t\r\n":
            while end < len(content) and content[end] in " \t\r\n":
                end += 1
            tokens.append(Token("space", " ", position))
        elif character in "\"'":
            end = _quoted_end(source, position) - start
            tokens.append(Token("string" if character == '"' else "char", content[at:end], position))
        elif character == "`":
            end = content.index("`", end) + 1
            tokens.append(Token("string", content[at:end], position))
        elif content.startswith(":=", at):
            end = at + 2
            tokens.append(Token(":=", ":=", position))
        elif character in "()|=,":
            tokens.append(Token(character, character, position))
        elif character.isdigit() or (character in "+-" and content[end : end + 1].isdigit()):
            while end < len(content) and (content[end].isalnum() or content[end] in "._"):
                end += 1
            tokens.append(Token("number", content[at:end], position))
        elif character in ".$" or character.isalpha() or character == "_":
            while end < len(content) and (content[end].isalnum() or content[end] == "_"):
                end += 1
            text = content[at:end]
            kind = "dot" if text == "." else "field" if character == "." else "variable" if character == "$" else "word"
            tokens.append(Token(kind, text, position))
        else:
            raise TemplateError(
                source, position, f"unexpected {character!r} in operand" if character != "}" else 'unexpected "}" in operand'
            )
        at = end
    return tokens


def unquote(token: Token) -> str:
    """The text a string literal stands for."""
    text = token.text
    if text[0] == "`":
        return text[1:-1]
    pieces: list[str] = []
    at = 1
    while at < len(text) - 1:
        if text[at] != "\\":
            pieces.append(text[at])
            at += 1
            continue
        letter = text[at + 1]
        width = {"x": 2, "u": 4, "U": 8}.get(letter)
        if width:
            pieces.append(chr(int(text[at + 2 : at + 2 + width], 16)))
            at += 2 + width
        else:
            pieces.append(_ESCAPES.get(letter, letter))
            at += 2
    return "".join(pieces)
