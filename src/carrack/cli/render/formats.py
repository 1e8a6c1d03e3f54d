"""`--format` with a template: the row as a template sees it, and the header line of `table …` formats."""

from __future__ import annotations

from carrack.cli.render.noun import Noun, refuse
from carrack.cli.render.table import align
from carrack.cli.render.template import Context, Template, TemplateError, parse_template
from carrack.client.codec import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from carrack.cli.console import Output


class Row(Context):
    """One row of a noun; its fields are computed when asked for."""

    def __init__(self, noun: Noun, row: Any) -> None:
        self.noun = noun
        self.row = row

    @property
    def kind(self) -> str:
        return self.noun.kind

    def field(self, name: str) -> Any:
        if name in self.noun.fields:
            return self.noun.fields[name][1](self.row)
        call = self.noun.calls[name]
        return lambda *arguments: call(self.row, *arguments)

    def to_json(self) -> str:
        return encode({name: function(self.row) for name, (_, function) in sorted(self.noun.fields.items())}, escape_html=True)


class Headers(Context):
    """The row above the rows: each field is its header."""

    kind = "formatter.SubHeaderContext"

    def __init__(self, noun: Noun) -> None:
        self._noun = noun

    def field(self, name: str) -> Any:
        if name in self._noun.fields:
            return self._noun.fields[name][0]
        if name == "Label":
            return lambda label: label.rpartition(".")[2].replace("-", " ").replace("_", " ")
        return None if name not in self._noun.calls else (lambda *_: name)

    def to_json(self) -> str:
        return "{}"


def print_by_template(out: Output, noun: Noun, rows: Sequence[Any], template: str) -> None:
    """Prints rows by a template, `json`, or `table TEMPLATE`. Raises CommandFailure."""
    is_table = template.startswith("table")
    source = template.removeprefix("table") if is_table else "{{json .}}" if template == "json" else template
    source = source.strip(" ").replace("\\t", "\t").replace("\\n", "\n")
    compiled = compile_template(source)
    try:
        lines = [compiled.render(Row(noun, row)) + "\n" for row in rows]
        if not is_table:
            out.write("".join(lines))
            return
        header = compiled.render(Headers(noun), header=True) + "\n"
    except TemplateError as error:
        raise refuse(str(error)) from None
    out.write(align(header + "".join(lines)))


def compile_template(source: str) -> Template:
    """Parses a template. Raises CommandFailure with Docker's text."""
    try:
        return parse_template(source)
    except TemplateError as error:
        raise refuse(str(error)) from None
