"""`carrack events`."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.failure import CommandFailure
from carrack.cli.filters import filters_query
from carrack.cli.inspection import wrap
from carrack.cli.render.units import rfc3339_nano
from carrack.cli.times import api_timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

_EMPTY: dict[str, Any] = {"Type": "", "Action": "", "Actor": {"ID": "", "Attributes": {}}, "scope": "", "time": 0, "timeNano": 0}


def show_event(event: dict[str, Any]) -> str:
    """One line: time, kind, action, id and the attributes in order of name."""
    actor = event.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    nanoseconds = event.get("timeNano") or (event.get("time") or 0) * 10**9
    line = f"{rfc3339_nano(nanoseconds)} " if nanoseconds else ""
    line += f"{event.get('Type', '')} {event.get('Action', '')} {actor.get('ID', '')}"
    if attributes:
        line += " (" + ", ".join([f"{key}={attributes[key]}" for key in sorted(attributes)]) + ")"
    return line


def _printer(template: str) -> Callable[[dict[str, Any]], str]:
    if not template:
        return show_event
    from carrack.cli.render.template import TemplateError, parse_template

    try:
        compiled = parse_template("{{json .}}" if template == "json" else template)
        compiled.render(wrap(_with_go_names(_EMPTY)), strict=True)
    except TemplateError as error:
        raise CommandFailure(f"Error parsing format: {error}", 64) from None
    return lambda event: compiled.render(wrap(event) if template in ("json", "{{json .}}") else wrap(_with_go_names(event)))


def _with_go_names(event: dict[str, Any]) -> dict[str, Any]:
    """Docker's own type spells four fields in capitals that are small in JSON."""
    return {
        **event,
        "Scope": event.get("scope"),
        "Time": event.get("time"),
        "TimeNano": event.get("timeNano"),
        "ID": event.get("id", ""),
        "Status": event.get("status", ""),
        "From": event.get("from", ""),
    }


def _events(session: Session, parsed: Parsed) -> None:
    printer = _printer(parsed.text("format"))
    query = filters_query(parsed.filters())
    for flag in ("since", "until"):
        if parsed.text(flag):
            try:
                query[flag] = api_timestamp(parsed.text(flag))
            except ValueError as error:
                raise CommandFailure(str(error)) from None
    with session.engine.request("GET", "/events", query) as response:
        for event in response.documents():
            session.out.line(printer(event))
            session.out.flush()


COMMANDS = (
    Command(
        "system events",
        "[OPTIONS]",
        "Watch what happens in the daemon",
        _events,
        at_most=0,
        aliases="system events, events",
        flags="""
        -f, --filter filter Show only what matches (e.g. "type=container")
            --format string Print with a template: 'json' or 'TEMPLATE'
            --since string  From this time on
            --until string  Up to this time
        """,
    ),
)
