"""Tasks as tables: what `node ps`, `service ps` and `stack ps` print. A service's newest task comes first in each slot."""

from __future__ import annotations

import time

from carrack.cli.containers.look import natural_key
from carrack.cli.render.noun import Noun
from carrack.cli.render.rows import print_rows
from carrack.cli.render.units import human_duration, parse_rfc3339
from carrack.client.failure import ApiError
from carrack.client.http import percent_encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

TASK_FLAGS = """
    -f, --filter filter Show only what matches (e.g. "desired-state=running")
        --format string Print with a template: 'table' (the default), 'table TEMPLATE', 'json' or 'TEMPLATE'
        --no-resolve bool Print ids instead of names
        --no-trunc bool Print everything whole
    -q, --quiet bool    Print ids only
"""
_MAX_ERROR = 30


class Names:
    """Names of services and nodes by id; each is asked for once. With `resolve` false an id is its own name."""

    def __init__(self, session: Session, *, resolve: bool) -> None:
        self._session = session
        self._resolve = resolve
        self._found: dict[str, str] = {}

    def service(self, identity: str) -> str:
        """A service's name."""
        return self._name(f"/services/{percent_encode(identity)}", identity, ("Spec", "Name"))

    def node(self, identity: str) -> str:
        """A node's own name, else its host name."""
        return self._name(f"/nodes/{percent_encode(identity)}", identity, ("Spec", "Name"), ("Description", "Hostname"))

    def _name(self, path: str, identity: str, *places: tuple[str, str]) -> str:
        if not self._resolve or not identity:
            return identity
        if path not in self._found:
            self._found[path] = identity
            try:
                document = self._session.engine.json("GET", path)
            except ApiError:
                return identity
            for outer, inner in places:
                name = (document.get(outer) or {}).get(inner)
                if name:
                    self._found[path] = str(name)
                    break
        return self._found[path]


class Row:
    """One task with what the command line says about showing it."""

    __slots__ = ("name", "node", "task", "truncate")

    def __init__(self, task: dict[str, Any], name: str, node: str, *, truncate: bool) -> None:
        self.task = task
        self.name = name
        self.node = node
        self.truncate = truncate


def _image(row: Row) -> str:
    image = str(((row.task.get("Spec") or {}).get("ContainerSpec") or {}).get("Image") or "")
    if not row.truncate:
        return image
    name, _, digest = image.partition("@")
    return name if ":" in name.rpartition("/")[2] or not digest else image


def _current_state(row: Row) -> str:
    status = row.task.get("Status") or {}
    try:
        ago = human_duration(time.time() - parse_rfc3339(status.get("Timestamp") or "")[0])
    except ValueError:
        ago = "Less than a second"
    return f"{str(status.get('State') or '').capitalize()} {ago.lower()} ago"


def _error(row: Row) -> str:
    text = str((row.task.get("Status") or {}).get("Err") or "")
    if row.truncate and len(text) > _MAX_ERROR:
        text = text[: _MAX_ERROR - 1] + "…"
    return f'"{text}"' if text else ""


def _ports(row: Row) -> str:
    ports = ((row.task.get("Status") or {}).get("PortStatus") or {}).get("Ports") or ()
    return ",".join([f"*:{port.get('PublishedPort', 0)}->{port.get('TargetPort', 0)}/{port.get('Protocol', '')}" for port in ports])


NOUN = Noun(
    "*task.taskContext",
    {
        "ID": ("ID", lambda row: row.task["ID"][:12] if row.truncate else row.task["ID"]),
        "Name": ("NAME", lambda row: row.name),
        "Image": ("IMAGE", _image),
        "Node": ("NODE", lambda row: row.node),
        "DesiredState": ("DESIRED STATE", lambda row: str(row.task.get("DesiredState") or "").capitalize()),
        "CurrentState": ("CURRENT STATE", _current_state),
        "Error": ("ERROR", _error),
        "Ports": ("PORTS", _ports),
    },
)


def print_tasks(session: Session, parsed: Parsed, tasks: list[dict[str, Any]], *, whole_ids: bool = False) -> None:
    """Prints tasks, those of a slot together, the newest first and named, the older ones drawn under it.

    `whole_ids` says how --quiet prints them.
    """
    quiet = parsed.flag("quiet")
    truncate = not parsed.flag("no-trunc")
    template = parsed.text("format") or ("" if quiet else session.config.text("tasksFormat"))
    names = Names(session, resolve=not parsed.flag("no-resolve"))
    named: list[tuple[str, dict[str, Any]]] = []
    for task in tasks:
        service = names.service(str(task.get("ServiceID") or ""))
        slot = task.get("Slot") or task.get("NodeID") or ""
        named.append((f"{service}.{slot}" if service else "", task))
    named.sort(key=lambda pair: str(pair[1].get("CreatedAt") or ""), reverse=True)
    named.sort(key=lambda pair: (natural_key(pair[0].rpartition(".")[0]), natural_key(pair[0])))
    as_table = template == "" or template.startswith("table")
    rows: list[Row] = []
    before = ""
    for name, task in named:
        shown = f" \\_ {name}" if name == before and as_table else name
        rows.append(Row(task, shown, names.node(str(task.get("NodeID") or "")), truncate=truncate))
        before = name
    columns = ("ID", "Name", "Image", "Node", "DesiredState", "CurrentState", "Error", "Ports")
    if quiet and whole_ids:
        for row in rows:
            row.truncate = False
    print_rows(session.out, NOUN, rows, template=template, columns=columns, quiet="ID" if quiet else "")
