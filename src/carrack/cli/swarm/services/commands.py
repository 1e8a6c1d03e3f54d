"""The `service` commands: create, update, scale and roll back, list and look, remove."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.containers.look import natural_key
from carrack.cli.failure import PROGRAM, CommandFailure
from carrack.cli.filters import filters_query
from carrack.cli.inspection import FORMAT_FLAG, inspect_each
from carrack.cli.render.noun import Noun
from carrack.cli.render.rows import print_rows
from carrack.cli.several import for_every
from carrack.cli.swarm.pretty import show_pages
from carrack.cli.swarm.services.flags import CHECKS, CREATE_FLAGS, UPDATE_FLAGS
from carrack.cli.swarm.tasks import TASK_FLAGS, print_tasks
from carrack.cli.values import read_uint
from carrack.client.failure import ApiNotFound
from carrack.client.http import percent_encode
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

    Document = dict[str, Any]


def service_path(name: str, action: str = "") -> str:
    """The API path of a service and what to do with it."""
    return f"/services/{percent_encode(name)}{action}"


def _get(session: Session, name: str) -> Document:
    found: Document = session.engine.json("GET", service_path(name), {"insertDefaults": "false"})
    return found


def send_update(
    session: Session, service: Document, query: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> None:
    """Sends a changed spec; warnings of the daemon go to stderr."""
    query = {**(query or {}), "version": str(service["Version"]["Index"])}
    path = service_path(service["ID"], "/update")
    answer = session.engine.json("POST", path, query, document=service["Spec"], headers=headers)
    warn(session, answer)


def warn(session: Session, answer: Any) -> None:
    """Passes the daemon's warnings on."""
    for warning in (answer or {}).get("Warnings") or ():
        session.err.line(warning)


def _create(session: Session, parsed: Parsed) -> None:
    from carrack.cli.swarm.services.spec import build_spec, pin_digest, registry_headers

    spec = build_spec(session, parsed)
    image = spec["TaskTemplate"]["ContainerSpec"]["Image"]
    headers = registry_headers(session, image) if parsed.flag("with-registry-auth") else {}
    if not parsed.flag("no-resolve-image") and session.engine.speaks("1.30"):
        warning = pin_digest(session, spec, headers=headers)
        if warning:
            session.err.line(warning)
    answer = session.engine.json("POST", "/services/create", document=spec, headers=headers)
    warn(session, answer)
    identity = answer["ID"]
    session.out.line(identity)
    _converge(session, parsed, identity)


def _converge(session: Session, parsed: Parsed, identity: str) -> None:
    if parsed.flag("detach") or not session.engine.speaks("1.29"):
        return
    from carrack.cli.swarm.services.progress import wait_on_service

    wait_on_service(session, identity, quiet=parsed.changed("quiet") and parsed.flag("quiet"))


def _update(session: Session, parsed: Parsed) -> None:
    from carrack.cli.swarm.services.spec import pin_digest, registry_headers
    from carrack.cli.swarm.services.update import update_spec

    name = parsed.arguments[0]
    service = _get(session, name)
    if parsed.flag("rollback"):
        others = [flag for flag in parsed.given_flags if flag not in ("rollback", "detach", "quiet")]
        if others:
            raise CommandFailure("other flags may not be combined with --rollback")
        _roll_back(session, parsed)
        return
    update_spec(session, service["Spec"], parsed)
    spec = service["Spec"]
    query: dict[str, str] = {}
    headers: dict[str, str] = {}
    image = spec["TaskTemplate"]["ContainerSpec"]["Image"]
    if parsed.flag("with-registry-auth"):
        headers = registry_headers(session, image)
    else:
        query["registryAuthFrom"] = "spec"
    if parsed.changed("image") and not parsed.flag("no-resolve-image") and session.engine.speaks("1.30"):
        warning = pin_digest(session, spec, headers=headers)
        if warning:
            session.err.line(warning)
    send_update(session, service, query, headers)
    session.out.line(name)
    _converge(session, parsed, name)


def _roll_back(session: Session, parsed: Parsed) -> None:
    name = parsed.arguments[0]
    service = _get(session, name)
    send_update(session, service, {"rollback": "previous"})
    session.out.line(name)
    _converge(session, parsed, name)


def _scale(session: Session, parsed: Parsed) -> None:
    wanted: list[tuple[str, str]] = []
    for text in parsed.arguments:
        name, equals, count = text.partition("=")
        if not equals or not name or not count:
            raise CommandFailure(
                f"invalid scale specifier '{text}'.\nSee '{PROGRAM} service scale --help'.\n\n"
                f"Usage:  {PROGRAM} service scale SERVICE=REPLICAS [SERVICE=REPLICAS...]\n\n{_SCALE_SUMMARY}"
            )
        wanted.append((name, count))
    failures: list[str] = []
    scaled: list[str] = []
    for name, count in wanted:
        try:
            replicas = read_uint(count)
        except ValueError as error:
            failures.append(f"{name}: invalid replicas value {count}: {error}")
            continue
        try:
            _scale_one(session, name, replicas)
        except CarrackError as error:
            failures.append(f"{name}: {error}")
        else:
            scaled.append(name)
    for name in scaled if not parsed.flag("detach") else ():
        _converge(session, parsed, name)
    if failures:
        raise CommandFailure("\n".join(failures))


_SCALE_SUMMARY = "Scale one or multiple replicated services"


def _scale_one(session: Session, name: str, replicas: int) -> None:
    service = _get(session, name)
    mode = service["Spec"].get("Mode") or {}
    if mode.get("Replicated") is not None:
        mode["Replicated"]["Replicas"] = replicas
    elif mode.get("ReplicatedJob") is not None:
        mode["ReplicatedJob"]["TotalCompletions"] = replicas
    else:
        raise CommandFailure("scale can only be used with replicated or replicated-job mode")
    send_update(session, service)
    session.out.line(f"{name} scaled to {replicas}")


def fetch_service(session: Session, name: str) -> bytes:
    """The service's document as the daemon wrote it, defaults filled in. Raises CommandFailure in Docker's words."""
    try:
        document = session.engine.request("GET", service_path(name), {"insertDefaults": "true"}).read_all()
    except ApiNotFound:
        raise CommandFailure(f"Error: no such service: {name}") from None
    for letter in (b"<", b">", b"&"):  # Docker's command writes this one document anew, in Go's way
        document = document.replace(letter, b"\\u%04x" % letter[0])
    return document


def _inspect(session: Session, parsed: Parsed) -> None:
    if not parsed.flag("pretty"):
        inspect_each(session.out, parsed.arguments, parsed.text("format"), lambda name: fetch_service(session, name))
        return
    if parsed.text("format"):
        raise CommandFailure("--format is incompatible with human friendly format")
    from carrack.cli.swarm.services.page import service_page

    def page(service: Document) -> str:
        names: dict[str, str] = {}
        for entry in service["Spec"]["TaskTemplate"].get("Networks") or ():
            target = str(entry.get("Target") or "")
            names[target] = session.engine.json("GET", f"/networks/{percent_encode(target)}", {"scope": "swarm"})["Name"]
        return service_page(service, names)

    show_pages(session, parsed.arguments, lambda name: fetch_service(session, name), page)


def _mode(service: Document) -> str:
    mode = (service.get("Spec") or {}).get("Mode") or {}
    names = {"Global": "global", "Replicated": "replicated", "ReplicatedJob": "replicated job", "GlobalJob": "global job"}
    return next((name for field, name in names.items() if mode.get(field) is not None), "")


def _replicas(service: Document) -> str:
    status = service.get("ServiceStatus") or {}
    running, desired = status.get("RunningTasks") or 0, status.get("DesiredTasks") or 0
    spec = service["Spec"]
    most = ((spec.get("TaskTemplate") or {}).get("Placement") or {}).get("MaxReplicas")
    if _mode(service) == "replicated" and most:
        return f"{running}/{desired} (max {most} per node)"
    if _mode(service) == "replicated job":
        total = (spec["Mode"]["ReplicatedJob"] or {}).get("TotalCompletions")
        return f"{running}/{desired} ({status.get('CompletedTasks') or 0}/{1 if total is None else total} completed)"
    if _mode(service) == "global job":
        done = status.get("CompletedTasks") or 0
        return f"{running}/{desired} ({done}/{done + desired} completed)"
    return f"{running}/{desired}"


def _image(service: Document) -> str:
    image = str(((service["Spec"].get("TaskTemplate") or {}).get("ContainerSpec") or {}).get("Image") or "")
    name, at, _ = image.partition("@")
    return name if at and ":" in name.rpartition("/")[2] else image


def _ports(service: Document) -> str:
    """Published ports, neighbours joined to ranges: `*:8080-8081->80-81/tcp`."""
    ports = sorted(
        (service.get("Endpoint") or {}).get("Ports") or (),
        key=lambda port: (str(port.get("Protocol")), int(port.get("PublishedPort") or 0), int(port.get("TargetPort") or 0)),
    )
    shown = []
    groups: list[list[Document]] = []
    for port in ports:
        if port.get("PublishMode") != "ingress":
            continue
        last = groups[-1][-1] if groups else {}
        follows = (
            bool(last)
            and port["Protocol"] == last["Protocol"]
            and port.get("PublishedPort", 0) == last.get("PublishedPort", 0) + 1
            and port["TargetPort"] == last["TargetPort"] + 1
        )
        if follows:
            groups[-1].append(port)
        else:
            groups.append([port])
    for group in groups:
        first, last = group[0], group[-1]
        published, target = str(first.get("PublishedPort", 0)), str(first["TargetPort"])
        if len(group) > 1:
            published, target = f"{published}-{last['PublishedPort']}", f"{target}-{last['TargetPort']}"
        shown.append(f"*:{published}->{target}/{first['Protocol']}")
    return ", ".join(shown)


NOUN = Noun(
    "*service.serviceContext",
    {
        "ID": ("ID", lambda service: service["ID"][:12]),
        "Name": ("NAME", lambda service: service["Spec"].get("Name") or ""),
        "Mode": ("MODE", _mode),
        "Replicas": ("REPLICAS", _replicas),
        "Image": ("IMAGE", _image),
        "Ports": ("PORTS", _ports),
    },
)


def list_services(session: Session, parsed: Parsed, filters: dict[str, list[str]]) -> None:
    """Prints the services that filters leave."""
    quiet = parsed.flag("quiet")
    query = filters_query(filters)
    if not quiet and session.engine.speaks("1.41"):
        query["status"] = "true"
    services = session.engine.json("GET", "/services", query) or []
    services.sort(key=lambda service: natural_key(service["Spec"].get("Name") or ""))
    template = parsed.text("format") or ("" if quiet else session.config.text("servicesFormat"))
    columns = ("ID", "Name", "Mode", "Replicas", "Image", "Ports")
    print_rows(session.out, NOUN, services, template=template, columns=columns, quiet="ID" if quiet else "")


def _list(session: Session, parsed: Parsed) -> None:
    list_services(session, parsed, parsed.filters())


def _tasks(session: Session, parsed: Parsed) -> None:
    ids: list[str] = []
    missing: list[str] = []
    by_id = session.engine.json("GET", "/services", filters_query({"id": parsed.arguments})) or []
    by_name = session.engine.json("GET", "/services", filters_query({"name": parsed.arguments})) or []
    for name in parsed.arguments:
        exact = [service["ID"] for service in by_id if service["ID"] == name]
        named = [service["ID"] for service in by_name if service["Spec"].get("Name") == name]
        begins = [service["ID"] for service in by_id if service["ID"].startswith(name)]
        found = exact or named or begins
        if len(found) > 1:
            raise CommandFailure(f"service {name} is ambiguous")
        ids += found
        if not found:
            missing.append(f"no such service: {name}")
    if ids:
        filters = {**parsed.filters(), "service": ids}
        if "node" in filters:
            from carrack.cli.swarm.nodes import resolve_self

            filters["node"] = [resolve_self(session, node) for node in filters["node"]]
        print_tasks(session, parsed, session.engine.json("GET", "/tasks", filters_query(filters)) or [], whole_ids=True)
    if missing:
        raise CommandFailure("\n".join(missing))


def _logs(session: Session, parsed: Parsed) -> None:
    from carrack.cli.swarm.services.logs import show_logs

    show_logs(session, parsed)


def _remove(session: Session, parsed: Parsed) -> None:
    def remove(name: str) -> None:
        session.engine.order("DELETE", service_path(name))
        session.out.line(name)

    for_every(parsed.arguments, remove)


_DETACH = "-d, --detach bool@1.29 Do not wait for the tasks"

COMMANDS = (
    Command(
        "service create",
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Make a service",
        _create,
        at_least=1,
        checks=CHECKS,
        interspersed=False,
        flags=CREATE_FLAGS,
    ),
    Command(
        "service update",
        "[OPTIONS] SERVICE",
        "Change a service",
        _update,
        at_least=1,
        at_most=1,
        checks=CHECKS,
        flags=UPDATE_FLAGS,
    ),
    Command(
        "service rollback",
        "[OPTIONS] SERVICE",
        "Go back to what a service was before its last update",
        _roll_back,
        at_least=1,
        at_most=1,
        needs="1.31",
        flags=f"{_DETACH}\n-q, --quiet bool Show no progress",
    ),
    Command(
        "service scale",
        "SERVICE=REPLICAS [SERVICE=REPLICAS...]",
        "Change the number of tasks of replicated services",
        _scale,
        at_least=1,
        flags=_DETACH,
    ),
    Command(
        "service inspect",
        "[OPTIONS] SERVICE [SERVICE...]",
        "Print everything about services",
        _inspect,
        at_least=1,
        flags=FORMAT_FLAG + "\n--pretty bool Print it for reading",
    ),
    Command(
        "service ls",
        "[OPTIONS]",
        "List services",
        _list,
        at_most=0,
        aliases="service ls, service list",
        flags="""
        -f, --filter filter Show only what matches (e.g. "name=web")
            --format string Print with a template: 'table' (the default), 'table TEMPLATE', 'json' or 'TEMPLATE'
        -q, --quiet bool    Print ids only
        """,
    ),
    Command("service ps", "[OPTIONS] SERVICE [SERVICE...]", "List the tasks of services", _tasks, at_least=1, flags=TASK_FLAGS),
    Command(
        "service logs",
        "[OPTIONS] SERVICE|TASK",
        "Print the logs of a service or a task",
        _logs,
        at_least=1,
        at_most=1,
        needs="1.29",
        flags="""
            --details bool@1.30   Print what the logging driver adds
        -f, --follow bool         Go on printing as more is logged
            --no-resolve bool     Print ids instead of names
            --no-task-ids bool    Leave the tasks' ids out
            --no-trunc bool       Print ids whole
            --raw bool@1.30       Print the lines alone
            --since string        From this time on ("2013-01-02T13:23:37Z"), or this long ago ("42m")
        -n, --tail string=all     Number of lines from the end
        -t, --timestamps bool     Print the time of each line
        """,
    ),
    Command(
        "service rm",
        "SERVICE [SERVICE...]",
        "Remove services",
        _remove,
        at_least=1,
        aliases="service rm, service remove",
    ),
)
