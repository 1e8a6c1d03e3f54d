"""`carrack rmi` and `carrack tag`."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.failure import CommandFailure
from carrack.cli.images.platforms import platform_document
from carrack.cli.images.transfer import read_name
from carrack.client.failure import ApiNotFound
from carrack.client.http import percent_encode
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session


def image_path(name: str, action: str = "") -> str:
    """The API path of an image and what to do with it."""
    return f"/images/{percent_encode(name, keep='/:@')}{action}"


def _remove(session: Session, parsed: Parsed) -> None:
    force = parsed.flag("force")
    query: dict[str, str | list[str]] = {}
    if force:
        query["force"] = "1"
    if parsed.flag("no-prune"):
        query["noprune"] = "1"
    if parsed.items("platform"):
        query["platforms"] = [platform_document(platform) for platform in parsed.items("platform")]
    failures: list[str] = []
    fatal = False
    for name in parsed.arguments:
        try:
            removed = session.engine.json("DELETE", image_path(name), query)
        except CarrackError as error:
            fatal = fatal or not isinstance(error, ApiNotFound)
            failures.append(str(error))
            continue
        for entry in removed or ():
            session.out.line(f"Deleted: {entry['Deleted']}" if entry.get("Deleted") else f"Untagged: {entry.get('Untagged', '')}")
    if failures and (fatal or not force):
        raise CommandFailure("\n".join(failures))
    for failure in failures:
        session.err.line(failure)


def _tag(session: Session, parsed: Parsed) -> None:
    source, target = parsed.arguments
    try:
        read_name(source)
    except CommandFailure:
        from carrack.cli.images.names import parse_any

        try:
            parse_any(source)
        except ValueError as error:
            raise CommandFailure(f'Error parsing reference: "{source}" is not a valid repository/tag: {error}') from None
    try:
        name = read_name(target)
    except CommandFailure as error:
        raise CommandFailure(f'Error parsing reference: "{target}" is not a valid repository/tag: {error}') from None
    if name.digest:
        raise CommandFailure("refusing to create a tag with a digest reference")
    name = name.with_default_tag()
    session.engine.order("POST", image_path(source, "/tag"), {"repo": name.full_name, "tag": name.tag})


COMMANDS = (
    Command(
        "image rm",
        "[OPTIONS] IMAGE [IMAGE...]",
        "Remove images",
        _remove,
        at_least=1,
        aliases="image rm, image remove, rmi",
        flags="""
        -f, --force bool       Remove an image even if it is in use
            --no-prune bool    Keep parents that have no name
            --platform strings@1.50 Remove only these platforms (e.g. "linux/amd64")
        """,
    ),
    Command(
        "image tag",
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Give an image another name",
        _tag,
        at_least=2,
        at_most=2,
        aliases="image tag, tag",
        interspersed=False,
    ),
)
