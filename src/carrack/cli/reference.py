"""Man pages and the command reference, written from the command table: what a command says of itself in its help, nothing else."""

from __future__ import annotations

import os

from carrack.cli.catalogue import GROUP_SUMMARIES, GROUPS, HIDDEN, TOP, load
from carrack.cli.command import Command
from carrack.cli.failure import PROGRAM, CommandFailure
from carrack.cli.help import default_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from carrack.cli.flags import Flag, Parsed
    from carrack.cli.session import Session

EXIT_CODES = (
    ("0", "The command did what it was told."),
    ("1", "It failed; stderr says why."),
    ("125", "The command line or the engine refused a run or an exec, or a flag was not understood."),
    ("126", "The command in the container could not be executed."),
    ("127", "The command in the container was not found."),
    ("128+N", "Signal N ended it. Otherwise run, exec, start -a and attach exit as the container's command did."),
)
VARIABLES = (
    ("CARRACK_HOST, DOCKER_HOST", "Daemon to connect to: unix:///path, tcp://host:port, ssh://user@host. The first one set wins."),
    ("DOCKER_CONTEXT", "Context to use when no host is given."),
    ("DOCKER_CONFIG", "Folder of config.json, contexts and CLI plugins (default ~/.docker)."),
    (
        "DOCKER_TLS, DOCKER_TLS_VERIFY, DOCKER_CERT_PATH",
        "TLS for tcp:// hosts, verification, and the folder of ca.pem, cert.pem and key.pem.",
    ),
    ("DOCKER_API_VERSION", "API version to speak instead of negotiating one."),
    ("DOCKER_DEFAULT_PLATFORM", "Default of --platform."),
    ("NO_COLOR", "When set and not empty, nothing is coloured."),
)


def all_paths() -> Iterator[str]:
    """The full name of every command that help shows, in order."""
    for path in sorted({f"{group} {name}" for group, names in GROUPS.items() for name in names} | set(TOP.values())):
        if path not in HIDDEN:
            yield path


def short_name(path: str) -> str:
    """The shortest name of a command: `run` for `container run`."""
    return next((short for short, long in TOP.items() if long == path), path)


# -- man pages


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("~", "\\(ti").replace("^", "\\(ha")
    return "\n".join([f"\\&{line}" if line.startswith(".") else line for line in escaped.split("\n")])


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _paragraphs(text: str) -> str:
    return "\n.PP\n".join([_roff(_sentence(part)) for part in text.split("\n\n")])


def _heading(title: str, date: str, version: str) -> str:
    return f'.TH "{title.upper()}" "1" "{date}" "carrack {version}" "Carrack"\n'


def _options(flags: dict[str, Flag]) -> str:
    shown = [flag for _, flag in sorted(flags.items()) if not flag.hidden]
    if not shown:
        return ""
    lines = [".SH OPTIONS\n"]
    for flag in shown:
        names = f"\\fB\\-{flag.shorthand}\\fR, " if flag.shorthand else ""
        kind = "" if flag.kind == "bool" else f" \\fI{_roff(flag.kind)}\\fR"
        lines.append(f".TP\n{names}\\fB\\-\\-{_roff(flag.name)}\\fR{kind}\n{_roff(_sentence(flag.help + default_text(flag)))}\n")
    return "".join(lines)


def man_page(path: str, *, date: str, version: str) -> str:
    """The page of one command."""
    command = load(path)
    name = short_name(path)
    title = f"{PROGRAM}-{name.replace(' ', '-')}"
    text = _heading(title, date, version)
    text += f".SH NAME\n{_roff(title)} \\- {_roff(command.summary.partition(chr(10))[0])}\n"
    usage = "\n.br\n".join([_roff(line.strip()) for line in command.usage_line(name).splitlines()])
    text += f".SH SYNOPSIS\n{usage}\n.SH DESCRIPTION\n{_paragraphs(command.summary)}\n"
    if command.aliases:
        text += f".PP\nAlso called: {_roff(', '.join([f'{PROGRAM} {alias}' for alias in command.aliases.split(', ')]))}.\n"
    text += _options(command.flags)
    return text + f".SH SEE ALSO\n.BR {PROGRAM} (1)\n"


def top_page(*, date: str, version: str) -> str:
    """The page of the program."""
    from carrack.cli.flags import parse_table
    from carrack.cli.session import GLOBAL_FLAGS

    text = _heading(PROGRAM, date, version)
    text += f".SH NAME\n{PROGRAM} \\- containers, images, networks and volumes\n"
    text += f".SH SYNOPSIS\n.B {PROGRAM}\n[OPTIONS] COMMAND [ARG...]\n.SH DESCRIPTION\n"
    text += _roff("The command line of Carrack: Docker's commands and flags, for any engine that speaks its API.") + "\n"
    text += _options(parse_table(GLOBAL_FLAGS)) + ".SH COMMANDS\n"
    for path in all_paths():
        name = short_name(path)
        summary = load(path).summary.partition("\n")[0]
        text += f".TP\n.BR {PROGRAM}\\-{_roff(name.replace(' ', '-'))} (1)\n{_roff(summary)}.\n"
    for title, entries in ((".SH EXIT STATUS\n", EXIT_CODES), (".SH ENVIRONMENT\n", VARIABLES)):
        text += title + "".join([f".TP\n.B {_roff(name)}\n{_roff(meaning)}\n" for name, meaning in entries])
    text += ".SH FILES\n.TP\n.I \\(ti/.docker/config.json\nThe user's settings, shared with Docker's command.\n"
    return text


def man_pages(*, date: str) -> dict[str, str]:
    """Every page by its file name: `carrack.1`, `carrack-run.1`, and again under each long name."""
    from carrack import __version__

    pages = {f"{PROGRAM}.1": top_page(date=date, version=__version__)}
    for path in all_paths():
        name = short_name(path)
        file = f"{PROGRAM}-{name.replace(' ', '-')}.1"
        pages[file] = man_page(path, date=date, version=__version__)
        if name != path:
            pages[f"{PROGRAM}-{path.replace(' ', '-')}.1"] = pages[file]
    return pages


def _write_pages(session: Session, parsed: Parsed) -> None:
    folder = parsed.arguments[0]
    import time

    seconds = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    pages = man_pages(date=time.strftime("%Y-%m-%d", time.gmtime(seconds)))
    try:
        os.makedirs(folder, exist_ok=True)
        for name, text in pages.items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise CommandFailure(f"cannot write to {folder}: {(error.strerror or '').lower()}") from None
    session.out.line(f"{len(pages)} pages written to {folder}")


# -- the reference


def reference() -> str:
    """docs/commands.md: every command with its flags."""
    from carrack.cli.flags import parse_table
    from carrack.cli.session import GLOBAL_FLAGS

    parts = [_PREFACE, "## Global options\n\n" + _flag_table(parse_table(GLOBAL_FLAGS))]
    parts.append("## Exit codes\n\n| code | |\n|---|---|\n" + "".join([f"| {code} | {text} |\n" for code, text in EXIT_CODES]))
    parts.append(
        "## Environment\n\n| variable | |\n|---|---|\n" + "".join([f"| `{name}` | {text} |\n" for name, text in VARIABLES])
    )
    alone = [path for path in all_paths() if " " not in path]
    parts.append("## Commands that stand alone\n\n" + "\n".join([_section(path) for path in alone]))
    for group in sorted(GROUPS):
        shown = [f"{group} {name}" for name in sorted(GROUPS[group]) if f"{group} {name}" not in HIDDEN]
        parts.append(f"## {group}\n\n{GROUP_SUMMARIES[group]}.\n\n" + "\n".join([_section(path) for path in shown]))
    return "\n".join(parts)


_PREFACE = f"""# Commands

Written by `scripts/reference` from the command table (`src/carrack/cli/catalogue.py` and the files it names); CI refuses
a page that says something else. `{PROGRAM} COMMAND --help` prints the same, `{PROGRAM} system manpages DIR` writes it as man pages.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _flag_table(flags: dict[str, Flag]) -> str:
    shown = [flag for _, flag in sorted(flags.items()) if not flag.hidden]
    if not shown:
        return ""
    lines = ["| flag | type | |\n|---|---|---|\n"]
    for flag in shown:
        names = f"`-{flag.shorthand}`, `--{flag.name}`" if flag.shorthand else f"`--{flag.name}`"
        needs = {"": "", "windows": " (Windows)", "experimental": " (experimental engines)"}.get(flag.needs, f" (API {flag.needs})")
        lines.append(f"| {names} | {'' if flag.kind == 'bool' else flag.kind} | {_cell(flag.help + default_text(flag))}{needs} |\n")
    return "".join(lines)


def _section(path: str) -> str:
    command = load(path)
    name = short_name(path)
    usage = command.usage_line(name)
    shown = "\n".join([f"    {line.strip()}" for line in usage.splitlines()])
    text = f"### {PROGRAM} {name}\n\n{_sentence(command.summary)}\n\n{shown}\n\n"
    if command.aliases:
        text += f"Also: {', '.join([f'`{PROGRAM} {alias}`' for alias in command.aliases.split(', ')])}.\n\n"
    return text + _flag_table(command.flags)


COMMANDS = (
    Command(
        "system manpages",
        "DIR",
        "Write the man pages of every command into a folder",
        _write_pages,
        at_least=1,
        at_most=1,
    ),
)
