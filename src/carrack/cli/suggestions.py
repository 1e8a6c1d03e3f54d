"""What was meant by a word that is nearly right: of commands, flags, and names of containers and images.

A guess stands behind the failure's own text. Names cost a question to the daemon, so they are guessed only for a person at a
terminal; what a script reads stays as Docker's command says it.
"""

from __future__ import annotations

from carrack.cli.failure import PROGRAM
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from carrack.cli.session import Session

MOST = 3


def near(word: str, names: Iterable[str], *, cutoff: float = 0.6) -> list[str]:
    """The names nearest to a word, the nearest first; none when none is near."""
    import difflib

    return difflib.get_close_matches(word, list(dict.fromkeys(names)), n=MOST, cutoff=cutoff)


def did_you_mean(guesses: list[str]) -> str:
    """The line behind a failure; empty without a guess."""
    return f"\n\nDid you mean: {', '.join(guesses)}" if guesses else ""


def for_command(word: str, group: str, names: Iterable[str]) -> str:
    """A guess for a command among the names of a group, or of the program (an empty group)."""
    return did_you_mean([f"{PROGRAM} {group} {name}".replace("  ", " ") for name in near(word, names)])


def for_flag(failure: str, flags: Iterable[str]) -> str:
    """A guess for the flag that a failure says is unknown."""
    _, unknown, flag = failure.partition("unknown flag: --")
    return did_you_mean([f"--{name}" for name in near(flag, flags)]) if unknown else ""


_CONTAINER, _IMAGE = "No such container: ", "No such image: "


def for_failure(session: Session, failure: str) -> str:
    """A guess for the container or image that a failure says is not there, for a person at a terminal."""
    if not session.err.is_terminal:
        return ""
    for mark, kind in ((_CONTAINER, "containers"), (_IMAGE, "images"), ("pull access denied for ", "images")):
        _, found, rest = failure.partition(mark)
        if found:
            word = rest.split()[0].rstrip(",.") if rest.split() else ""
            try:
                return did_you_mean(near(word.removesuffix(":latest"), _names(session, kind), cutoff=0.65))
            except (CarrackError, KeyError, TypeError):
                return ""
    return ""


def _names(session: Session, kind: str) -> list[str]:
    if kind == "containers":
        rows = session.engine.json("GET", "/containers/json", {"all": "1"}) or []
        return [str(name).lstrip("/") for row in rows for name in row.get("Names") or ()]
    rows = session.engine.json("GET", "/images/json") or []
    return [str(name).removesuffix(":latest") for row in rows for name in row.get("RepoTags") or ()]
