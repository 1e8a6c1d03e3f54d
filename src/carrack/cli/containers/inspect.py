"""`carrack container inspect`."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.containers.lifecycle import container_path
from carrack.cli.inspection import FORMAT_FLAG, inspect_each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session


def fetch_container(session: Session, name: str, *, size: bool) -> bytes:
    """The container's document as the daemon wrote it. Raises ApiError."""
    return session.engine.request("GET", container_path(name, "/json"), {"size": "1"} if size else None).read_all()


def _inspect(session: Session, parsed: Parsed) -> None:
    inspect_each(
        session.out, parsed.arguments, parsed.text("format"), lambda name: fetch_container(session, name, size=parsed.flag("size"))
    )


COMMANDS = (
    Command(
        "container inspect",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Print everything about containers",
        _inspect,
        at_least=1,
        flags=f"{FORMAT_FLAG}\n-s, --size bool Print the size of its files too",
    ),
)
