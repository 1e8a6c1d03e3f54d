"""The `secret` and `config` commands: two kinds of the same thing, one that can be read back and one that cannot."""

from __future__ import annotations

import time

from carrack.cli.command import Command
from carrack.cli.containers.list import show_labels
from carrack.cli.containers.look import natural_key
from carrack.cli.failure import CommandFailure
from carrack.cli.filters import filters_query
from carrack.cli.inspection import inspect_each
from carrack.cli.render.noun import Noun
from carrack.cli.render.rows import print_rows
from carrack.cli.render.units import human_duration, parse_rfc3339
from carrack.cli.several import for_every
from carrack.cli.swarm.pretty import Page, moment, show_pages
from carrack.client.http import percent_encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

    Run = Callable[[Session, Parsed], None]

_FORMAT = "-f, --format string Print with a template: 'json' or 'TEMPLATE'"


def _age(field: str) -> Callable[[dict[str, Any]], str]:
    def text(entry: dict[str, Any]) -> str:
        try:
            return human_duration(time.time() - parse_rfc3339(entry[field])[0]) + " ago"
        except (KeyError, ValueError):
            return ""

    return text


def _noun(kind: str) -> Noun:
    fields = {
        "ID": ("ID", lambda entry: entry["ID"]),
        "Name": ("NAME", lambda entry: (entry.get("Spec") or {}).get("Name") or ""),
        "Driver": ("DRIVER", lambda entry: ((entry.get("Spec") or {}).get("Driver") or {}).get("Name") or ""),
        "CreatedAt": ("CREATED", _age("CreatedAt")),
        "UpdatedAt": ("UPDATED", _age("UpdatedAt")),
        "Labels": ("LABELS", lambda entry: show_labels((entry.get("Spec") or {}).get("Labels"))),
    }
    if kind == "config":
        del fields["Driver"]
    calls = {"Label": lambda entry, name: ((entry.get("Spec") or {}).get("Labels") or {}).get(name, "")}
    return Noun(f"*{kind}.{kind}Context", fields, calls)


def _list(kind: str) -> Run:
    noun = _noun(kind)
    columns = ("ID", "Name", "Driver", "CreatedAt", "UpdatedAt") if kind == "secret" else ("ID", "Name", "CreatedAt", "UpdatedAt")

    def run(session: Session, parsed: Parsed) -> None:
        entries = session.engine.json("GET", f"/{kind}s", filters_query(parsed.filters())) or []
        entries.sort(key=lambda entry: natural_key((entry.get("Spec") or {}).get("Name") or ""))
        quiet = parsed.flag("quiet")
        template = parsed.text("format") or ("" if quiet else session.config.text(f"{kind}Format"))
        print_rows(session.out, noun, entries, template=template, columns=columns, quiet="ID" if quiet else "")

    return run


def _content(session: Session, path: str) -> bytes:
    from carrack.cli.files import os_error_text, read_file

    if path == "-":
        content = session.input.read_all()
        shown = "STDIN"
    else:
        shown = path
        try:
            content = read_file(path)
        except OSError as error:
            raise CommandFailure(f"error reading from {path}: {os_error_text(error)}") from None
    if not content:
        raise CommandFailure(f"error reading from {shown}: data is empty")
    return content


def _create(kind: str) -> Run:
    def run(session: Session, parsed: Parsed) -> None:
        from binascii import b2a_base64

        name = parsed.arguments[0]
        path = parsed.arguments[1] if len(parsed.arguments) > 1 else ""
        driver = parsed.text("driver") if kind == "secret" else ""
        if driver and path:
            raise CommandFailure("When using secret driver secret data must be empty")
        if not driver and not path:
            raise CommandFailure("secret file is required")
        document: dict[str, Any] = {
            "Name": name,
            "Labels": {key: value for key, _, value in [text.partition("=") for text in parsed.items("label")]},
        }
        if driver:
            document["Driver"] = {"Name": driver}
        else:
            try:
                document["Data"] = b2a_base64(_content(session, path), newline=False).decode()
            except CommandFailure as failure:
                raise failure if kind == "secret" else CommandFailure(f'Error reading content from "{path}": {failure}') from None
        if parsed.text("template-driver"):
            document["Templating"] = {"Name": parsed.text("template-driver")}
        session.out.line(session.engine.json("POST", f"/{kind}s/create", document=document)["ID"])

    return run


def _fetch(session: Session, kind: str, name: str) -> bytes:
    return session.engine.request("GET", f"/{kind}s/{percent_encode(name)}").read_all()


def _inspect(kind: str) -> Run:
    def run(session: Session, parsed: Parsed) -> None:
        if parsed.flag("pretty"):
            show_pages(session, parsed.arguments, lambda name: _fetch(session, kind, name), _PAGES[kind])
            return
        inspect_each(session.out, parsed.arguments, parsed.text("format"), lambda name: _fetch(session, kind, name))

    return run


def _secret_page(secret: dict[str, Any]) -> str:
    page, spec = Page(), secret.get("Spec") or {}
    page.line("ID:              ", secret["ID"])
    page.line("Name:              ", spec.get("Name"))
    page.labels("", spec.get("Labels"))
    page.line("Driver:            ", (spec.get("Driver") or {}).get("Name"))
    page.line("Created at:        ", moment(secret.get("CreatedAt")))
    page.line("Updated at:        ", moment(secret.get("UpdatedAt")))
    return page.text()


def _config_page(config: dict[str, Any]) -> str:
    from binascii import a2b_base64

    page, spec = Page(), config.get("Spec") or {}
    page.line("ID:\t\t\t", config["ID"])
    page.line("Name:\t\t\t", spec.get("Name"))
    page.labels("", spec.get("Labels"))
    page.line("Created at:            \t", moment(config.get("CreatedAt")))
    page.line("Updated at:            \t", moment(config.get("UpdatedAt")))
    page.line("Data:")
    page.line("", a2b_base64(spec.get("Data") or "").decode("utf-8", "surrogateescape"))
    return page.text()


_PAGES = {"secret": _secret_page, "config": _config_page}


def _remove(kind: str) -> Run:
    def run(session: Session, parsed: Parsed) -> None:
        def remove(name: str) -> None:
            session.engine.order("DELETE", f"/{kind}s/{percent_encode(name)}")
            session.out.line(name)

        for_every(parsed.arguments, remove)

    return run


def _commands(kind: str, usage: str, flags: str, least: int, version: str) -> tuple[Command, ...]:
    """The four commands of a kind."""
    word = kind.upper()
    return (
        Command(
            f"{kind} create",
            f"[OPTIONS] {word} {usage}",
            f"Make a {kind} from a file, or from what stdin says",
            _create(kind),
            at_least=least,
            at_most=2,
            needs=version,
            flags=f"{flags}\n-l, --label list Labels\n--template-driver string@1.37 Driver that fills templates in the content",
        ),
        Command(
            f"{kind} ls",
            "[OPTIONS]",
            f"List {kind}s",
            _list(kind),
            at_most=0,
            needs=version,
            aliases=f"{kind} ls, {kind} list",
            flags='-f, --filter filter Show only what matches (e.g. "name=web")\n'
            "--format string Print with a template: 'table' (the default), 'table TEMPLATE', 'json' or 'TEMPLATE'\n"
            "-q, --quiet bool Print ids only",
        ),
        Command(
            f"{kind} inspect",
            f"[OPTIONS] {word} [{word}...]",
            f"Print everything about {kind}s" + (", except what they hold" if kind == "secret" else ""),
            _inspect(kind),
            at_least=1,
            needs=version,
            flags=_FORMAT + "\n--pretty bool Print it for reading",
        ),
        Command(
            f"{kind} rm",
            f"{word} [{word}...]",
            f"Remove {kind}s",
            _remove(kind),
            at_least=1,
            needs=version,
            aliases=f"{kind} rm, {kind} remove",
        ),
    )


COMMANDS = (
    *_commands("secret", "[file|-]", "-d, --driver string@1.31 Driver that holds the secret", 1, "1.25"),
    *_commands("config", "file|-", "", 2, "1.30"),
)
