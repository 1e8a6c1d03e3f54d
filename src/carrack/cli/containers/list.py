"""`carrack ps`: the list of containers. The shortest path of the program; every import here is counted."""

from __future__ import annotations

import time

from carrack.cli.command import Command
from carrack.cli.failure import CommandFailure
from carrack.cli.filters import filters_query
from carrack.cli.render.noun import Noun
from carrack.cli.render.rows import check_quiet, print_rows
from carrack.cli.render.units import ellipsis, human_duration, human_size, short_id
from carrack.cli.values import go_quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


class Row:
    """One container of the list, with what the command line says about showing it."""

    __slots__ = ("container", "now", "truncate")

    def __init__(self, container: dict[str, Any], now: float, *, truncate: bool) -> None:
        self.container = container
        self.now = now
        self.truncate = truncate


def _list(session: Session, parsed: Parsed) -> None:
    template = parsed.text("format")
    quiet = parsed.flag("quiet")
    session.err.write(check_quiet(quiet, template))
    template = template or session.config.text("psFormat")
    size = parsed.flag("size")
    if parsed.changed("format"):
        size = _wants_size(template, size or parsed.changed("size") or quiet, size)
    query: dict[str, str] = {}
    if parsed.flag("all"):
        query["all"] = "1"
    last = parsed.number("last")
    if parsed.flag("latest") and last == -1:
        last = 1
    if last > 0:
        query["limit"] = str(last)
    if size:
        query["size"] = "1"
    query |= filters_query(parsed.filters())
    containers = session.engine.json("GET", "/containers/json", query)
    now = time.time()
    rows = [Row(container, now, truncate=not parsed.flag("no-trunc")) for container in containers or ()]
    if template == "raw":
        template = _RAW_QUIET if quiet else _RAW + ("size: {{.Size}}\n" if size else "")
        quiet = False
    columns = (*COLUMNS, "Size") if size else COLUMNS
    print_rows(session.out, NOUN, rows, template=template, columns=columns, quiet="ID" if quiet else "")


_RAW_QUIET = "container_id: {{.ID}}"
_RAW = """container_id: {{.ID}}
image: {{.Image}}
command: {{.Command}}
created_at: {{.CreatedAt}}
state: {{- pad .State 1 0}}
status: {{- pad .Status 1 0}}
names: {{.Names}}
labels: {{- pad .Labels 1 0}}
ports: {{- pad .Ports 1 0}}
"""


def _wants_size(template: str, settled: bool, size: bool) -> bool:
    """Tries the template on an empty row, as Docker does before it asks the daemon: it may be wrong, and it may name `.Size`."""
    from carrack.cli.render.formats import Row as TemplateRow
    from carrack.cli.render.template import TemplateError, parse_template

    used: list[str] = []

    def note(name: str) -> Callable[[Any], str]:
        def field(_row: Any) -> str:
            used.append(name)
            return ""

        return field

    fields = {name: (header, note(name)) for name, (header, _) in NOUN.fields.items()}
    watched = Noun(NOUN.kind, fields, {"Label": lambda _row, _name: ""})
    try:
        compiled = parse_template(template)
    except TemplateError as error:
        raise CommandFailure(f"failed to parse template: {error}") from None
    try:
        compiled.render(TemplateRow(watched, None))
    except TemplateError as error:
        raise CommandFailure(f"failed to execute template: {error}") from None
    return size if settled else "Size" in used


def _image(row: Row) -> str:
    container = row.container
    name = str(container.get("Image") or "")
    if not name:
        return "<no image>"
    if not row.truncate:
        return name
    image_id = short_id(container.get("ImageID") or "")
    if image_id and image_id == short_id(name):
        return image_id
    bare, at, _ = name.partition("@")
    return bare if at and not name.startswith("sha256:") else name


def names_of(container: dict[str, Any], *, truncate: bool) -> str:
    """The container's names without their slash; shortened, the one that is its own and no link's."""
    names = [str(name)[1:] for name in container.get("Names") or ()]
    if truncate:
        for name in names:
            if "/" not in name:
                return name
    return ",".join(names)


def _command(row: Row) -> str:
    command = row.container.get("Command") or ""
    return go_quote(ellipsis(command, 20) if row.truncate else command)


def _created_at(row: Row) -> str:
    from carrack.cli.render.units import local_time

    return local_time(row.container.get("Created") or 0)


def _size(row: Row) -> str:
    own = human_size(row.container.get("SizeRw") or 0, 3)
    whole = row.container.get("SizeRootFs") or 0
    return f"{own} (virtual {human_size(whole, 3)})" if whole > 0 else own


def _mounts(row: Row) -> str:
    names = [mount.get("Name") or mount.get("Source") or "" for mount in row.container.get("Mounts") or ()]
    return ",".join([ellipsis(name, 15) if row.truncate else name for name in names])


def _platform(row: Row) -> Any:
    platform = (row.container.get("ImageManifestDescriptor") or {}).get("platform")
    return (
        "/".join([part for part in (platform.get("os"), platform.get("architecture"), platform.get("variant")) if part])
        if platform
        else None
    )


def show_ports(ports: list[dict[str, Any]]) -> str:
    """Open ports, neighbours joined to ranges: `0.0.0.0:80->80/tcp, 9000-9001/tcp`."""
    ordered = sorted(
        ports,
        key=lambda port: (port.get("PrivatePort", 0), port.get("IP") or "", port.get("PublicPort", 0), port.get("Type") or ""),
    )
    groups: dict[tuple[str, str], list[int]] = {}
    result: list[str] = []
    moved: list[str] = []
    for port in ordered:
        private, kind, address = port.get("PrivatePort", 0), port.get("Type") or "", port.get("IP") or ""
        if address and port.get("PublicPort", 0) != private:
            moved.append(f"{_host_port(address, str(port.get('PublicPort', 0)))}->{private}/{kind}")
            continue
        group = groups.get((address, kind))
        if group is None:
            groups[address, kind] = [private, private]
        elif private == group[1] + 1:
            group[1] = private
        else:
            result.append(_port_group(address, kind, group))
            groups[address, kind] = [private, private]
    result.extend([_port_group(address, kind, group) for (address, kind), group in groups.items()])
    return ", ".join(result + moved)


def _port_group(address: str, kind: str, group: list[int]) -> str:
    numbers = str(group[0]) if group[0] == group[1] else f"{group[0]}-{group[1]}"
    return f"{_host_port(address, numbers)}->{numbers}/{kind}" if address else f"{numbers}/{kind}"


def _host_port(address: str, port: str) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def show_labels(labels: dict[str, str] | None) -> str:
    """`key=value` pairs in order, with commas."""
    return ",".join(sorted([f"{key}={value}" for key, value in (labels or {}).items()]))


NOUN = Noun(
    "*formatter.ContainerContext",
    {
        "ID": ("CONTAINER ID", lambda row: short_id(row.container["Id"]) if row.truncate else row.container["Id"]),
        "Names": ("NAMES", lambda row: names_of(row.container, truncate=row.truncate)),
        "Image": ("IMAGE", _image),
        "Command": ("COMMAND", _command),
        "CreatedAt": ("CREATED AT", _created_at),
        "RunningFor": ("CREATED", lambda row: human_duration(row.now - (row.container.get("Created") or 0)) + " ago"),
        "Ports": ("PORTS", lambda row: show_ports(row.container.get("Ports") or [])),
        "State": ("STATE", lambda row: row.container.get("State") or ""),
        "Status": ("STATUS", lambda row: row.container.get("Status") or ""),
        "Size": ("SIZE", _size),
        "Labels": ("LABELS", lambda row: show_labels(row.container.get("Labels"))),
        "Mounts": ("MOUNTS", _mounts),
        "LocalVolumes": (
            "LOCAL VOLUMES",
            lambda row: str(len([mount for mount in row.container.get("Mounts") or () if mount.get("Driver") == "local"])),
        ),
        "Networks": ("NETWORKS", lambda row: ",".join((row.container.get("NetworkSettings") or {}).get("Networks") or {})),
        "Platform": ("PLATFORM", _platform),
    },
    {"Label": lambda row, name: (row.container.get("Labels") or {}).get(name, "")},
)

COMMANDS = (
    Command(
        "container ls",
        "[OPTIONS]",
        "List containers",
        _list,
        at_most=0,
        aliases="container ls, container list, container ps, ps",
        flags="""
        -a, --all bool      Show all containers (default shows just running)
        -f, --filter filter Show only what matches (e.g. "status=exited")
            --format string Print with a template: 'table' (the default), 'table TEMPLATE', 'json' or 'TEMPLATE'
        -n, --last int=-1   Show the n containers created last, whatever their state
        -l, --latest bool   Show the container created last, whatever its state
            --no-trunc bool Print ids, images and commands whole
        -q, --quiet bool    Print ids only
        -s, --size bool     Print sizes too
        """,
    ),
)
