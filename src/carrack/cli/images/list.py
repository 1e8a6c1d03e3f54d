"""`carrack images`: one line per tag, or per digest, of each image."""

from __future__ import annotations

import time

from carrack.cli.command import Command
from carrack.cli.failure import PROGRAM, CommandFailure
from carrack.cli.filters import filters_query
from carrack.cli.images.names import Name, parse_name
from carrack.cli.render.noun import Noun
from carrack.cli.render.rows import print_rows
from carrack.cli.render.units import human_duration, human_size, local_time, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

NONE = "<none>"
_SUBCOMMANDS = ("build", "history", "import", "inspect", "list", "load", "ls", "prune", "pull", "push", "rm", "save", "tag")


class Row:
    """One line: an image under one of its names."""

    __slots__ = ("digest", "image", "now", "repository", "tag", "truncate")

    def __init__(self, image: dict[str, Any], repository: str, tag: str, digest: str, *, now: float, truncate: bool) -> None:
        self.image = image
        self.repository = repository
        self.tag = tag
        self.digest = digest
        self.now = now
        self.truncate = truncate


def rows_of(image: dict[str, Any], *, now: float, truncate: bool, digest_rows: bool, need_digest: bool) -> list[Row]:
    """The lines an image has in the list."""

    def row(repository: str, tag: str, digest: str) -> Row:
        return Row(image, repository, tag, digest, now=now, truncate=truncate)

    tags, digests = image.get("RepoTags") or [], image.get("RepoDigests") or []
    if is_dangling(image):
        return [row(NONE, NONE, NONE)]
    by_repository: dict[str, list[str]] = {}
    digests_of: dict[str, list[str]] = {}
    for text in tags:
        name = _parsed(text)
        if name and name.tag:
            by_repository.setdefault(name.familiar_name, []).append(name.tag)
    for text in digests:
        name = _parsed(text)
        if name and name.digest:
            digests_of.setdefault(name.familiar_name, []).append(name.digest)
    rows: list[Row] = []
    for repository, names in by_repository.items():
        known = digests_of.pop(repository, [])
        for tag in names:
            rows.extend(
                [row(repository, tag, digest) for digest in known] if need_digest and known else [row(repository, tag, NONE)]
            )
    for repository, known in digests_of.items():
        rows.extend([row(repository, NONE, digest) for digest in known] if digest_rows else [row(repository, NONE, "")])
    return rows


def is_dangling(image: dict[str, Any]) -> bool:
    """Whether no name leads to the image."""
    tags, digests = image.get("RepoTags") or [], image.get("RepoDigests") or []
    return (not tags and not digests) or (tags == ["<none>:<none>"] and digests == ["<none>@<none>"])


def _parsed(text: str) -> Name | None:
    try:
        return parse_name(text)
    except ValueError:
        return None


def _list(session: Session, parsed: Parsed) -> None:
    match = parsed.arguments[0] if parsed.arguments else ""
    filters = parsed.filters()
    if match:
        filters.setdefault("reference", []).append(match)
    query: dict[str, str] = {"all": "1"} if parsed.flag("all") else {}
    query |= filters_query(filters)
    if parsed.flag("tree"):
        _check_tree(parsed)
        query["manifests"] = "1"
    images = session.engine.json("GET", "/images/json", query) or []
    if parsed.flag("tree"):
        from carrack.cli.images.tree import print_tree

        print_tree(session.out, images, show_all=parsed.flag("all"))
        return
    quiet, digests = parsed.flag("quiet"), parsed.flag("digests")
    template = parsed.text("format") or ("" if quiet else session.config.text("imagesFormat"))
    if template.startswith("table ") and digests and "{{.Digest}}" not in template:
        template += "\t{{.Digest}}"
    if template == "raw":
        template = (
            "image_id: {{.ID}}"
            if quiet
            else _RAW.replace("tag: {{.Tag}}\n", "tag: {{.Tag}}\ndigest: {{.Digest}}\n")
            if digests
            else _RAW
        )
    now = time.time()
    rows: list[Row] = []
    for image in images:
        need = digests or "{{.Digest}}" in template
        rows.extend(rows_of(image, now=now, truncate=not parsed.flag("no-trunc"), digest_rows=digests, need_digest=need))
    columns = (
        ("Repository", "Tag", "Digest", "ID", "CreatedSince", "Size")
        if digests
        else ("Repository", "Tag", "ID", "CreatedSince", "Size")
    )
    print_rows(session.out, NOUN, rows, template=template, columns=columns, quiet="ID" if quiet else "")
    if match in _SUBCOMMANDS and not images:
        session.err.line(f'\nNo images found matching "{match}": did you mean "{PROGRAM} image {match}"?')


def _check_tree(parsed: Parsed) -> None:
    for flag, name in (("quiet", "quiet"), ("no-trunc", "no-trunc"), ("digests", "show-digest")):
        if parsed.flag(flag):
            raise CommandFailure(f"--{name} is not yet supported with --tree")
    if parsed.text("format"):
        raise CommandFailure("--format is not yet supported with --tree")


_RAW = """repository: {{ .Repository }}
tag: {{.Tag}}
image_id: {{.ID}}
created_at: {{.CreatedAt}}
virtual_size: {{.Size}}
"""


def _unique(row: Row) -> str:
    size, shared = row.image.get("Size", -1), row.image.get("SharedSize", -1)
    return "N/A" if -1 in (size, shared) else human_size(size - shared)


NOUN = Noun(
    "*formatter.imageContext",
    {
        "ID": ("IMAGE ID", lambda row: short_id(row.image["Id"]) if row.truncate else row.image["Id"]),
        "Repository": ("REPOSITORY", lambda row: row.repository),
        "Tag": ("TAG", lambda row: row.tag),
        "Digest": ("DIGEST", lambda row: row.digest),
        "CreatedSince": ("CREATED", lambda row: human_duration(row.now - (row.image.get("Created") or 0)) + " ago"),
        "CreatedAt": ("CREATED AT", lambda row: local_time(row.image.get("Created") or 0)),
        "Size": ("SIZE", lambda row: human_size(row.image.get("Size") or 0, 3)),
        "Containers": ("CONTAINERS", lambda row: "N/A" if row.image.get("Containers", -1) == -1 else str(row.image["Containers"])),
        "VirtualSize": ("SIZE", lambda row: human_size(row.image.get("Size") or 0)),
        "SharedSize": (
            "SHARED SIZE",
            lambda row: "N/A" if row.image.get("SharedSize", -1) == -1 else human_size(row.image["SharedSize"]),
        ),
        "UniqueSize": ("UNIQUE SIZE", _unique),
    },
)

COMMANDS = (
    Command(
        "image ls",
        "[OPTIONS] [REPOSITORY[:TAG]]",
        "List images",
        _list,
        at_most=1,
        aliases="image ls, image list, images",
        flags="""
        -a, --all bool      Show all images (default hides intermediate images)
            --digests bool  Print digests
        -f, --filter filter Show only what matches (e.g. "dangling=true")
            --format string Print with a template: 'table' (the default), 'table TEMPLATE', 'json' or 'TEMPLATE'
            --no-trunc bool Print ids whole
        -q, --quiet bool    Print ids only
            --tree bool@1.47     Print the platforms of each image as a tree
        """,
    ),
)
