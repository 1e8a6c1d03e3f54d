"""Looking into a container: port, top, diff."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.containers.lifecycle import container_path
from carrack.cli.failure import CommandFailure
from carrack.cli.render.table import align

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session


def _join(binding: dict[str, str]) -> str:
    address = binding["HostIp"]
    return f"[{address}]:{binding['HostPort']}" if ":" in address else f"{address}:{binding['HostPort']}"


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """A sort key that takes runs of digits as numbers."""
    key: list[tuple[int, int, str]] = []
    run = ""
    for character in text:
        if run and character.isdigit() != run[0].isdigit():
            key.append(_run_key(run))
            run = ""
        run += character
    if run:
        key.append(_run_key(run))
    return key


def _run_key(run: str) -> tuple[int, int, str]:
    return (0, int(run), run) if run[0].isdigit() else (1, 0, run)


def _port(session: Session, parsed: Parsed) -> None:
    name = parsed.arguments[0]
    ports = session.engine.json("GET", container_path(name, "/json"))["NetworkSettings"].get("Ports") or {}
    lines: list[str] = []
    if len(parsed.arguments) == 2:
        wanted = parsed.arguments[1]
        number, _, protocol = wanted.partition("/")
        if not (number.isascii() and number.isdigit() and int(number) <= 65535):
            kind = "value out of range" if number.isdigit() else "invalid syntax"
            raise CommandFailure(f'Error: invalid port ({number}): strconv.ParseUint: parsing "{number}": {kind}')
        bindings = ports.get(f"{number}/{protocol or 'tcp'}")
        if not bindings:
            raise CommandFailure(f"Error: No public port '{wanted}' published for {name}")
        lines = [_join(binding) for binding in bindings]
    else:
        for port, bindings in ports.items():
            lines.extend([f"{port} -> {_join(binding)}" for binding in bindings or ()])
    if lines:
        session.out.line("\n".join(sorted(lines, key=natural_key)))


def _top(session: Session, parsed: Parsed) -> None:
    options = " ".join(parsed.arguments[1:])
    answer = session.engine.json("GET", container_path(parsed.arguments[0], "/top"), {"ps_args": options} if options else None)
    lines = ["\t".join(answer["Titles"]), *["\t".join(process) for process in answer["Processes"] or ()]]
    session.out.write(align("\n".join(lines) + "\n", minimum=20))


def _diff(session: Session, parsed: Parsed) -> None:
    if not parsed.arguments[0]:
        raise CommandFailure("Container name cannot be empty")
    for change in session.engine.json("GET", container_path(parsed.arguments[0], "/changes")) or ():
        session.out.line(f"{'CAD'[change['Kind']]} {change['Path']}")


COMMANDS = (
    Command(
        "container port",
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "Print a container's published ports, or where one of them is",
        _port,
        at_least=1,
        at_most=2,
        aliases="container port, port",
    ),
    Command(
        "container top",
        "CONTAINER [ps OPTIONS]",
        "Print the processes of a container",
        _top,
        at_least=1,
        aliases="container top, top",
        interspersed=False,
    ),
    Command(
        "container diff",
        "CONTAINER",
        "Print what a container has changed in its file system",
        _diff,
        at_least=1,
        at_most=1,
        aliases="container diff, diff",
    ),
)
