"""The text of a Go template as a tree: text, actions, pipelines, operands (package text/template/parse).

Positions are byte offsets, as Go counts them in its error texts; `source` is the piece of template an error quotes.
"""

from __future__ import annotations

from carrack.cli.render.template_lexer import TemplateError, Token, split_actions, tokenize, unquote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from typing import Any, NoReturn


class Context:
    """A value whose fields are computed: what a template calls dot for a row of a list."""

    kind: Any = "interface {}"

    def field(self, name: str) -> Any:
        """The field's value; raises KeyError when there is no such field."""
        raise KeyError(name)

    def to_json(self) -> str:
        """What the `json` function prints."""
        raise NotImplementedError


class Positioned:
    """A part of the tree that error texts point at."""

    __slots__ = ("position", "source")

    def __init__(self, position: int, source: str) -> None:
        self.position = position
        self.source = source


class Operand(Positioned):
    """What can stand in a command: literal, dot, field, variable, function name, parenthesis."""

    __slots__ = ()


class Literal(Operand):
    """A constant: a string, a number, true, false or nil."""

    __slots__ = ("value",)

    def __init__(self, position: int, source: str, value: Any) -> None:
        super().__init__(position, source)
        self.value = value


class Dot(Operand):
    """`.`"""

    __slots__ = ()


class Field(Operand):
    """`.A.B`, of dot."""

    __slots__ = ("names",)

    def __init__(self, position: int, source: str, names: list[str]) -> None:
        super().__init__(position, source)
        self.names = names


class Variable(Operand):
    """`$x`, and fields of it."""

    __slots__ = ("name", "names")

    def __init__(self, position: int, source: str, name: str, names: list[str]) -> None:
        super().__init__(position, source)
        self.name = name
        self.names = names


class Word(Operand):
    """The name of a function."""

    __slots__ = ("name",)

    def __init__(self, position: int, source: str, name: str) -> None:
        super().__init__(position, source)
        self.name = name


class Parenthesis(Operand):
    """A pipeline in parentheses, as an operand."""

    __slots__ = ("pipe",)

    def __init__(self, position: int, source: str, pipe: Pipe) -> None:
        super().__init__(position, source)
        self.pipe = pipe


class Chain(Operand):
    """Fields of an operand: `(pipeline).A`."""

    __slots__ = ("names", "operand")

    def __init__(self, position: int, source: str, operand: Operand, names: list[str]) -> None:
        super().__init__(position, source)
        self.operand = operand
        self.names = names


class Command:
    """An operand, or a function with its arguments."""

    __slots__ = ("words",)

    def __init__(self, words: list[Operand]) -> None:
        self.words = words


class Pipe(Positioned):
    """Commands joined by `|`, and the variables that take what comes out."""

    __slots__ = ("assigns", "commands", "declares")

    def __init__(self, position: int, source: str) -> None:
        super().__init__(position, source)
        self.commands: list[Command] = []
        self.declares: list[str] = []
        self.assigns = False


class Node:
    """A piece of a template's body."""


class Text(Node):
    """What is written as it is."""

    def __init__(self, text: str) -> None:
        self.text = text


class Action(Node):
    """`{{pipeline}}`: its value is written."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe


class Branch(Node):
    """A pipeline that decides between two bodies."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.then: list[Node] = []
        self.otherwise: list[Node] = []


class If(Branch):
    """`{{if}}`: one body or the other."""


class With(Branch):
    """`{{with}}`: the first body with the value as dot, when it is not empty."""


class Range(Branch):
    """`{{range}}`: the first body for each element, the second when there is none."""


class Call(Node, Positioned):
    """`{{template}}`: another template's body."""

    def __init__(self, position: int, name: str, pipe: Pipe | None) -> None:
        Positioned.__init__(self, position, f'{{{{template "{name}"}}}}')
        self.name = name
        self.pipe = pipe


class Jump(Node):
    """`{{break}}` or `{{continue}}`."""

    def __init__(self, word: str) -> None:
        self.word = word


_BRANCHES: dict[str, type[Branch]] = {"if": If, "with": With, "range": Range}


def parse(source: str, functions: Container[str]) -> tuple[list[Node], dict[str, list[Node]]]:
    """(the body, the templates it defines by name). Raises TemplateError."""
    return _Parser(source, functions).parse()


class _Parser:
    def __init__(self, source: str, functions: Container[str]) -> None:
        self.source = source
        self.functions = functions
        self.pieces = split_actions(source)
        self.next_piece = 0
        self.named: dict[str, list[Node]] = {}
        self.tokens: list[Token] = []
        self.at = 0
        self.end_position = 0
        self.variables = ["$"]
        self.loops = 0

    def parse(self) -> tuple[list[Node], dict[str, list[Node]]]:
        nodes, stop = self._list(())
        assert stop == ""
        return nodes, self.named

    def _list(self, stops: tuple[str, ...]) -> tuple[list[Node], str]:
        nodes: list[Node] = []
        while self.next_piece < len(self.pieces):
            kind, content, position = self.pieces[self.next_piece]
            self.next_piece += 1
            if kind == "text":
                nodes.append(Text(content))
                continue
            self.tokens = tokenize(self.source, content, position)
            self.at = 0
            self.end_position = position + len(content)
            self._skip_space()
            keyword = self._peek()
            word = keyword.text if keyword and keyword.kind == "word" else ""
            if word in ("end", "else"):
                if word not in stops:
                    self._fail(position, f"unexpected {{{{{word}}}}}")
                self._next()
                self._skip_space()
                return nodes, word
            nodes.extend(self._action(word, position))
        if stops:
            self._fail(len(self.source), "unexpected EOF")
        return nodes, ""

    def _action(self, word: str, position: int) -> list[Node]:
        if word in _BRANCHES:
            self._next()
            return [self._branch(word)]
        if word in ("break", "continue"):
            if not self.loops:
                self._fail(position, f"{{{{{word}}}}} outside {{{{range}}}}")
            self._next()
            return [Jump(word)]
        if word in ("define", "block", "template"):
            self._next()
            return self._definition(word, position)
        pipe = self._pipe("command")
        return [Action(pipe)]

    def _branch(self, word: str) -> Branch:
        mark = len(self.variables)
        branch = _BRANCHES[word](self._pipe(word))
        self.loops += word == "range"
        branch.then, stop = self._list(("end", "else"))
        self.loops -= word == "range"
        if stop == "else":
            following = self._peek()
            if following and following.text in ("if", "with") and following.text == word:
                self._next()
                branch.otherwise = [self._branch(following.text)]
            else:
                self._expect_end("else")
                branch.otherwise, _ = self._list(("end",))
        del self.variables[mark:]
        return branch

    def _definition(self, word: str, position: int) -> list[Node]:
        self._skip_space()
        token = self._next()
        if token is None or token.kind != "string":
            self._fail(position, f"missing name in {word} clause")
        name = unquote(token)
        self._skip_space()
        pipe = self._pipe(word) if word != "define" and self._peek() else None
        if word == "template":
            return [Call(position, name, pipe)]
        self.named[name], _ = self._list(("end",))
        return [Call(position, name, pipe)] if word == "block" else []

    def _pipe(self, context: str, closer: str = "") -> Pipe:
        self._skip_space()
        first = self._peek()
        pipe = Pipe(first.position if first else self.end_position, "")
        start = self.at
        self._declarations(pipe, context)
        while True:
            command = self._command(closer)
            if command.words:
                pipe.commands.append(command)
            token = self._next()
            if token is None or token.kind == closer:
                if closer and token is None:
                    self._fail(pipe.position, "unclosed left paren")
                break
            if not command.words:
                self._fail(token.position, f"missing value for {context}")
            self._skip_space()
            if self._peek() is None:
                self._fail(token.position, f"missing value for {context}")
        if not pipe.commands:
            self._fail(pipe.position, f"missing value for {context}")
        pipe.source = "".join([token.text for token in self.tokens[start : self.at]]).strip().removesuffix(closer or "\0")
        return pipe

    def _declarations(self, pipe: Pipe, context: str) -> None:
        mark = self.at
        names: list[str] = []
        while True:
            token = self._peek()
            if token is None or token.kind != "variable":
                break
            self._next()
            names.append(token.text)
            self._skip_space()
            separator = self._peek()
            if separator and separator.kind in (":=", "="):
                self._next()
                self._skip_space()
                pipe.declares = names
                pipe.assigns = separator.kind == "="
                if not pipe.assigns:
                    self.variables.extend(names)
                return
            if separator and separator.kind == "," and context == "range":
                self._next()
                self._skip_space()
                continue
            break
        self.at = mark

    def _command(self, closer: str) -> Command:
        words: list[Operand] = []
        while True:
            self._skip_space()
            token = self._peek()
            if token is None or token.kind == "|" or (closer and token.kind == closer):
                return Command(words)
            words.append(self._operand())

    def _operand(self) -> Operand:
        token = self._next()
        assert token is not None
        operand = self._term(token)
        names: list[str] = []
        while (following := self._peek()) is not None and following.kind == "field":
            self._next()
            names.append(following.text[1:])
        if not names:
            return operand
        source = operand.source + "".join([f".{name}" for name in names])
        if isinstance(operand, Field):
            return Field(operand.position, source, operand.names + names)
        if isinstance(operand, Variable):
            return Variable(operand.position, source, operand.name, operand.names + names)
        return Chain(token.position, source, operand, names)

    def _term(self, token: Token) -> Operand:
        kind, text, position = token.kind, token.text, token.position
        if kind == "field":
            return Field(position, text, [text[1:]])
        if kind == "dot":
            return Dot(position, text)
        if kind == "variable":
            if text not in self.variables:
                self._fail(position, f'undefined variable "{text}"')
            return Variable(position, text, text, [])
        if kind == "string":
            return Literal(position, text, unquote(token))
        if kind == "char":
            return Literal(position, text, ord(unquote(token)))
        if kind == "number":
            return Literal(position, text, self._number(token))
        if kind == "(":
            pipe = self._pipe("parenthesized pipeline", ")")
            return Parenthesis(position, f"({pipe.source})", pipe)
        if kind == "word":
            constants = {"true": True, "false": False, "nil": None}
            if text in constants:
                return Literal(position, text, constants[text])
            if text not in self.functions:
                self._fail(position, f'function "{text}" not defined')
            return Word(position, text, text)
        return self._fail(position, f"unexpected {text!r} in operand".replace("'", '"'))

    def _number(self, token: Token) -> int | float:
        text = token.text.replace("_", "")
        try:
            return int(text, 0)
        except ValueError:
            pass
        try:
            return int(text, 8) if text.lstrip("+-0").isdigit() else float(text)
        except ValueError:
            return self._fail(token.position, f'bad number syntax: "{token.text}"')

    def _expect_end(self, word: str) -> None:
        self._skip_space()
        token = self._peek()
        if token is not None:
            self._fail(token.position, f"unexpected <{token.text}> in {word}")

    def _peek(self) -> Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def _next(self) -> Token | None:
        token = self._peek()
        self.at += 1
        return token

    def _skip_space(self) -> None:
        while (token := self._peek()) is not None and token.kind == "space":
            self.at += 1

    def _fail(self, position: int, text: str) -> NoReturn:
        raise TemplateError(self.source, position, text)
