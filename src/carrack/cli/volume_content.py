"""`volume rename`, `clone`, `export`, `import`: what Docker's command line does not have."""

from __future__ import annotations

import os

from carrack.cli.command import Command
from carrack.cli.console import write_all
from carrack.cli.containers.options import check_label
from carrack.cli.failure import CommandFailure
from carrack.cli.images.archive import open_input, read_pieces, write_download
from carrack.cli.volumes import volume_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session


def _rename(session: Session, parsed: Parsed) -> None:
    name, new_name = parsed.arguments
    session.engine.order("POST", f"{volume_path(name)}/rename", {"name": new_name})


def _clone(session: Session, parsed: Parsed) -> None:
    name, new_name = parsed.arguments
    session.out.line(session.engine.json("POST", f"{volume_path(name)}/clone", {"name": new_name})["Name"])


def _export(session: Session, parsed: Parsed) -> None:
    path = parsed.text("output")
    if not path and session.out.is_terminal:
        raise CommandFailure("cowardly refusing to export to a terminal. Use the -o flag or redirect")
    with session.engine.request("GET", f"{volume_path(parsed.arguments[0])}/export") as response:
        if path:
            write_download(path, response.body, "failed to export volume")
        else:
            for data in response.body:
                write_all(1, data)


def _import(session: Session, parsed: Parsed) -> None:
    import json

    source, name = parsed.arguments
    labels = {key: value for key, _, value in [text.partition("=") for text in parsed.items("label")]}
    query = {"labels": json.dumps(labels)} if labels else {}
    fd = session.input.fd if source == "-" else open_input(source)
    try:
        with session.engine.request(
            "POST", f"{volume_path(name)}/import", query, content=read_pieces(fd), media_type="application/x-tar"
        ) as response:
            session.out.line(json.loads(response.read_all())["Name"])
    finally:
        if source != "-":
            os.close(fd)


COMMANDS = (
    Command("volume rename", "VOLUME NEW_NAME", "Rename a volume that no container has", _rename, at_least=2, at_most=2),
    Command("volume clone", "VOLUME NEW_NAME", "Copy a volume with everything in it", _clone, at_least=2, at_most=2),
    Command(
        "volume export",
        "[OPTIONS] VOLUME",
        "Write a volume's content as a tar archive, on STDOUT or in a file",
        _export,
        at_least=1,
        at_most=1,
        flags="-o, --output string File to write instead of STDOUT",
    ),
    Command(
        "volume import",
        "[OPTIONS] file|- VOLUME",
        "Make a volume of a tar archive",
        _import,
        at_least=2,
        at_most=2,
        checks={"label": check_label},
        flags="--label list Labels",
    ),
)
