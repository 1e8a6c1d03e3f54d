"""``--call``: what a method of the Dockerfile front end gave, as BuildKit's tools show it, or as its document (``format=json``)."""

from __future__ import annotations

from carrack.cli.failure import CommandFailure
from carrack.cli.images.build_display import BuildState, show_findings
from carrack.cli.images.build_options import read_fields
from carrack.cli.render.table import align
from carrack.cli.values import read_bool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from carrack.cli.console import Output
    from carrack.cli.flags import Parsed

_METHODS = {"lint": "check", "": "build"}
KNOWN = ("build", "check", "outline", "targets", "subrequests.describe")


class Call:
    """What is asked for: `method`, "build" for a build."""

    __slots__ = ("as_json", "ignore_status", "method")

    def __init__(self, method: str, *, as_json: bool = False, ignore_status: bool = False) -> None:
        self.method = method
        self.as_json = as_json
        self.ignore_status = ignore_status


def read_call(parsed: Parsed) -> Call:
    """``--call METHOD[,format=json][,ignorestatus=true]``, and ``--check``. Raises CommandFailure."""
    method, _, rest = parsed.text("call").partition(",")
    if "=" in method:
        raise CommandFailure(f"invalid call {parsed.text('call')!r}: want a method first")
    method = "check" if parsed.flag("check") else _METHODS.get(method, method)
    if method not in KNOWN:
        raise CommandFailure(f"--call {method} is not supported: want one of {', '.join(KNOWN)}")
    fields = read_fields(rest, "call") if rest else {}
    form = fields.pop("format", "")
    ignore = fields.pop("ignorestatus", "false")
    if fields or form not in ("", "json", "text", "txt"):
        raise CommandFailure(f"invalid call {parsed.text('call')!r}: want format=json or ignorestatus=true")
    try:
        return Call(method, as_json=form == "json", ignore_status=read_bool(ignore))
    except ValueError as error:
        raise CommandFailure(f"invalid value of ignorestatus: {error}") from None


def show(out: Output, call: Call, state: BuildState) -> None:
    """Print the answer. Raises CommandFailure when a check has found something."""
    if call.as_json:
        import json

        out.line(json.dumps(state.answer, indent=2, ensure_ascii=False))
    elif call.method == "check":
        count = len(state.warnings)
        if not count:
            out.line("Check complete, no warnings found.")
        else:
            out.line(f"Check complete, {count} warning{'s have' if count > 1 else ' has'} been found!")
            out.line()
            show_findings(out, state.warnings)
    elif call.method == "outline":
        _outline(out, state.answer)
    elif call.method == "targets":
        rows = [
            (f"{each.get('name', '')}{' (default)' * bool(each.get('default'))}".strip(), each.get("description", ""))
            for each in state.answer["targets"]
        ]
        out.write(_table(("TARGET", "DESCRIPTION"), rows))
    else:
        rows_of_methods = [
            (each["name"].removeprefix("frontend."), each["version"], each["description"]) for each in state.answer["methods"]
        ]
        out.write(_table(("NAME", "VERSION", "DESCRIPTION"), rows_of_methods))
    out.flush()
    if call.method == "check" and state.warnings and not call.ignore_status:
        raise CommandFailure("", 1)


def _outline(out: Output, answer: dict[str, Any]) -> None:
    if answer.get("name") or answer.get("description"):
        out.write(align(f"TARGET:\t{answer.get('name', '')}\nDESCRIPTION:\t{answer.get('description', '')}\n"))
        out.line()
    if answer.get("args"):
        rows = [(each["name"], each.get("value", ""), each.get("description", "")) for each in answer["args"]]
        out.write(_table(("BUILD ARG", "VALUE", "DESCRIPTION"), rows))
        out.line()
    for title, key in (("SECRET", "secrets"), ("SSH", "ssh")):
        if answer.get(key):
            out.write(_table((title, "REQUIRED"), [(each["name"], "true" * bool(each.get("required"))) for each in answer[key]]))
            out.line()
    if answer.get("cache"):
        out.write(_table(("CACHE MOUNT",), [(each["ID"],) for each in answer["cache"]]))
        out.line()


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return align("".join("\t".join(row) + "\n" for row in (head, *rows)))
