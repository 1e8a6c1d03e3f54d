"""`carrack system prune`."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.containers.look import natural_key
from carrack.cli.failure import CommandFailure
from carrack.cli.pruning import (
    FORCE_FLAG,
    ask_or_stop,
    prune_build_cache,
    prune_containers,
    prune_filters,
    prune_images,
    prune_networks,
    prune_volumes,
)
from carrack.cli.render.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session


def question(*, everything: bool, volumes: bool, cache: bool, filters: dict[str, list[str]]) -> str:
    """What is about to go, as a question."""
    items = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        items.append("all anonymous volumes not used by at least one container")
    items.append("all images without at least one container associated to them" if everything else "all dangling images")
    if cache:
        items.append("all build cache" if everything else "unused build cache")
    text = "WARNING! This will remove:" + "".join([f"\n  - {item}" for item in items]) + "\n"
    shown = [f"{name}={value}" for name in ("label", "label!", "until") for value in filters.get(name, ())]
    if shown:
        text += (
            "\n  Items to be pruned will be filtered with:"
            + "".join([f"\n  - {item}" for item in sorted(shown, key=natural_key)])
            + "\n"
        )
    return f"{text}\nAre you sure you want to continue?"


def _prune(session: Session, parsed: Parsed) -> None:
    everything, volumes = parsed.flag("all"), parsed.flag("volumes")
    if volumes and "until" in parsed.filters():
        raise CommandFailure('ERROR: The "until" filter is not supported with "--volumes"')
    filters = prune_filters(session, parsed.filters())
    cache = session.engine.speaks("1.31")
    ask_or_stop(session, parsed, question(everything=everything, volumes=volumes, cache=cache, filters=filters))
    total = 0
    steps: list[Callable[[], tuple[int, str]]] = [
        lambda: prune_containers(session, filters),
        lambda: prune_networks(session, filters),
    ]
    if volumes:
        steps.append(lambda: prune_volumes(session, filters))
    steps.append(lambda: prune_images(session, filters, everything=everything))
    if cache:
        steps.append(lambda: prune_build_cache(session, filters, everything=everything))
    for step in steps:
        reclaimed, text = step()
        total += reclaimed
        if text:
            session.out.line(text)
    session.out.line(f"Total reclaimed space: {human_size(total)}")


COMMANDS = (
    Command(
        "system prune",
        "[OPTIONS]",
        "Remove what is not used",
        _prune,
        at_most=0,
        flags=f"-a, --all bool Remove every image without a container, not only those without a name\n{FORCE_FLAG}\n"
        '--filter filter Remove only what matches (e.g. "label=<key>=<value>")\n--volumes bool Remove anonymous volumes too',
    ),
)
