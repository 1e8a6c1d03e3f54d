"""Go's text/template as far as command lines use it, with the functions Docker adds.

`parse_template` reads a template into a tree (`template_parser.py`), `Template.render` walks it. Values are those of JSON plus
`Context`, an object whose fields are computed. Texts of errors are Go's, position included.
"""

from __future__ import annotations

from carrack.cli.render import template_parser as tree
from carrack.cli.render.template_functions import FUNCTIONS, HEADER_FUNCTIONS, is_true, show
from carrack.cli.render.template_lexer import TemplateError
from carrack.cli.render.template_parser import Context, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Context", "Template", "TemplateError", "parse_template"]

MISSING = object()
"""A key that a map does not have: prints as `<no value>`."""


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class Template:
    """A parsed template. Rendering has no state of its own, so one template serves every row."""

    def __init__(self, source: str, nodes: list[tree.Node], named: dict[str, list[tree.Node]]) -> None:
        self.source = source
        self.nodes = nodes
        self.named = named

    def render(self, value: Any, *, header: bool = False, strict: bool = False) -> str:
        """The text for a value. `strict` makes a missing key an error, as `docker inspect` does. Raises TemplateError."""
        functions = {**FUNCTIONS, **HEADER_FUNCTIONS} if header else FUNCTIONS
        walk = _Walk(self, functions, value, strict)
        walk.run(self.nodes, value)
        return "".join(walk.output)


def parse_template(source: str) -> Template:
    """Reads a template. Raises TemplateError."""
    nodes, named = parse(source, FUNCTIONS)
    return Template(source, nodes, named)


class _Walk:
    def __init__(self, template: Template, functions: dict[str, Callable[..., Any]], root: Any, strict: bool) -> None:
        self.template = template
        self.functions = functions
        self.strict = strict
        self.output: list[str] = []
        self.variables: list[tuple[str, Any]] = [("$", root)]

    def run(self, nodes: list[tree.Node], dot: Any) -> None:
        for node in nodes:
            self._node(node, dot)

    def _node(self, node: tree.Node, dot: Any) -> None:
        if isinstance(node, tree.Text):
            self.output.append(node.text)
        elif isinstance(node, tree.Action):
            value = self._pipe(node.pipe, dot)
            if not node.pipe.declares:
                self.output.append(self._print(value, node.pipe))
        elif isinstance(node, tree.If):
            mark = len(self.variables)
            self.run(node.then if is_true(_plain(self._pipe(node.pipe, dot))) else node.otherwise, dot)
            del self.variables[mark:]
        elif isinstance(node, tree.With):
            mark = len(self.variables)
            value = self._pipe(node.pipe, dot)
            if is_true(_plain(value)):
                self.run(node.then, value)
            else:
                self.run(node.otherwise, dot)
            del self.variables[mark:]
        elif isinstance(node, tree.Range):
            self._range(node, dot)
        elif isinstance(node, tree.Call):
            self._template(node, dot)
        elif isinstance(node, tree.Jump):
            raise _Break if node.word == "break" else _Continue

    def _print(self, value: Any, pipe: tree.Pipe) -> str:
        if value is MISSING:
            return "<no value>"
        if callable(value):
            raise self._failure(pipe, f"can't print {pipe.source} of type func")
        return show(value)

    def _range(self, node: tree.Range, dot: Any) -> None:
        mark = len(self.variables)
        value = self._pipe(node.pipe, dot, assign=False)
        items = self._items(value, node)
        for key, item in items:
            inner = len(self.variables)
            names = node.pipe.declares
            if len(names) == 1:
                self._bind(names[0], item, node.pipe.assigns)
            elif len(names) == 2:
                self._bind(names[0], key, node.pipe.assigns)
                self._bind(names[1], item, node.pipe.assigns)
            try:
                self.run(node.then, item)
            except _Continue:
                continue
            except _Break:
                break
            finally:
                del self.variables[inner:]
        if not items:
            self.run(node.otherwise, dot)
        del self.variables[mark:]

    def _items(self, value: Any, node: tree.Range) -> list[tuple[Any, Any]]:
        value = _plain(value)
        if value is None:
            return []
        if isinstance(value, dict):
            return [(key, value[key]) for key in sorted(value)]
        if isinstance(value, (list, tuple)):
            return list(enumerate(value))
        if isinstance(value, int) and not isinstance(value, bool):
            return [(number, number) for number in range(value)]
        raise self._failure(node.pipe, f"range can't iterate over {show(value)}")

    def _template(self, node: tree.Call, dot: Any) -> None:
        nodes = self.template.named.get(node.name)
        if nodes is None:
            raise self._failure(node, f'template "{node.name}" not defined')
        value = self._pipe(node.pipe, dot) if node.pipe else None
        outer, self.variables = self.variables, [("$", value)]
        self.run(nodes or [], value)
        self.variables = outer

    def _pipe(self, pipe: tree.Pipe, dot: Any, *, assign: bool = True) -> Any:
        value: Any = MISSING
        for index, command in enumerate(pipe.commands):
            value = self._command(command, dot, *([value] if index else []))
        if assign:
            for name in pipe.declares:
                self._bind(name, value, pipe.assigns)
        return value

    def _bind(self, name: str, value: Any, assigns: bool) -> None:
        if assigns:
            for index in range(len(self.variables) - 1, -1, -1):
                if self.variables[index][0] == name:
                    self.variables[index] = (name, value)
                    return
        self.variables.append((name, value))

    def _command(self, command: tree.Command, dot: Any, *final: Any) -> Any:
        first = command.words[0]
        arguments = command.words[1:]
        if isinstance(first, tree.Word):
            return self._function(first, arguments, dot, final)
        value = self._value(first, dot)
        if callable(value):
            return self._call(value, first, [_plain(self._value(word, dot)) for word in arguments] + list(final))
        if arguments or final:
            if isinstance(first, (tree.Field, tree.Chain)):
                raise self._failure(first, f"{first.source.rpartition('.')[2]} has arguments but cannot be invoked as function")
            raise self._failure(first, f"can't give argument to non-function {first.source}")
        return value

    def _function(self, word: tree.Word, arguments: list[tree.Operand], dot: Any, final: tuple[Any, ...]) -> Any:
        if word.name in ("and", "or"):
            return self._and_or(word, arguments, dot, final)
        function = self.functions[word.name]
        values = [_plain(self._value(argument, dot)) for argument in arguments] + [_plain(value) for value in final]
        return self._call(function, word, values)

    def _call(self, function: Callable[..., Any], node: tree.Operand, values: list[Any]) -> Any:
        try:
            return function(*values)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            text = (
                error.args[0]
                if isinstance(error, (ValueError, IndexError)) and error.args
                else f"wrong number or type of args for {node.source}"
            )
            raise self._failure(node, f"error calling {node.source}: {text}") from None

    def _and_or(self, word: tree.Word, arguments: list[tree.Operand], dot: Any, final: tuple[Any, ...]) -> Any:
        value: Any = MISSING
        for argument in arguments:
            value = self._value(argument, dot)
            if is_true(_plain(value)) == (word.name == "or"):
                return value
        return final[0] if final else value

    def _value(self, node: tree.Operand, dot: Any) -> Any:
        if isinstance(node, tree.Literal):
            return node.value
        if isinstance(node, tree.Dot):
            return dot
        if isinstance(node, tree.Field):
            return self._fields(dot, node.names, node)
        if isinstance(node, tree.Variable):
            for name, value in reversed(self.variables):
                if name == node.name:
                    return self._fields(value, node.names, node)
            raise self._failure(node, f"undefined variable: {node.name}")
        if isinstance(node, tree.Chain):
            return self._fields(self._value(node.operand, dot), node.names, node)
        if isinstance(node, tree.Parenthesis):
            return self._pipe(node.pipe, dot)
        assert isinstance(node, tree.Word)
        return self._function(node, [], dot, ())

    def _fields(self, value: Any, names: list[str], node: tree.Operand) -> Any:
        for name in names:
            value = self._field(value, name, node)
        return value

    def _field(self, value: Any, name: str, node: tree.Operand) -> Any:
        if isinstance(value, Context):
            try:
                return value.field(name)
            except KeyError:
                raise self._failure(node, f"can't evaluate field {name} in type {value.kind}") from None
        if isinstance(value, dict):
            if name in value:
                return value[name]
            if self.strict:
                raise self._failure(node, f'map has no entry for key "{name}"')
            return MISSING
        if value is None or value is MISSING:
            raise self._failure(node, f"nil pointer evaluating interface {{}}.{name}")
        kinds = {str: "string", bool: "bool", int: "json.Number", float: "float64", list: "[]interface {}"}
        raise self._failure(node, f"can't evaluate field {name} in type {kinds.get(type(value), 'interface {}')}")

    def _failure(self, node: tree.Positioned, text: str) -> TemplateError:
        return TemplateError(self.template.source, node.position, f'executing "" at <{node.source}>: {text}')


def _plain(value: Any) -> Any:
    return None if value is MISSING else value
