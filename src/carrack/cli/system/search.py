"""`carrack search`."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.filters import filters_query
from carrack.cli.images.names import HUB_SERVER
from carrack.cli.logins import header_for
from carrack.cli.render.noun import Noun
from carrack.cli.render.rows import print_rows
from carrack.cli.render.units import ellipsis

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

    Row = tuple[dict[str, Any], bool]


def _description(row: Row) -> str:
    text = (row[0].get("description") or "").replace("\n", " ").replace("\r", " ")
    return ellipsis(text, 45) if row[1] else text


NOUN = Noun(
    "*registry.searchContext",
    {
        "Name": ("NAME", lambda row: row[0]["name"]),
        "Description": ("DESCRIPTION", _description),
        "StarCount": ("STARS", lambda row: str(row[0].get("star_count") or 0)),
        "IsOfficial": ("OFFICIAL", lambda row: "[OK]" if row[0].get("is_official") else ""),
        "IsAutomated": ("AUTOMATED", lambda row: "[OK]" if row[0].get("is_automated") else ""),
    },
)


def _search(session: Session, parsed: Parsed) -> None:
    term = parsed.arguments[0]
    query = {"term": term, **filters_query(parsed.filters())}
    if parsed.number("limit") > 0:
        query["limit"] = str(parsed.number("limit"))
    first, slash, _ = term.partition("/")
    server = first if slash and ("." in first or ":" in first or first == "localhost") else HUB_SERVER
    results = session.engine.json("GET", "/images/search", query, headers={"X-Registry-Auth": header_for(session.config, server)})
    rows = [(result, not parsed.flag("no-trunc")) for result in results or ()]
    print_rows(session.out, NOUN, rows, template=parsed.text("format"), columns=("Name", "Description", "StarCount", "IsOfficial"))


COMMANDS = (
    Command(
        "search",
        "[OPTIONS] TERM",
        "Search Docker Hub for images",
        _search,
        at_least=1,
        at_most=1,
        flags="""
        -f, --filter filter Show only what matches (e.g. "is-official=true")
            --format string Print with a template: 'table' (the default), 'table TEMPLATE', 'json' or 'TEMPLATE'
            --limit int     Most results to ask for
            --no-trunc bool Print descriptions whole
        """,
    ),
)
