"""Every command and flag of Docker's command line 28.2.2 (docs/scope/cli-flags.tsv) is here with its shorthand, type and default.

What differs stands in `differences.tsv` with a reason; a line there that is no longer true fails too, so the list only shrinks.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from carrack.cli.catalogue import ALIASES, GROUPS, HIDDEN, TOP, load
from carrack.cli.flags import Flag, parse_table
from carrack.cli.session import GLOBAL_FLAGS

SHOWN_DEFAULTS = {"map": "map[]", "ulimit": "[]", "uint16": "0", "stringToString": "[]", "ipNetSlice": "[]"}
"""What Docker's help shows for a flag without a value, by its kind."""
ROOT = Path(__file__).resolve().parents[3]
DIFFERENCES = Path(__file__).with_name("differences.tsv")
OUR_OWN = {("run", "explain"), ("start", "explain"), ("container run", "explain"), ("container start", "explain")}
"""Flags beyond Docker, each in docs/."""

ABSENT_GROUPS = ("trust",)  # Docker 29 has none of it either


def reference() -> Iterator[tuple[str, str, str, str, str]]:
    """(command, flag, shorthand, type, default) of each line; the flag is `(command)` for the command itself."""
    for line in (ROOT / "docs/scope/cli-flags.tsv").read_text().splitlines()[1:]:
        command, flag, shorthand, kind, default = line.split("\t")
        yield command.removeprefix("docker").strip(), flag, shorthand, kind, default


def differences() -> dict[tuple[str, str], str]:
    lines = [line.split("\t") for line in DIFFERENCES.read_text().splitlines() if line and not line.startswith("#")]
    return {(command, flag): reason for command, flag, reason in lines}


def flags_of(command: str) -> dict[str, Flag]:
    if not command:
        return parse_table(GLOBAL_FLAGS)
    path = TOP.get(command) or ALIASES.get(command, command)
    return load(path).flags


def shown_default(flag: Flag) -> str:
    """The default as Docker's help shows it."""
    if "(default shows just running)" in flag.help:
        return "shows just running"
    if "(default hides intermediate images)" in flag.help:
        return "hides intermediate images"
    if flag.kind == "string" and flag.default:
        return f'"{flag.default}"'
    if "(default " in flag.help:
        return flag.help.rpartition("(default ")[2].removesuffix(")")
    return flag.default or SHOWN_DEFAULTS.get(flag.kind, "")


def differs(command: str, flag: str, shorthand: str, kind: str, default: str) -> str:
    """How ours differs; empty when it does not."""
    try:
        flags = flags_of(command)
    except KeyError:
        return "no such command"
    ours = flags.get(flag.removeprefix("--"))
    if ours is None:
        return "no such flag"
    if ours.shorthand != shorthand.removeprefix("-"):
        return f"shorthand {ours.shorthand!r}"
    if ours.kind != kind:
        return f"type {ours.kind}"
    if shown_default(ours) != default:
        return f"default {shown_default(ours)}, not {default}"
    return ""


def in_scope(command: str) -> bool:
    return command.partition(" ")[0] not in ABSENT_GROUPS


LINES = [line for line in reference() if in_scope(line[0]) and line[1] != "(command)"]


@pytest.mark.parametrize("command", sorted({line[0] for line in LINES}), ids=lambda command: command or "global")
def test_the_flags_of_a_command_are_dockers(command: str) -> None:
    known = differences()
    found = [(line[1], differs(*line)) for line in LINES if line[0] == command and (command, line[1]) not in known]
    assert [difference for difference in found if difference[1]] == []


def test_a_difference_that_is_gone_is_struck_from_the_list() -> None:
    lines = {(line[0], line[1]): line for line in LINES}
    assert [key for key in differences() if key not in lines or not differs(*lines[key])] == []


BUILD_COMMANDS = ("build", "builder build", "image build")
BUILDX = frozenset(
    """allow annotation attest build-context builder cache-to call check load metadata-file no-cache-filter output progress
    provenance push resource sbom secret ssh""".split()
)
"""The flags of `docker buildx build`, which is what `docker build` is where buildx is installed (Docker's reference)."""
OURS = frozenset(("explain",))
"""The one that is nobody else's: docs/build.md says what for."""


def test_no_flag_is_here_that_docker_does_not_have() -> None:
    theirs: dict[str, set[str]] = {command: set(BUILDX | OURS) for command in BUILD_COMMANDS}
    for command, flag, *_ in LINES:
        theirs.setdefault(command, set()).add(flag.removeprefix("--"))
    extra = {
        command: sorted(
            {name for name, flag in flags_of(command).items() if not flag.hidden and (command, name) not in OUR_OWN} - names
        )
        for command, names in theirs.items()
    }
    assert {command: names for command, names in extra.items() if names} == {}


def commands() -> Iterator[str]:
    for command, flag, *_ in reference():
        if flag == "(command)" and in_scope(command):
            yield command


@pytest.mark.parametrize("command", sorted(commands()))
def test_a_command_of_dockers_is_here(command: str) -> None:
    assert load(TOP.get(command) or command).path in {TOP.get(command), command}


@pytest.mark.parametrize("path", [f"{group} {name}" for group, names in GROUPS.items() for name in names])
def test_every_command_of_the_catalogue_loads_and_has_help(path: str) -> None:
    from carrack.cli.help import command_help

    command = load(path)
    assert command.path == path
    assert command_help(command, path).startswith(f"Usage:  carrack {path}")
    assert path in HIDDEN or command.summary


def test_top_help_names_every_command() -> None:
    from carrack.cli.help import top_help

    text = top_help()
    assert [name for name in [*TOP, *GROUPS] if f"\n  {name} " not in text] == []
