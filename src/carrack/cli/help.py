"""Help pages in the layout of Docker's command, written from the command table itself."""

from __future__ import annotations

import os

from carrack.cli.catalogue import COMMON, GROUP_SUMMARIES, GROUPS, HIDDEN, TOP, load
from carrack.cli.failure import PROGRAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.command import Command
    from carrack.cli.flags import Flag

NAME_WIDTH = 11


def top_help() -> str:
    """`carrack --help`."""
    from carrack.cli.flags import parse_table
    from carrack.cli.session import GLOBAL_FLAGS

    rest = sorted([name for name in TOP if name not in COMMON])
    blocks = [
        f"Usage:  {PROGRAM} [OPTIONS] COMMAND\n\nContainers, images, networks and volumes, in Python",
        "Common Commands:\n" + _names([(name, load(TOP[name]).summary.partition("\n")[0]) for name in COMMON]),
        "Management Commands:\n" + _names([(name, GROUP_SUMMARIES[name]) for name in sorted(GROUPS)]),
        "Commands:\n" + _names([(name, load(TOP[name]).summary.partition("\n")[0]) for name in rest]),
        "Global Options:\n" + flag_lines(parse_table(GLOBAL_FLAGS), _width()),
        f"Run '{PROGRAM} COMMAND --help' for more information on a command.",
    ]
    return "\n\n".join(blocks) + "\n"


def group_help(group: str) -> str:
    """`carrack container --help`."""
    names = [
        (name, load(f"{group} {name}").summary.partition("\n")[0])
        for name in sorted(GROUPS[group])
        if f"{group} {name}" not in HIDDEN
    ]
    return (
        f"Usage:  {PROGRAM} {group} COMMAND\n\n{GROUP_SUMMARIES[group]}\n\nCommands:\n{_names(names)}\n\n"
        f"Run '{PROGRAM} {group} COMMAND --help' for more information on a command.\n"
    )


def command_help(command: Command, shown: str) -> str:
    """`carrack run --help`."""
    blocks = [f"Usage:  {command.usage_line(shown)}\n\n{command.summary}"]
    if command.aliases:
        blocks.append("Aliases:\n  " + ", ".join([f"{PROGRAM} {alias}" for alias in command.aliases.split(", ")]))
    options = flag_lines(command.flags, _width())
    if options:
        blocks.append(f"Options:\n{options}")
    return "\n\n".join(blocks) + "\n"


def _names(names: list[tuple[str, str]]) -> str:
    return "\n".join([f"  {name:<{NAME_WIDTH}} {summary}" for name, summary in names])


def _width() -> int:
    try:
        return os.get_terminal_size(0).columns
    except OSError:
        return 80


def flag_lines(flags: dict[str, Flag], width: int) -> str:
    """The options, in order of name, wrapped to the terminal."""
    shown = [flags[name] for name in sorted(flags) if not flags[name].hidden]
    if not shown:
        return ""
    left = [_left(flag) for flag in shown]
    column = max([len(text) for text in left]) + 3
    lines = []
    for flag, text in zip(shown, left, strict=True):
        wrapped = _wrap(flag.help + default_text(flag), max(width - 1 - column, 24))
        lines.append(text.ljust(column) + ("\n" + " " * column).join(wrapped))
    return "\n".join([line.rstrip() for line in lines])


def _left(flag: Flag) -> str:
    name = f"  -{flag.shorthand}, --{flag.name}" if flag.shorthand else f"      --{flag.name}"
    return name if flag.kind == "bool" else f"{name} {flag.kind}"


def default_text(flag: Flag) -> str:
    """How help shows a flag's default; empty when it has none, or when its text says it."""
    if "(default" in flag.help or flag.default in ("", "false"):
        return ""
    return f' (default "{flag.default}")' if flag.kind == "string" else f" (default {flag.default})"


def _wrap(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
