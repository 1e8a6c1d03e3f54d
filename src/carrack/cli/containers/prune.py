"""`carrack container prune`."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.pruning import FORCE_FLAG, ask_or_stop, print_report, prune_containers, prune_filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

QUESTION = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue?"


def _prune(session: Session, parsed: Parsed) -> None:
    filters = prune_filters(session, parsed.filters())
    ask_or_stop(session, parsed, QUESTION)
    print_report(session, *prune_containers(session, filters))


COMMANDS = (
    Command(
        "container prune",
        "[OPTIONS]",
        "Remove all stopped containers",
        _prune,
        at_most=0,
        flags=f'{FORCE_FLAG}\n--filter filter Remove only what matches (e.g. "until=<timestamp>")',
    ),
)
