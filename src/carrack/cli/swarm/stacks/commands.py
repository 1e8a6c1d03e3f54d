"""The `stack` commands."""

from __future__ import annotations

import time

from carrack.cli.command import Command
from carrack.cli.containers.look import natural_key
from carrack.cli.failure import CommandFailure
from carrack.cli.filters import filters_query
from carrack.cli.render.noun import Noun
from carrack.cli.render.rows import print_rows
from carrack.cli.swarm.services.commands import NOUN as SERVICE_NOUN
from carrack.cli.swarm.services.commands import send_update, warn
from carrack.cli.swarm.stacks.convert import IMAGE_LABEL, LABEL, Stack
from carrack.cli.swarm.tasks import print_tasks
from carrack.client.failure import ApiNotFound
from carrack.client.http import percent_encode
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

    Document = dict[str, Any]

_POLL_SECONDS = 0.2
_ENDED = ("complete", "shutdown", "failed", "rejected", "remove", "orphaned")


def check_name(name: str) -> str:
    """A stack's name without the blanks and quotes around it. Raises CommandFailure when nothing is left."""
    from carrack.cli.values import go_quote

    if not name.strip("'\" \t\n\r\v\f"):
        raise CommandFailure(f"invalid stack name: {go_quote(name)}")
    return name


def _filters(name: str, filters: dict[str, list[str]] | None = None) -> dict[str, list[str]]:
    given = filters or {}
    return {**given, "label": [f"{LABEL}={name}", *given.get("label", [])]}


def _objects(session: Session, path: str, name: str) -> list[Document]:
    found: list[Document] = session.engine.json("GET", path, filters_query(_filters(name))) or []
    return found


# -- deploy


def _config(session: Session, parsed: Parsed) -> None:
    from carrack.cli.swarm.stacks.compose import load_files
    from carrack.cli.swarm.stacks.printed_order import in_order
    from carrack.cli.swarm.stacks.yaml_text import write_yaml

    document = load_files(session, parsed.items("compose-file"), interpolate=not parsed.flag("skip-interpolation"))
    session.out.write(write_yaml(in_order(document)))


def _deploy(session: Session, parsed: Parsed) -> None:
    from carrack.cli.swarm.stacks.compose import load_files

    name = check_name(parsed.arguments[0])
    choice = parsed.text("resolve-image")
    stack = Stack(name, load_files(session, parsed.items("compose-file")))
    for key, service in stack.services.items():
        if not service.get("image"):
            raise CommandFailure(f"invalid image reference for service {key}: no image specified")
    session.err.write(stack.notes())
    if choice not in ("always", "changed", "never"):
        raise CommandFailure(f"Invalid option {choice} for flag --resolve-image")
    if parsed.flag("detach") and not parsed.changed("detach"):
        session.err.line("Since --detach=false was not specified, tasks will be created in the background.")
        session.err.line("In a future release, --detach=false will become the default.")
    session.err.flush()
    if not (session.engine.json("GET", "/info").get("Swarm") or {}).get("ControlAvailable"):
        raise CommandFailure(
            'this node is not a swarm manager. Use "docker swarm init" or "docker swarm join" '
            "to connect this node to swarm and try again"
        )
    if parsed.flag("prune"):
        wanted = {stack.scoped(key) for key in stack.services}
        gone = [service for service in _objects(session, "/services", name) if service["Spec"]["Name"] not in wanted]
        _remove_each(session, "service", gone, lambda service: service["Spec"]["Name"])
    _make_networks(session, stack)
    for kind in ("secret", "config"):
        for spec in stack.files(kind):
            _make_file(session, kind, spec)
    deployed = _make_services(session, stack, parsed, choice)
    if parsed.flag("detach"):
        return
    from carrack.cli.swarm.services.progress import wait_on_service

    for identity in deployed:
        wait_on_service(session, identity, quiet=parsed.flag("quiet"))


def _make_networks(session: Session, stack: Stack) -> None:
    for name in stack.external_networks():
        if name in ("host", "bridge", "none"):
            continue
        try:
            network = session.engine.json("GET", f"/networks/{percent_encode(name)}")
        except ApiNotFound:
            raise CommandFailure(
                f'network "{name}" is declared as external, but could not be found. '
                "You need to create a swarm-scoped network before the stack is deployed"
            ) from None
        if network.get("Scope") != "swarm":
            problem = f'it is not in the right scope: "{network.get("Scope")}" instead of "swarm"'
            raise CommandFailure(f'network "{name}" is declared as external, but {problem}')
    there = {network["Name"] for network in _objects(session, "/networks", stack.name)}
    for name, request in stack.networks():
        if name in there:
            continue
        session.out.line(f"Creating network {name}")
        session.out.flush()
        session.engine.json("POST", "/networks/create", document=request)


def _make_file(session: Session, kind: str, spec: Document) -> None:
    name = percent_encode(spec["Name"])
    try:
        found = session.engine.json("GET", f"/{kind}s/{name}")
    except ApiNotFound:
        session.out.line(f"Creating {kind} {spec['Name']}")
        session.out.flush()
        session.engine.json("POST", f"/{kind}s/create", document=spec)
        return
    query = {"version": str(found["Version"]["Index"])}
    session.engine.order("POST", f"/{kind}s/{percent_encode(found['ID'])}/update", query, document=spec)


def _identities(session: Session, stack: Stack, kind: str) -> dict[str, str]:
    names = sorted(
        {stack.file_name(kind, entry["source"]) for service in stack.services.values() for entry in service.get(f"{kind}s") or ()}
    )
    if not names:
        return {}
    return {
        entry["Spec"]["Name"]: entry["ID"]
        for entry in session.engine.json("GET", f"/{kind}s", filters_query({"name": names})) or ()
    }


def _make_services(session: Session, stack: Stack, parsed: Parsed, choice: str) -> list[str]:
    """Creates services and updates those that are there; their ids."""
    from carrack.cli.swarm.services.spec import pin_digest, registry_headers

    identities = {kind: _identities(session, stack, kind) for kind in ("secret", "config")}
    specs = [stack.service(key, identities) for key in sorted(stack.services)]
    there = {service["Spec"]["Name"]: service for service in _objects(session, "/services", stack.name)}
    deployed: list[str] = []
    for spec in specs:
        name = spec["Name"]
        container = spec["TaskTemplate"]["ContainerSpec"]
        headers = registry_headers(session, container["Image"]) if parsed.flag("with-registry-auth") else {}
        service = there.get(name)
        image = spec["Labels"][IMAGE_LABEL]
        same_image = service is not None and image == (service["Spec"].get("Labels") or {}).get(IMAGE_LABEL)
        session.out.line(f"Creating service {name}" if service is None else f"Updating service {name} (id: {service['ID']})")
        session.out.flush()
        if choice == "always" or (choice == "changed" and not same_image):
            warning = pin_digest(session, spec, headers=headers)
            if warning and service is not None:  # of a new service's image Docker's command says nothing
                session.err.line(warning)
        elif same_image and service is not None:
            before = service["Spec"]["TaskTemplate"]
            container["Image"] = before["ContainerSpec"]["Image"]
            platforms = (before.get("Placement") or {}).get("Platforms")
            if platforms:
                spec["TaskTemplate"]["Placement"]["Platforms"] = platforms
        if service is None:
            answer = session.engine.json("POST", "/services/create", document=spec, headers=headers)
            warn(session, answer)
            deployed.append(answer["ID"])
        else:
            spec["TaskTemplate"]["ForceUpdate"] = service["Spec"]["TaskTemplate"].get("ForceUpdate") or 0
            send_update(session, {**service, "Spec": spec}, headers=headers)
            deployed.append(service["ID"])
    return deployed


# -- list, look, remove

NOUN = Noun(
    "*formatter.stackContext",
    {"Name": ("NAME", lambda row: row[0]), "Services": ("SERVICES", lambda row: str(row[1]))},
)


def _list(session: Session, parsed: Parsed) -> None:
    services = session.engine.json("GET", "/services", filters_query({"label": [LABEL]})) or []
    counts: dict[str, int] = {}
    for service in services:
        name = (service["Spec"].get("Labels") or {}).get(LABEL)
        if name is None:
            raise CommandFailure(f"cannot get label {LABEL} for service {service['ID']}")
        counts[name] = counts.get(name, 0) + 1
    rows = sorted(counts.items(), key=lambda row: natural_key(row[0]))
    template = parsed.text("format") or session.config.text("stackFormat")
    print_rows(session.out, NOUN, rows, template=template, columns=("Name", "Services"))


def _services(session: Session, parsed: Parsed) -> None:
    name = check_name(parsed.arguments[0])
    quiet = parsed.flag("quiet")
    query = filters_query(_filters(name, parsed.filters()))
    if not quiet and session.engine.speaks("1.41"):
        query["status"] = "true"
    services = session.engine.json("GET", "/services", query) or []
    if not services:
        session.err.line(f"Nothing found in stack: {name}")
        return
    services.sort(key=lambda service: natural_key(service["Spec"].get("Name") or ""))
    template = parsed.text("format") or ("" if quiet else session.config.text("servicesFormat"))
    columns = ("ID", "Name", "Mode", "Replicas", "Image", "Ports")
    print_rows(session.out, SERVICE_NOUN, services, template=template, columns=columns, quiet="ID" if quiet else "")


def _tasks(session: Session, parsed: Parsed) -> None:
    name = check_name(parsed.arguments[0])
    tasks = session.engine.json("GET", "/tasks", filters_query(_filters(name, parsed.filters()))) or []
    if not tasks:
        raise CommandFailure(f"nothing found in stack: {name}")
    print_tasks(session, parsed, tasks)


_PATHS: dict[str, tuple[str, Callable[[Document], str], str]] = {
    "service": ("/services", lambda service: str(service["Spec"]["Name"]), "ID"),
    "secret": ("/secrets", lambda secret: str(secret["Spec"]["Name"]), "ID"),
    "config": ("/configs", lambda config: str(config["Spec"]["Name"]), "ID"),
    "network": ("/networks", lambda network: str(network["Name"]), "Id"),
}


def _remove_each(session: Session, kind: str, found: list[Document], name: Callable[[Document], str]) -> bool:
    """Removes objects of a kind, saying so; whether all went."""
    path, _, identity = _PATHS[kind]
    done = True
    for entry in sorted(found, key=lambda entry: natural_key(name(entry))) if kind == "service" else found:
        session.out.line(f"Removing {kind} {name(entry)}")
        session.out.flush()
        try:
            session.engine.order("DELETE", f"{path}/{percent_encode(entry[identity])}")
        except CarrackError as error:
            session.err.write(f"Failed to remove {kind} {entry[identity]}: {error}")
            done = False
    return done


def _remove(session: Session, parsed: Parsed) -> None:
    failures: list[str] = []
    for name in parsed.arguments:
        check_name(name)
    for name in parsed.arguments:
        found = {kind: _objects(session, _PATHS[kind][0], name) for kind in ("service", "network", "secret", "config")}
        if not any(found.values()):
            session.err.line(f"Nothing found in stack: {name}")
            continue
        done = [_remove_each(session, kind, found[kind], _PATHS[kind][1]) for kind in ("service", "secret", "config", "network")]
        if not all(done):
            failures.append(f"failed to remove some resources from stack: {name}")
        elif not parsed.flag("detach"):
            _await_end(session, name)
    if failures:
        raise CommandFailure("\n".join(failures))


def _await_end(session: Session, name: str) -> None:
    while True:
        states = [str((task.get("Status") or {}).get("State")) for task in _objects(session, "/tasks", name)]
        if all(state in _ENDED for state in states):
            return
        time.sleep(_POLL_SECONDS)


_FILES = '-c, --compose-file strings{} Path of a Compose file, or "-" for stdin'
_FORMAT = "--format string Print with a template: 'table' (the default), 'table TEMPLATE', 'json' or 'TEMPLATE'"
_FILTER = '-f, --filter filter Show only what matches (e.g. "name=web")'

COMMANDS = (
    Command(
        "stack config",
        "[OPTIONS]",
        "Print what Compose files amount to, once merged and filled in",
        _config,
        at_most=0,
        flags=_FILES.format("") + "\n--skip-interpolation bool Merge only, leave variables as they are",
    ),
    Command(
        "stack deploy",
        "[OPTIONS] STACK",
        "Make a stack, or change one that is there",
        _deploy,
        at_least=1,
        at_most=1,
        aliases="stack deploy, stack up",
        flags=_FILES.format("@1.25")
        + """
        -d, --detach bool=true         Do not wait for the tasks (default true)
            --prune bool@1.27          Remove services that the files no longer name
        -q, --quiet bool               Show no progress
            --resolve-image string@1.30=always Ask the registry for digests and platforms ("always", "changed", "never")
            --with-registry-auth bool  Send the registry login along to the nodes
        """,
    ),
    Command("stack ls", "[OPTIONS]", "List stacks", _list, at_most=0, aliases="stack ls, stack list", flags=_FORMAT),
    Command(
        "stack ps",
        "[OPTIONS] STACK",
        "List the tasks of a stack",
        _tasks,
        at_least=1,
        at_most=1,
        flags=f"{_FILTER}\n{_FORMAT}\n--no-resolve bool Print ids instead of names\n--no-trunc bool Print everything whole\n"
        "-q, --quiet bool Print ids only",
    ),
    Command(
        "stack rm",
        "[OPTIONS] STACK [STACK...]",
        "Remove stacks",
        _remove,
        at_least=1,
        aliases="stack rm, stack remove, stack down",
        flags="-d, --detach bool=true Do not wait until the tasks have ended (default true)",
    ),
    Command(
        "stack services",
        "[OPTIONS] STACK",
        "List the services of a stack",
        _services,
        at_least=1,
        at_most=1,
        flags=f"{_FILTER}\n{_FORMAT}\n-q, --quiet bool Print ids only",
    ),
)
