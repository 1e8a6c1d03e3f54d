"""The `node` commands."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.containers.look import natural_key
from carrack.cli.failure import CommandFailure
from carrack.cli.filters import filters_query
from carrack.cli.inspection import FORMAT_FLAG, inspect_each
from carrack.cli.render.noun import Noun
from carrack.cli.render.rows import print_rows
from carrack.cli.render.units import binary_size
from carrack.cli.several import for_every
from carrack.cli.swarm.pretty import Page, moment, show_pages
from carrack.cli.swarm.tasks import TASK_FLAGS, print_tasks
from carrack.client.http import percent_encode
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

    Row = tuple[dict[str, Any], dict[str, Any]]


def resolve_self(session: Session, name: str) -> str:
    """The node a command line names: `self` is the one the daemon is. Raises CommandFailure when it is none."""
    if name != "self":
        return name
    swarm = session.engine.json("GET", "/info").get("Swarm") or {}
    if not swarm.get("NodeID"):
        # the daemon's own refusal says it best
        session.engine.json("GET", "/nodes")
        raise CommandFailure("could not determine the node's id")
    return str(swarm["NodeID"])


def fetch_node(session: Session, name: str) -> bytes:
    """The node's document as the daemon wrote it. Raises ApiError."""
    return session.engine.request("GET", f"/nodes/{percent_encode(resolve_self(session, name))}").read_all()


def _manager_status(node: dict[str, Any]) -> str:
    manager = node.get("ManagerStatus")
    if not manager:
        return ""
    return "Leader" if manager.get("Leader") else str(manager.get("Reachability") or "").capitalize()


def _tls_status(row: Row) -> str:
    node, swarm = row
    wanted = ((swarm.get("Cluster") or {}).get("TLSInfo")) or {}
    tls = (node.get("Description") or {}).get("TLSInfo") or {}
    if not wanted or not tls:
        return "Unknown"
    return "Ready" if tls == wanted else "Needs Rotation"


NOUN = Noun(
    "*node.nodeContext",
    {
        "ID": ("ID", lambda row: row[0]["ID"]),
        "Self": ("", lambda row: row[0]["ID"] == row[1].get("NodeID")),
        "Hostname": ("HOSTNAME", lambda row: (row[0].get("Description") or {}).get("Hostname") or ""),
        "Status": ("STATUS", lambda row: str((row[0].get("Status") or {}).get("State") or "").capitalize()),
        "Availability": ("AVAILABILITY", lambda row: str((row[0].get("Spec") or {}).get("Availability") or "").capitalize()),
        "ManagerStatus": ("MANAGER STATUS", lambda row: _manager_status(row[0])),
        "TLSStatus": ("TLS STATUS", _tls_status),
        "EngineVersion": (
            "ENGINE VERSION",
            lambda row: ((row[0].get("Description") or {}).get("Engine") or {}).get("EngineVersion") or "",
        ),
    },
)

_TABLE = Noun(
    NOUN.kind,
    {**NOUN.fields, "ID": ("ID", lambda row: f"{row[0]['ID']} {'*' if row[0]['ID'] == row[1].get('NodeID') else ' '}")},
)


def _list(session: Session, parsed: Parsed) -> None:
    nodes = session.engine.json("GET", "/nodes", filters_query(parsed.filters())) or []
    quiet = parsed.flag("quiet")
    template = parsed.text("format") or ("" if quiet else session.config.text("nodesFormat"))
    swarm: dict[str, Any] = {}
    if nodes and not quiet:
        swarm = session.engine.json("GET", "/info").get("Swarm") or {}
    nodes.sort(key=lambda node: natural_key((node.get("Description") or {}).get("Hostname") or ""))
    rows = [(node, swarm) for node in nodes]
    columns = ("ID", "Hostname", "Status", "Availability", "ManagerStatus", "EngineVersion")
    noun = _TABLE if template in ("", "table") and not quiet else NOUN
    print_rows(session.out, noun, rows, template=template, columns=columns, quiet="ID" if quiet else "")


def _inspect(session: Session, parsed: Parsed) -> None:
    names = parsed.arguments
    if parsed.flag("pretty"):
        show_pages(session, names, lambda name: fetch_node(session, name), _page)
        return
    inspect_each(session.out, names, parsed.text("format"), lambda name: fetch_node(session, name))


def _page(node: dict[str, Any]) -> str:
    page = Page()
    spec, description = node.get("Spec") or {}, node.get("Description") or {}
    page.put("ID:\t\t\t", node["ID"])
    page.put("Name:\t\t\t", spec.get("Name"))
    page.labels("", spec.get("Labels"))
    page.line("Hostname:              \t", description.get("Hostname"))
    page.line("Joined at:             \t", moment(node.get("CreatedAt")))
    page.line("Status:")
    status = node.get("Status") or {}
    page.line(" State:\t\t\t", str(status.get("State") or "").capitalize())
    page.put(" Message:\t\t", status.get("Message"))
    page.line(" Availability:         \t", str(spec.get("Availability") or "").capitalize())
    page.put(" Address:\t\t", status.get("Addr"))
    manager = node.get("ManagerStatus")
    if manager:
        page.line("Manager Status:")
        page.line(" Address:\t\t", manager.get("Addr"))
        page.line(" Raft Status:\t\t", str(manager.get("Reachability") or "").capitalize())
        page.line(" Leader:\t\t", "Yes" if manager.get("Leader") else "No")
    platform, resources = description.get("Platform") or {}, description.get("Resources") or {}
    page.line("Platform:")
    page.line(" Operating System:\t", platform.get("OS"))
    page.line(" Architecture:\t\t", platform.get("Architecture"))
    page.line("Resources:")
    page.line(" CPUs:\t\t\t", int(resources.get("NanoCPUs") or 0) // 10**9)
    page.line(" Memory:\t\t", binary_size(resources["MemoryBytes"]) if resources.get("MemoryBytes") else "")
    engine = description.get("Engine") or {}
    kinds = {kind: sorted([plugin["Name"] for plugin in engine.get("Plugins") or () if plugin["Type"] == kind]) for kind in _KINDS}
    if engine.get("Plugins"):
        page.line("Plugins:")
        for kind, title in _KINDS.items():
            if kinds[kind]:
                page.line(f" {title}:\t\t", ", ".join(kinds[kind]))
    page.line("Engine Version:\t\t", engine.get("EngineVersion"))
    page.labels("Engine Labels", engine.get("Labels"))
    tls = description.get("TLSInfo") or {}
    if tls.get("TrustRoot"):
        page.line("TLS Info:\n TrustRoot:\n", tls["TrustRoot"])
        page.line(" Issuer Subject:\t", tls.get("CertIssuerSubject"))
        page.line(" Issuer Public Key:\t", tls.get("CertIssuerPublicKey"))
    return page.text()


_KINDS = {"Log": "Log", "Network": "Network", "Volume": "Volume"}


def _tasks(session: Session, parsed: Parsed) -> None:
    tasks: list[dict[str, Any]] = []
    failures: list[str] = []
    for name in parsed.arguments or ["self"]:
        try:
            node = session.engine.json("GET", f"/nodes/{percent_encode(resolve_self(session, name))}")
            filters = {**parsed.filters(), "node": [node["ID"]]}
            tasks += session.engine.json("GET", "/tasks", filters_query(filters)) or []
        except CarrackError as error:
            failures.append(str(error))
    if tasks or not failures:
        print_tasks(session, parsed, tasks)
    if failures:
        raise CommandFailure("\n".join(failures))


def _remove(session: Session, parsed: Parsed) -> None:
    def remove(name: str) -> None:
        session.engine.order("DELETE", f"/nodes/{percent_encode(name)}", {"force": "1"} if parsed.flag("force") else None)
        session.out.line(name)

    for_every(parsed.arguments, remove)


def _send(session: Session, node: dict[str, Any]) -> None:
    session.engine.order(
        "POST", f"/nodes/{percent_encode(node['ID'])}/update", {"version": str(node["Version"]["Index"])}, document=node["Spec"]
    )


def _update(session: Session, parsed: Parsed) -> None:
    name = parsed.arguments[0]
    node = session.engine.json("GET", f"/nodes/{percent_encode(name)}")
    spec = node["Spec"]
    for flag, field in (("role", "Role"), ("availability", "Availability")):
        if parsed.changed(flag):
            spec[field] = parsed.text(flag).lower()
    labels = spec["Labels"] = dict(spec.get("Labels") or {})
    labels.update({key: value for key, _, value in [text.partition("=") for text in parsed.items("label-add")]})
    for key in parsed.items("label-rm"):
        if key not in labels:
            raise CommandFailure(f"key {key} doesn't exist in node's labels")
        del labels[key]
    _send(session, node)
    session.out.line(name)


def _change_role(role: str, done: str) -> Callable[[Session, Parsed], None]:
    def run(session: Session, parsed: Parsed) -> None:
        for name in parsed.arguments:
            node = session.engine.json("GET", f"/nodes/{percent_encode(name)}")
            if (node.get("Spec") or {}).get("Role") == role:
                session.out.line(f"Node {node['ID']} is already a {role}.")
                continue
            node["Spec"]["Role"] = role
            _send(session, node)
            session.out.line(done.format(name))

    return run


COMMANDS = (
    Command(
        "node ls",
        "[OPTIONS]",
        "List the nodes of the swarm",
        _list,
        at_most=0,
        aliases="node ls, node list",
        flags="""
        -f, --filter filter Show only what matches (e.g. "role=manager")
            --format string Print with a template: 'table' (the default), 'table TEMPLATE', 'json' or 'TEMPLATE'
        -q, --quiet bool    Print ids only
        """,
    ),
    Command(
        "node inspect",
        "[OPTIONS] self|NODE [NODE...]",
        "Print everything about nodes",
        _inspect,
        at_least=1,
        flags=FORMAT_FLAG + "\n--pretty bool Print it for reading",
    ),
    Command(
        "node ps",
        "[OPTIONS] [NODE...]",
        "List the tasks of nodes, by default of this one",
        _tasks,
        flags=TASK_FLAGS,
    ),
    Command(
        "node rm",
        "[OPTIONS] NODE [NODE...]",
        "Remove nodes from the swarm",
        _remove,
        at_least=1,
        aliases="node rm, node remove",
        flags="-f, --force bool Remove them even if they have not left",
    ),
    Command(
        "node update",
        "[OPTIONS] NODE",
        "Change a node",
        _update,
        at_least=1,
        at_most=1,
        flags="""
            --availability string Whether it takes tasks ("active", "pause", "drain")
            --label-add list      Add a label, or change it ("key=value")
            --label-rm list       Remove a label
            --role string         Its role ("worker", "manager")
        """,
    ),
    Command(
        "node promote",
        "NODE [NODE...]",
        "Make nodes managers",
        _change_role("manager", "Node {} promoted to a manager in the swarm."),
        at_least=1,
    ),
    Command(
        "node demote",
        "NODE [NODE...]",
        "Make nodes workers",
        _change_role("worker", "Manager {} demoted in the swarm."),
        at_least=1,
    ),
)
