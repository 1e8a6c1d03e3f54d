"""`carrack system df`."""

from __future__ import annotations

import time

from carrack.cli.command import Command
from carrack.cli.containers.list import NOUN as CONTAINER_NOUN
from carrack.cli.containers.list import Row as ContainerRow
from carrack.cli.images.list import NONE, is_dangling
from carrack.cli.images.list import NOUN as IMAGE_NOUN
from carrack.cli.images.list import Row as ImageRow
from carrack.cli.images.names import parse_name
from carrack.cli.render.noun import Noun
from carrack.cli.render.rows import print_rows, table
from carrack.cli.render.units import human_duration, human_size, local_time, parse_rfc3339, short_id
from carrack.cli.volumes import NOUN as VOLUME_NOUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

_ACTIVE = ("running", "paused", "restarting")


class Row:
    """One kind of object: how many, how many in use, how much, how much of it could go."""

    __slots__ = ("active", "kind", "reclaimable", "size", "total")

    def __init__(self, kind: str, total: int, active: int, size: int, reclaimable: int, *, percent: bool = True) -> None:
        self.kind = kind
        self.total = str(total)
        self.active = str(active)
        self.size = human_size(size)
        share = f" ({int(reclaimable * 100 / size)}%)" if size > 0 and percent else ""
        self.reclaimable = human_size(reclaimable) + share


NOUN = Noun(
    "*formatter.diskUsageContext",
    {
        "Type": ("TYPE", lambda row: row.kind),
        "TotalCount": ("TOTAL", lambda row: row.total),
        "Active": ("ACTIVE", lambda row: row.active),
        "Size": ("SIZE", lambda row: row.size),
        "Reclaimable": ("RECLAIMABLE", lambda row: row.reclaimable),
    },
)


def _image_row(usage: dict[str, Any]) -> Row:
    images, size = usage.get("Images") or [], usage.get("LayersSize") or 0
    used = sum(
        [
            image["Size"] - image["SharedSize"]
            for image in images
            if image.get("Containers", 0) != 0 and image.get("Size", -1) != -1 and image.get("SharedSize", -1) != -1
        ]
    )
    return Row("Images", len(images), len([image for image in images if image.get("Containers", 0) > 0]), size, size - used)


def _container_row(usage: dict[str, Any]) -> Row:
    containers = usage.get("Containers") or []
    idle = [container for container in containers if container.get("State") not in _ACTIVE]

    def size_of(some: list[dict[str, Any]]) -> int:
        return sum([container.get("SizeRw") or 0 for container in some])

    return Row("Containers", len(containers), len(containers) - len(idle), size_of(containers), size_of(idle))


def _volume_row(usage: dict[str, Any]) -> Row:
    uses = [volume.get("UsageData") or {"RefCount": 0, "Size": -1} for volume in usage.get("Volumes") or []]
    known = [use for use in uses if use["Size"] != -1]
    size = sum([use["Size"] for use in known])
    reclaimable = sum([use["Size"] for use in known if use["RefCount"] == 0])
    return Row("Local Volumes", len(uses), len([use for use in uses if use["RefCount"] > 0]), size, reclaimable)


def _cache_row(usage: dict[str, Any]) -> Row:
    records = usage.get("BuildCache") or []
    size = _cache_size(records)
    used = sum([record.get("Size", 0) for record in records if record.get("InUse") and not record.get("Shared")])
    return Row(
        "Build Cache", len(records), len([record for record in records if record.get("InUse")]), size, size - used, percent=False
    )


def _cache_size(records: list[dict[str, Any]]) -> int:
    return sum([record.get("Size", 0) for record in records if not record.get("Shared")])


def _since(text: str | None, now: float) -> str:
    return human_duration(now - parse_rfc3339(text)[0]) + " ago" if text else ""


def _at(text: str | None) -> str:
    return local_time(*parse_rfc3339(text)) if text else ""


CACHE_NOUN = Noun(
    "*formatter.buildCacheContext",
    {
        "ID": ("CACHE ID", lambda pair: short_id(pair[0]["ID"]) + ("*" if pair[0].get("InUse") else "")),
        "Parent": ("PARENT", lambda pair: short_id(", ".join(pair[0].get("Parents") or [pair[0].get("Parent") or ""]))),
        "CacheType": ("CACHE TYPE", lambda pair: pair[0].get("Type") or ""),
        "Description": ("DESCRIPTION", lambda pair: pair[0].get("Description") or ""),
        "Size": ("SIZE", lambda pair: human_size(pair[0].get("Size") or 0, 3)),
        "CreatedAt": ("CREATED AT", lambda pair: _at(pair[0].get("CreatedAt"))),
        "CreatedSince": ("CREATED", lambda pair: _since(pair[0].get("CreatedAt"), pair[1])),
        "LastUsedAt": ("LAST USED AT", lambda pair: _at(pair[0].get("LastUsedAt"))),
        "LastUsedSince": ("LAST USED", lambda pair: _since(pair[0].get("LastUsedAt"), pair[1])),
        "UsageCount": ("USAGE", lambda pair: str(pair[0].get("UsageCount") or 0)),
        "InUse": ("IN USE", lambda pair: "true" if pair[0].get("InUse") else "false"),
        "Shared": ("SHARED", lambda pair: "true" if pair[0].get("Shared") else "false"),
    },
)


def _print_verbose(session: Session, usage: dict[str, Any], template: str) -> None:
    now = time.time()
    truncate = template in ("", "table")
    images = [_first_name(image, now, truncate=truncate) for image in usage.get("Images") or []]
    containers = [
        ContainerRow({**container, "SizeRootFs": 0}, now, truncate=truncate) for container in usage.get("Containers") or []
    ]
    volumes = usage.get("Volumes") or []
    records = usage.get("BuildCache") or []
    records.sort(key=lambda record: (record.get("LastUsedAt") or "", record["ID"]))
    cache = [(record, now) for record in records]
    if not truncate:
        from carrack.cli.render.formats import Row as TemplateRow
        from carrack.cli.render.formats import compile_template
        from carrack.cli.render.noun import refuse
        from carrack.cli.render.template import TemplateError

        value = {
            "Images": [TemplateRow(IMAGE_NOUN, row) for row in images],
            "Containers": [TemplateRow(CONTAINER_NOUN, row) for row in containers],
            "Volumes": [TemplateRow(VOLUME_NOUN, row) for row in volumes],
            "BuildCache": [TemplateRow(CACHE_NOUN, row) for row in cache],
        }
        try:
            session.out.write(compile_template("{{json .}}" if template == "json" else template).render(value))
        except TemplateError as error:
            raise refuse(str(error)) from None
        return
    out = session.out
    out.write("Images space usage:\n\n")
    out.write(
        table(IMAGE_NOUN, images, ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"))
    )
    out.write("\nContainers space usage:\n\n")
    out.write(
        table(CONTAINER_NOUN, containers, ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"))
    )
    out.write("\nLocal Volumes space usage:\n\n")
    out.write(table(VOLUME_NOUN, volumes, ("Name", "Links", "Size")))
    out.write(f"\nBuild cache usage: {human_size(_cache_size(records))}\n\n")
    out.write(table(CACHE_NOUN, cache, ("ID", "CacheType", "Size", "CreatedSince", "LastUsedSince", "UsageCount", "Shared")))


def _first_name(image: dict[str, Any], now: float, *, truncate: bool) -> ImageRow:
    repository = tag = NONE
    if image.get("RepoTags") and not is_dangling(image):
        name = parse_name(image["RepoTags"][0])
        repository, tag = name.familiar_name, name.tag
    return ImageRow(image, repository, tag, "", now=now, truncate=truncate)


def _df(session: Session, parsed: Parsed) -> None:
    usage = session.engine.json("GET", "/system/df")
    template = parsed.text("format")
    if parsed.flag("verbose"):
        _print_verbose(session, usage, template)
        return
    if template == "raw":
        template = "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n"
    rows = [_image_row(usage), _container_row(usage), _volume_row(usage), _cache_row(usage)]
    print_rows(session.out, NOUN, rows, template=template, columns=("Type", "TotalCount", "Active", "Size", "Reclaimable"))


COMMANDS = (
    Command(
        "system df",
        "[OPTIONS]",
        "Print how much disk space is used",
        _df,
        at_most=0,
        flags="""
            --format string Print with a template: 'table' (the default), 'table TEMPLATE', 'json' or 'TEMPLATE'
        -v, --verbose bool  Print every object
        """,
    ),
)
