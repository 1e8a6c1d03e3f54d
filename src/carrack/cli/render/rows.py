"""Lists of objects as tables, templates or JSON: what `--format` means for every `ls`.

The default table calls the functions of the noun's fields directly; only a custom format pays for the template engine.
"""

from __future__ import annotations

from carrack.cli.render.noun import Noun
from carrack.cli.render.table import align

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from carrack.cli.console import Output


def print_rows(out: Output, noun: Noun, rows: Sequence[Any], *, template: str, columns: Sequence[str], quiet: str = "") -> None:
    """Prints rows by a `--format` text; an empty one means the table of `columns`, or only the field `quiet` if that is named.

    Raises CommandFailure with Docker's text when the template cannot be read or names an unknown field.
    """
    if template in ("", "table"):
        if quiet:
            field = noun.fields[quiet][1]
            for row in rows:
                out.line(field(row))
            return
        out.write(table(noun, rows, columns))
        return
    from carrack.cli.render.formats import print_by_template

    if quiet and not template.startswith("table"):
        template = f"{{{{.{quiet}}}}}"
    print_by_template(out, noun, rows, template)


def table(noun: Noun, rows: Sequence[Any], columns: Sequence[str]) -> str:
    """The default table, headers first."""
    chosen = [noun.fields[name] for name in columns]
    lines = ["\t".join([header for header, _ in chosen])]
    for row in rows:
        lines.append("\t".join([function(row) for _, function in chosen]))
    return align("\n".join(lines) + "\n")


def check_quiet(quiet: bool, template: str) -> str:
    """The warning for --quiet beside --format; empty when there is nothing to warn of."""
    return "WARNING: Ignoring custom format, because both --format and --quiet are set.\n" if quiet and template else ""
