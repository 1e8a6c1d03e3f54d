"""`carrack image prune` and `carrack builder prune`."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.pruning import FORCE_FLAG, ask_or_stop, check_builder, print_report, prune_build_cache, prune_filters, prune_images
from carrack.cli.render.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

_SURE = "\nAre you sure you want to continue?"
_DANGLING = f"WARNING! This will remove all dangling images.{_SURE}"
_ALL = f"WARNING! This will remove all images without at least one container associated to them.{_SURE}"
_CACHE = "WARNING! This will remove all dangling build cache. Are you sure you want to continue?"
_ALL_CACHE = "WARNING! This will remove all build cache. Are you sure you want to continue?"


def _prune(session: Session, parsed: Parsed) -> None:
    filters = prune_filters(session, parsed.filters())
    everything = parsed.flag("all")
    ask_or_stop(session, parsed, _ALL if everything else _DANGLING)
    print_report(session, *prune_images(session, filters, everything=everything))


def _prune_cache(session: Session, parsed: Parsed) -> None:
    check_builder(session)
    filters = prune_filters(session, parsed.filters())
    everything = parsed.flag("all")
    ask_or_stop(session, parsed, _ALL_CACHE if everything else _CACHE)
    reclaimed, text = prune_build_cache(session, filters, everything=everything, keep_bytes=parsed.number("keep-storage"))
    if text:
        session.out.line(text)
    session.out.line(f"Total reclaimed space: {human_size(reclaimed)}")


COMMANDS = (
    Command(
        "image prune",
        "[OPTIONS]",
        "Remove unused images",
        _prune,
        at_most=0,
        flags=f"-a, --all bool Remove every image without a container, not only those without a name\n{FORCE_FLAG}\n"
        '--filter filter Remove only what matches (e.g. "until=<timestamp>")',
    ),
    Command(
        "builder prune",
        "",
        "Remove build cache",
        _prune_cache,
        needs="1.39",
        at_most=0,
        flags=f"-a, --all bool Remove all of it, not only what nothing refers to\n{FORCE_FLAG}\n"
        '--filter filter Remove only what matches (e.g. "until=24h")\n--keep-storage bytes Disk space to keep for the cache',
    ),
)
