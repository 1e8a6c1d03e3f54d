"""Writes SCOPE.md: which of Docker's API routes, commands and flags Carrack has, read from the code and the tests themselves.

What Docker has stands in docs/scope/ (from its API description and from `docker --help`). What Carrack has is read from the
router that `daemon/wiring.py` builds and the command table of `carrack.cli`. What is seen
to work is read from the ``@pytest.mark.observes(...)`` marks of the tests. ``--check`` fails when SCOPE.md says otherwise.
"""

import argparse
import ast
import importlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from inspect import Parameter, signature
from pathlib import Path
from unittest.mock import MagicMock

from carrack.api.router import Route

ROOT = Path(__file__).resolve().parents[1]
SCOPE = ROOT / "SCOPE.md"
OPENING = """# Scope

What of Docker this Carrack has. Made by `scripts/scope` from the router, the command table and the tests; CI refuses a page that
says something else.

- **done**: it is there and a test sees its effect (for a flag: from inside the container or in the kernel).
- **partial**: it is there, and either something of Docker's is refused by name or no test sees its effect yet.
- **no**: it is not there. A route answers 501 (or, for swarm and plugins, what Docker answers where there are none).
"""

# The route without which a command is only half there; a folder when the route alone does not tell.
NEEDS = {
    "docker build": "POST /build",
    "docker builder build": "POST /build",
    "docker builder prune": "POST /build/prune",
    "docker checkpoint create": "POST /containers/{id}/checkpoints",
    "docker checkpoint ls": "GET /containers/{id}/checkpoints",
    "docker checkpoint rm": "DELETE /containers/{id}/checkpoints/{checkpoint}",
    "docker commit": "POST /commit",
    "docker cp": "GET /containers/{id}/archive",
    "docker diff": "GET /containers/{id}/changes",
    "docker export": "GET /containers/{id}/export",
    "docker login": "POST /auth",
    "docker network connect": "POST /networks/{id}/connect",
    "docker network create": "POST /networks/create",
    "docker network disconnect": "POST /networks/{id}/disconnect",
    "docker network prune": "POST /networks/prune",
    "docker network rm": "DELETE /networks/{id}",
    "docker pull": "src/carrack/distribution",
    "docker push": "POST /images/{name}/push",
    "docker search": "GET /images/search",
    "docker stats": "GET /containers/{id}/stats",
    "docker volume update": "PUT /volumes/{name}",
}
# … and of whole groups: what the daemon must have for any of them.
GROUP_NEEDS = {
    "config": "POST /configs/create",
    "node": "GET /nodes",
    "plugin": "POST /plugins/pull",
    "secret": "POST /secrets/create",
    "service": "POST /services/create",
    "stack": "POST /services/create",
    "swarm": "POST /swarm/init",
}


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table: Docker's name for the thing, our state of it, and what is missing."""

    name: str
    state: str
    note: str = ""


def main() -> int:
    """Write SCOPE.md, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when SCOPE.md is out of date")
    options = parser.parse_args()
    text = render()
    if not options.check:
        SCOPE.write_text(text)
        return 0
    if SCOPE.exists() and SCOPE.read_text() == text:
        return 0
    print("SCOPE.md does not say what the code and the tests say: run scripts/scope and commit it")
    return 1


def render() -> str:
    """The whole page."""
    seen = observed()
    routes, commands = list(route_rows(seen)), list(command_rows(seen))
    unknown = sorted(seen - {row.name for row in routes} - known_command_names())
    if unknown:
        raise SystemExit(f"scope: tests claim to observe what Docker does not have: {', '.join(unknown)}")
    parts = [OPENING, f"## API routes\n\n{count(routes)}\n", table("route", routes)]
    parts += [f"## Commands\n\n{count(commands)}\n", table("command", commands)]
    return "\n".join(parts) + "\n"


def observed() -> set[str]:
    """Every name that a test's `observes` mark claims."""
    found: set[str] = set()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.observes":
                found |= {ast.literal_eval(argument) for argument in node.args}
    return found


def route_rows(seen: set[str]) -> Iterator[Row]:
    """One row per route of Docker's API."""
    served = served_routes()
    for line in (ROOT / "docs/scope/api.tsv").read_text().splitlines():
        method, path = line.split("\t")[:2]
        name = f"{method} {path}"
        module = served.get(plain(name), "not_yet")
        if module == "not_yet":
            yield Row(name, "no")
        elif module == "absent":
            yield Row(name, "no", "answers as an engine without it")
        elif name not in seen:
            yield Row(name, "partial", "no test sees its effect yet")
        else:
            yield Row(name, "done")


@cache
def served_list() -> list[Route]:
    """Each route of the router that the daemon builds, in its order.

    The list is read from `daemon/wiring.py` (``*networks.routes(nets, …)``) and built with doubles in the places of the rooms;
    ``*building.routes()`` are those of `api.build`, which are built on demand.
    """
    found: list[Route] = []
    for node in ast.walk(ast.parse((ROOT / "src/carrack/daemon/wiring.py").read_text())):
        if isinstance(node, ast.Starred) and isinstance(node.value, ast.Call):
            name = ast.unparse(node.value.func)
            if not name.endswith(".routes"):
                continue
            name = name.removesuffix(".routes")
            module = importlib.import_module(f"carrack.api.{'build' if name == 'building' else name}")
            rooms = [each for each in signature(module.routes).parameters.values() if each.kind is Parameter.POSITIONAL_OR_KEYWORD]
            found += module.routes(*(MagicMock() for _ in rooms))
    if not found:
        raise SystemExit("scope: no routes found in src/carrack/daemon/wiring.py")
    return found


@cache
def served_routes() -> dict[str, str]:
    """Each route that the daemon serves, and the module that answers it: the first in order, as the router takes it."""
    found: dict[str, str] = {}
    for route in served_list():
        found.setdefault(plain(f"{route.method} {route.pattern}"), route.handler.__module__.rpartition(".")[2])
    return found


def plain(name: str) -> str:
    """A route with its places unnamed: `{id}` and `{name:path}` are the same place."""
    return re.sub(r"\{[^}]*\}", "{}", name)


def command_rows(seen: set[str]) -> Iterator[Row]:
    """One row per command of the docker command line."""
    for command, flags in docker_flags().items():
        ours = carrack_flags(command)
        if ours is None:
            yield Row(
                command, "no", "Docker's own command line lost it in release 29" if command.startswith("docker trust ") else ""
            )
            continue
        if not engine_has(NEEDS.get(command) or GROUP_NEEDS.get(command.split()[1])):
            yield Row(command, "no", "the client has it, the daemon refuses it")
            continue
        missing = sorted(flags - ours)
        # create and run have one table of flags and one code behind it
        twin = "docker run" if command == "docker create" else command
        unseen = sorted(flag for flag in flags & ours if not {f"{command} {flag}", f"{twin} {flag}"} & seen)
        notes = [f"{len(flags & ours)} of {len(flags)} flags, {len(flags & ours) - len(unseen)} seen by a test"] if flags else []
        if missing:
            notes.append("missing: " + " ".join(missing))
        if unseen:
            notes.append("not seen by a test yet: " + " ".join(unseen))
        if command not in seen:
            notes.append("no test sees it work yet")
        done = not missing and not unseen and command in seen
        yield Row(command, "done" if done else "partial", "; ".join(notes) if not done else "")


def engine_has(need: str | None) -> bool:
    """Whether the daemon has the route (or the folder's code) that a command needs."""
    if need is None:
        return True
    if need.startswith("src/"):
        return len(list((ROOT / need).glob("*.py"))) > 1
    return served_routes().get(plain(need), "not_yet") not in {"not_yet", "absent"}


def docker_flags() -> dict[str, set[str]]:
    """Docker's commands and their flags; a long command that has a short form (`docker container run`) is left to the short one."""
    found: dict[str, set[str]] = {}
    rows = [line.split("\t") for line in (ROOT / "docs/scope/cli-flags.tsv").read_text().splitlines()[1:]]
    shorts = {long: short for short, long in short_forms().items()}
    for command, flag, *_ in rows:
        words = command.removeprefix("docker").strip()
        if not words or words in shorts:
            continue
        flags = found.setdefault(command, set())
        if flag.startswith("--"):
            flags.add(flag)
    return found


def short_forms() -> dict[str, str]:
    """`ps` → `container ls`, as the command table has it."""
    from carrack.cli.catalogue import TOP

    return {short: long for short, long in TOP.items() if short != long}


def carrack_flags(command: str) -> set[str] | None:
    """The long flags of our command of that name; None when there is none."""
    from carrack.cli.catalogue import ALONE, GROUPS, load

    words = command.removeprefix("docker ")
    path = short_forms().get(words, words)
    group, _, name = path.partition(" ")
    if name not in GROUPS.get(group, {}) and path not in ALONE:
        return None
    try:
        flags = load(path).flags
    except ModuleNotFoundError:  # the table names it, its file has not been written yet
        return None
    return {f"--{flag.lstrip('-')}" for flag in flags if len(flag.lstrip("-")) > 1}


def known_command_names() -> set[str]:
    """Everything that a mark may name on the command line's side."""
    names: set[str] = set()
    shorts = {long: short for short, long in short_forms().items()}
    for line in (ROOT / "docs/scope/cli-flags.tsv").read_text().splitlines()[1:]:
        command, flag = line.split("\t")[:2]
        names.add(command)
        if command.removeprefix("docker ") not in shorts:
            names.add(f"{command} {flag}")
    return names


def count(rows: list[Row]) -> str:
    """`12 done, 3 partial, 100 no of 115.`"""
    states = [row.state for row in rows]
    return ", ".join(f"{states.count(state)} {state}" for state in ("done", "partial", "no")) + f" of {len(rows)}."


def table(title: str, rows: list[Row]) -> str:
    """A Markdown table."""
    lines = [f"| {title} | | |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| `{row.name}` | {row.state} | {row.note} |" for row in rows)]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
