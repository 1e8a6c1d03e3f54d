"""`prune` of every kind: the question first, then the order, then what went and how much room that made."""

from __future__ import annotations

from carrack.cli.failure import CommandFailure, ExitWith
from carrack.cli.filters import filters_query
from carrack.cli.render.units import human_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session

    Filters = dict[str, list[str]]

FORCE_FLAG = "-f, --force bool Do not ask"


def confirm(session: Session, question: str) -> bool:
    """Asks on stdout and reads one line; only `y` means yes."""
    session.out.write(f"{question} [y/N] ")
    session.out.flush()
    answer = b""
    while not answer.endswith(b"\n"):
        letter = session.input.read(1)
        if not letter:
            break
        answer += letter
    return answer.strip().lower() == b"y"


def prune_filters(session: Session, filters: Filters) -> Filters:
    """The filters of the command line and those config.json always wants, unless the two contradict each other."""
    merged = {name: list(values) for name, values in filters.items()}
    for text in session.config.document.get("pruneFilters") or ():
        name, equals, value = str(text).partition("=")
        opposite = {"label": "label!", "label!": "label"}.get(name, "")
        if equals and not (opposite and value in merged.get(opposite, [])) and value not in merged.get(name, []):
            merged.setdefault(name, []).append(value)
    return merged


def ask_or_stop(session: Session, parsed: Parsed, question: str) -> None:
    """Asks unless --force was given; `no` ends the command quietly, and is no failure."""
    if not parsed.flag("force") and not confirm(session, question):
        raise ExitWith(0)


def prune_containers(session: Session, filters: Filters) -> tuple[int, str]:
    """(bytes reclaimed, what to print)."""
    report = session.engine.json("POST", "/containers/prune", filters_query(filters))
    return _report("Deleted Containers:", report.get("ContainersDeleted"), report.get("SpaceReclaimed"))


def prune_networks(session: Session, filters: Filters) -> tuple[int, str]:
    """(bytes reclaimed, what to print)."""
    report = session.engine.json("POST", "/networks/prune", filters_query(filters))
    return _report("Deleted Networks:", report.get("NetworksDeleted"), 0)


def prune_volumes(session: Session, filters: Filters) -> tuple[int, str]:
    """(bytes reclaimed, what to print)."""
    report = session.engine.json("POST", "/volumes/prune", filters_query(filters))
    return _report("Deleted Volumes:", report.get("VolumesDeleted"), report.get("SpaceReclaimed"))


def prune_images(session: Session, filters: Filters, *, everything: bool) -> tuple[int, str]:
    """(bytes reclaimed, what to print)."""
    wanted = {**filters, "dangling": ["false" if everything else "true"]}
    report = session.engine.json("POST", "/images/prune", filters_query(wanted))
    entries = report.get("ImagesDeleted") or []
    lines = [
        f"untagged: {entry['Untagged']}" if entry.get("Untagged") else f"deleted: {entry.get('Deleted', '')}" for entry in entries
    ]
    return _report("Deleted Images:", lines, report.get("SpaceReclaimed"))


def prune_build_cache(session: Session, filters: Filters, *, everything: bool, keep_bytes: int = 0) -> tuple[int, str]:
    """(bytes reclaimed, what to print)."""
    query = filters_query(filters)
    if everything:
        query["all"] = "1"
    if keep_bytes:
        query["keep-storage"] = str(keep_bytes)
    report = session.engine.json("POST", "/build/prune", query)
    return _report("Deleted build cache objects:", report.get("CachesDeleted"), report.get("SpaceReclaimed"))


def _report(title: str, names: list[str] | None, reclaimed: int | None) -> tuple[int, str]:
    if not names:
        return 0, ""
    return reclaimed or 0, "\n".join([title, *names]) + "\n"


def print_report(session: Session, reclaimed: int, text: str) -> None:
    """The list of what went, and the total."""
    if text:
        session.out.line(text)
    session.out.line(f"Total reclaimed space: {human_size(reclaimed)}")


def check_builder(session: Session) -> None:
    """Refuses what an old daemon has no route for."""
    if not session.engine.speaks("1.31"):
        raise CommandFailure(
            f'"build prune" requires API version 1.31, but the Docker daemon API version is {session.engine.version}'
        )
