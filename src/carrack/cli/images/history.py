"""`carrack history`."""

from __future__ import annotations

import time

from carrack.cli.command import Command
from carrack.cli.failure import CommandFailure
from carrack.cli.images.platforms import platform_document
from carrack.cli.images.remove import image_path
from carrack.cli.render.noun import Noun
from carrack.cli.render.rows import print_rows
from carrack.cli.render.units import ellipsis, human_duration, human_size, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

YEAR_2000 = 946684800
"""Builds that want to be reproducible date their layers before this: an age in years would say nothing."""


class Row:
    """One step of an image's history."""

    __slots__ = ("human", "now", "step", "truncate")

    def __init__(self, step: dict[str, Any], *, now: float, human: bool, truncate: bool) -> None:
        self.step = step
        self.now = now
        self.human = human
        self.truncate = truncate


def _created_at(row: Row) -> str:
    moment = time.localtime(row.step["Created"])
    offset = time.strftime("%z", moment)
    return time.strftime("%Y-%m-%dT%H:%M:%S", moment) + ("Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}")


def _created_since(row: Row) -> str:
    if not row.human:
        return _created_at(row)
    return "N/A" if row.step["Created"] <= YEAR_2000 else human_duration(row.now - row.step["Created"]) + " ago"


def _created_by(row: Row) -> str:
    text = (row.step.get("CreatedBy") or "").replace("\t", " ")
    return ellipsis(text, 45) if row.truncate else text


NOUN = Noun(
    "*image.historyContext",
    {
        "ID": ("IMAGE", lambda row: short_id(row.step["Id"]) if row.truncate else row.step["Id"]),
        "CreatedSince": ("CREATED", _created_since),
        "CreatedAt": ("CREATED AT", _created_at),
        "CreatedBy": ("CREATED BY", _created_by),
        "Size": ("SIZE", lambda row: human_size(row.step.get("Size") or 0, 3) if row.human else str(row.step.get("Size") or 0)),
        "Comment": ("COMMENT", lambda row: row.step.get("Comment") or ""),
    },
)


def _history(session: Session, parsed: Parsed) -> None:
    query: dict[str, str] = {}
    if parsed.text("platform"):
        if not session.engine.speaks("1.48"):
            raise CommandFailure(
                f'"platform" requires API version 1.48, but the Docker daemon API version is {session.engine.version}'
            )
        query["platform"] = platform_document(parsed.text("platform"))
    steps = session.engine.json("GET", image_path(parsed.arguments[0], "/history"), query)
    now = time.time()
    rows = [Row(step, now=now, human=parsed.flag("human"), truncate=not parsed.flag("no-trunc")) for step in steps or ()]
    since = "CreatedSince" if parsed.flag("human") else "CreatedAt"
    columns = ("ID", since, "CreatedBy", "Size", "Comment")
    print_rows(session.out, NOUN, rows, template=parsed.text("format"), columns=columns, quiet="ID" if parsed.flag("quiet") else "")


COMMANDS = (
    Command(
        "image history",
        "[OPTIONS] IMAGE",
        "Print how an image was made",
        _history,
        at_least=1,
        at_most=1,
        aliases="image history, history",
        flags="""
            --format string   Print with a template: 'table' (the default), 'table TEMPLATE', 'json' or 'TEMPLATE'
        -H, --human bool=true Print sizes and dates for people
            --no-trunc bool   Print commands whole
            --platform string@1.48 Print the history of one platform (e.g. "linux/amd64")
        -q, --quiet bool      Print ids only
        """,
    ),
)
