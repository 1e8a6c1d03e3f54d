"""The `checkpoint` commands. Docker's daemon must be experimental for them; ours says what it lacks: CRIU."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.containers.lifecycle import container_path
from carrack.cli.render.noun import Noun
from carrack.cli.render.rows import print_rows
from carrack.client.http import percent_encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

NOUN = Noun("*checkpoint.checkpointContext", {"Name": ("CHECKPOINT NAME", lambda checkpoint: checkpoint["Name"])})


def _create(session: Session, parsed: Parsed) -> None:
    container, name = parsed.arguments
    document = {"CheckpointID": name, "CheckpointDir": parsed.text("checkpoint-dir"), "Exit": not parsed.flag("leave-running")}
    session.engine.order("POST", container_path(container, "/checkpoints"), document=document)
    session.out.line(name)


def _directory(parsed: Parsed) -> dict[str, str]:
    return {"dir": parsed.text("checkpoint-dir")} if parsed.text("checkpoint-dir") else {}


def _list(session: Session, parsed: Parsed) -> None:
    checkpoints = session.engine.json("GET", container_path(parsed.arguments[0], "/checkpoints"), _directory(parsed)) or []
    print_rows(session.out, NOUN, checkpoints, template="", columns=("Name",))


def _remove(session: Session, parsed: Parsed) -> None:
    container, name = parsed.arguments
    session.engine.order("DELETE", container_path(container, f"/checkpoints/{percent_encode(name)}"), _directory(parsed))


_DIRECTORY = "--checkpoint-dir string Folder the checkpoints are kept in"

COMMANDS = (
    Command(
        "checkpoint create",
        "[OPTIONS] CONTAINER CHECKPOINT",
        "Write a running container's state to disk",
        _create,
        needs="experimental",
        at_least=2,
        at_most=2,
        flags=f"{_DIRECTORY}\n--leave-running bool Let the container run on",
    ),
    Command(
        "checkpoint ls",
        "[OPTIONS] CONTAINER",
        "List checkpoints of a container",
        _list,
        needs="experimental",
        at_least=1,
        at_most=1,
        aliases="checkpoint ls, checkpoint list",
        flags=_DIRECTORY,
    ),
    Command(
        "checkpoint rm",
        "[OPTIONS] CONTAINER CHECKPOINT",
        "Remove a checkpoint",
        _remove,
        needs="experimental",
        at_least=2,
        at_most=2,
        aliases="checkpoint rm, checkpoint remove",
        flags=_DIRECTORY,
    ),
)
