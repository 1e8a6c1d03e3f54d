"""`carrack pull` and `carrack push`, and the pull that `run` does by itself."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.failure import CommandFailure
from carrack.cli.images.names import Name, parse_name
from carrack.cli.images.platforms import platform_document
from carrack.cli.logins import header_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.console import Output
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session


def read_name(text: str) -> Name:
    """An image name from the command line. Raises CommandFailure."""
    try:
        return parse_name(text)
    except ValueError as error:
        raise CommandFailure(str(error)) from None


def pull_image(session: Session, name: Name, *, platform: str, show_on: Output | None, all_tags: bool = False) -> None:
    """Has the daemon pull an image and shows how it goes. Raises CommandFailure with the daemon's text when it fails."""
    query = {"fromImage": name.full_name}
    if not all_tags:
        query["tag"] = name.digest or name.tag
    if platform:
        query["platform"] = platform.lower()
    headers = {"X-Registry-Auth": header_for(session.config, name.server)}
    with session.engine.request("POST", "/images/create", query, headers=headers) as response:
        show_progress(response.documents(), show_on)


def show_progress(messages: object, show_on: Output | None) -> None:
    """Shows progress messages, or only looks for a failure in them when there is nowhere to show them."""
    from carrack.cli.render.progress import ProgressDisplay

    if show_on is not None:
        ProgressDisplay(show_on).show_all(messages)  # type: ignore[arg-type]
        return
    for message in messages:  # type: ignore[attr-defined]
        failure = message.get("errorDetail") or ({"message": message["error"]} if message.get("error") else None)
        if failure:
            raise CommandFailure(str(failure.get("message") or ""))


def check_trust(parsed: Parsed) -> None:
    """Refuses what asks for Docker Content Trust: its Notary servers are gone, and an unchecked signature is worse than none."""
    wanted = not parsed.flag("disable-content-trust") if parsed.changed("disable-content-trust") else _trust_in_environment()
    if wanted:
        raise CommandFailure("content trust is not supported: unset DOCKER_CONTENT_TRUST and --disable-content-trust=false")


def _trust_in_environment() -> bool:
    from os import environ

    return environ.get("DOCKER_CONTENT_TRUST", "").lower() in ("1", "t", "true")


def _pull(session: Session, parsed: Parsed) -> None:
    check_trust(parsed)
    name = read_name(parsed.arguments[0])
    all_tags = parsed.flag("all-tags")
    quiet = parsed.flag("quiet")
    if all_tags and not name.only_name:
        raise CommandFailure("tag can't be used with --all-tags/-a")
    if name.only_name and not all_tags:
        name = name.with_default_tag()
        if not quiet:
            session.out.line(f"Using default tag: {name.tag}")
    session.out.flush()
    pull_image(session, name, platform=parsed.text("platform"), show_on=None if quiet else session.out, all_tags=all_tags)
    full = f"{name.full_name}@{name.digest}" if name.digest else f"{name.full_name}:{name.tag}" if name.tag else name.full_name
    session.out.line(full)


def _push(session: Session, parsed: Parsed) -> None:
    check_trust(parsed)
    name = read_name(parsed.arguments[0])
    all_tags, quiet = parsed.flag("all-tags"), parsed.flag("quiet")
    if name.digest:
        raise CommandFailure("cannot push a digest reference")
    if all_tags and not name.only_name:
        raise CommandFailure("tag can't be used with --all-tags/-a")
    if not all_tags and name.only_name:
        name = name.with_default_tag()
        if not quiet:
            session.out.line(f"Using default tag: {name.tag}")
    query: dict[str, str] = {} if all_tags else {"tag": name.tag}
    platform = parsed.text("platform")
    if platform:
        if not session.engine.speaks("1.46"):
            raise CommandFailure(
                f'"platform" requires API version 1.46, but the Docker daemon API version is {session.engine.version}'
            )
        query["platform"] = platform_document(platform)
    _send(session, name, query, quiet=quiet)
    if quiet:
        session.out.line(f"{name.full_name}:{name.tag}" if name.tag else name.full_name)


def push_name(session: Session, text: str, *, quiet: bool) -> None:
    """Push one name, as `carrack build --push` does with what it built. Raises CommandFailure."""
    name = read_name(text)
    name = name.with_default_tag() if name.only_name else name
    _send(session, name, {"tag": name.tag}, quiet=quiet)


def _send(session: Session, name: Name, query: dict[str, str], *, quiet: bool) -> None:
    headers = {"X-Registry-Auth": header_for(session.config, name.server)}
    session.out.flush()
    with session.engine.request("POST", f"/images/{name.full_name}/push", query, headers=headers) as response:
        show_progress(response.documents(), None if quiet else session.out)


COMMANDS = (
    Command(
        "image pull",
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "Pull an image from a registry",
        _pull,
        at_least=1,
        at_most=1,
        aliases="image pull, pull",
        flags="""
        -a, --all-tags bool                Pull every tag of the repository
            --disable-content-trust bool=true Do not verify the image's signature
            --platform string@1.32=$DOCKER_DEFAULT_PLATFORM              Platform, if the registry has several
        -q, --quiet bool                   Say nothing but the name
        """,
    ),
    Command(
        "image push",
        "[OPTIONS] NAME[:TAG]",
        "Push an image to a registry",
        _push,
        at_least=1,
        at_most=1,
        aliases="image push, push",
        flags="""
        -a, --all-tags bool                Push every tag of the repository
            --disable-content-trust bool=true Do not sign the image
            --platform string@1.46              Push the manifest of one platform only
        -q, --quiet bool                   Say nothing but the name
        """,
    ),
)
