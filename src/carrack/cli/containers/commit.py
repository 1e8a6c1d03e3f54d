"""A container as an image or an archive: commit, export."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.console import write_all
from carrack.cli.containers.lifecycle import container_path
from carrack.cli.failure import CommandFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session


def _commit(session: Session, parsed: Parsed) -> None:
    query: dict[str, str | list[str]] = {
        "container": parsed.arguments[0],
        "comment": parsed.text("message"),
        "author": parsed.text("author"),
    }
    query["repo"] = query["tag"] = ""
    if len(parsed.arguments) > 1 and parsed.arguments[1]:
        from carrack.cli.images.transfer import read_name

        name = read_name(parsed.arguments[1])
        if name.digest:
            raise CommandFailure("refusing to create a tag with a digest reference")
        name = name.with_default_tag()
        query["repo"], query["tag"] = name.full_name, name.tag
    if parsed.items("change"):
        query["changes"] = parsed.items("change")
    if not parsed.flag("pause"):
        query["pause"] = "0"
    session.out.line(session.engine.json("POST", "/commit", query)["Id"])


def _export(session: Session, parsed: Parsed) -> None:
    path = parsed.text("output")
    if not path and session.out.is_terminal:
        raise CommandFailure("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    with session.engine.request("GET", container_path(parsed.arguments[0], "/export")) as response:
        if path:
            from carrack.cli.images.archive import write_download

            write_download(path, response.body, "failed to export container")
            return
        for data in response.body:
            write_all(1, data)


COMMANDS = (
    Command(
        "container commit",
        "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        "Make an image of a container's files",
        _commit,
        at_least=1,
        at_most=2,
        aliases="container commit, commit",
        interspersed=False,
        flags="""
        -a, --author string   Author ("Grace Hopper <grace@example.com>")
        -c, --change list     Dockerfile instruction to apply to the image
        -m, --message string  Message for the image's history
        -p, --pause bool=true Pause the container meanwhile
        """,
    ),
    Command(
        "container export",
        "[OPTIONS] CONTAINER",
        "Write a container's files as a tar archive",
        _export,
        at_least=1,
        at_most=1,
        aliases="container export, export",
        flags="-o, --output string File to write instead of STDOUT",
    ),
)
