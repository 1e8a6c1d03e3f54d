"""`carrack image inspect`."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.failure import CommandFailure
from carrack.cli.images.platforms import platform_document
from carrack.cli.images.remove import image_path
from carrack.cli.inspection import FORMAT_FLAG, inspect_each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session


def fetch_image(session: Session, name: str, *, platform: str = "") -> bytes:
    """The image's document as the daemon wrote it. Raises ApiError."""
    return session.engine.request("GET", image_path(name, "/json"), {"platform": platform} if platform else None).read_all()


def _inspect(session: Session, parsed: Parsed) -> None:
    platform = parsed.text("platform")
    if platform:
        if not session.engine.speaks("1.49"):
            raise CommandFailure(
                f'"platform" requires API version 1.49, but the Docker daemon API version is {session.engine.version}'
            )
        platform = platform_document(platform)
    inspect_each(session.out, parsed.arguments, parsed.text("format"), lambda name: fetch_image(session, name, platform=platform))


COMMANDS = (
    Command(
        "image inspect",
        "[OPTIONS] IMAGE [IMAGE...]",
        "Print everything about images",
        _inspect,
        at_least=1,
        flags=f'{FORMAT_FLAG}\n--platform string@1.49 Print the image of one platform (e.g. "linux/amd64")',
    ),
)
