"""Orders to containers that exist: stop, restart, kill, rm, pause, unpause, rename, wait."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.failure import CommandFailure
from carrack.cli.several import for_every
from carrack.client.failure import ApiNotFound
from carrack.client.http import percent_encode
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session
    from carrack.client.engine import Pending

AT_ONCE = 50


def container_path(name: str, action: str = "") -> str:
    """The API path of a container and what to do with it. Raises CommandFailure for a blank name."""
    if not name.strip():
        raise CommandFailure("invalid container name or ID: value is empty")
    return f"/containers/{percent_encode(name, keep='/:@')}{action}"


def for_each(
    session: Session,
    names: list[str],
    method: str,
    action: str,
    query: Mapping[str, str],
    *,
    forgive_missing: bool = False,
    trim: bool = False,
) -> None:
    """Sends one order to every container, up to fifty at a time, and prints the names of those that obeyed.

    Raises CommandFailure with a line for every one that did not.
    """
    failures: list[str] = []
    for start in range(0, len(names), AT_ONCE):
        batch = names[start : start + AT_ONCE]
        pending: list[Pending | CarrackError] = []
        for name in batch:
            try:
                target = name.strip("/") if trim else name
                if trim and not target:
                    raise CommandFailure("container name cannot be empty")
                pending.append(session.engine.begin(method, container_path(target, action), query))
            except CarrackError as error:
                pending.append(error)
        for name, order in zip(batch, pending, strict=True):
            try:
                if isinstance(order, CarrackError):
                    raise order
                order.finish()
            except ApiNotFound as error:
                if forgive_missing:
                    session.err.line(str(error))
                else:
                    failures.append(str(error))
            except CarrackError as error:
                failures.append(str(error))
            else:
                session.out.line(name)
    if failures:
        raise CommandFailure("\n".join(dict.fromkeys(failures) if _unreachable(failures) else failures))


def _unreachable(failures: list[str]) -> bool:
    return failures[0].startswith("Cannot connect")


def _stop_query(session: Session, parsed: Parsed) -> dict[str, str]:
    if parsed.changed("time") and parsed.changed("timeout"):
        raise CommandFailure("conflicting options: cannot specify both --timeout and --time")
    query: dict[str, str] = {}
    for flag in ("timeout", "time"):
        if parsed.changed(flag):
            query["t"] = str(parsed.number(flag))
    if parsed.changed("time"):
        session.err.line("Flag --time has been deprecated, use --timeout instead")
    if parsed.text("signal") and session.engine.speaks("1.42"):
        query["signal"] = parsed.text("signal")
    return query


def _stop(session: Session, parsed: Parsed) -> None:
    for_each(session, parsed.arguments, "POST", "/stop", _stop_query(session, parsed))


def _restart(session: Session, parsed: Parsed) -> None:
    for_each(session, parsed.arguments, "POST", "/restart", _stop_query(session, parsed))


def _kill(session: Session, parsed: Parsed) -> None:
    signal = parsed.text("signal")
    for_each(session, parsed.arguments, "POST", "/kill", {"signal": signal} if signal else {})


def _remove(session: Session, parsed: Parsed) -> None:
    query = {key: "1" for flag, key in (("volumes", "v"), ("link", "link"), ("force", "force")) if parsed.flag(flag)}
    for_each(session, parsed.arguments, "DELETE", "", query, forgive_missing=parsed.flag("force"), trim=True)


def _pause(session: Session, parsed: Parsed) -> None:
    for_each(session, parsed.arguments, "POST", "/pause", {})


def _unpause(session: Session, parsed: Parsed) -> None:
    for_each(session, parsed.arguments, "POST", "/unpause", {})


def _rename(session: Session, parsed: Parsed) -> None:
    old, new = [name.strip() for name in parsed.arguments]
    if not old or not new:
        raise CommandFailure("Error: Neither old nor new names may be empty")
    try:
        session.engine.order("POST", container_path(old, "/rename"), {"name": new})
    except CarrackError as error:
        session.err.line(str(error))
        raise CommandFailure(f"Error: failed to rename container named {old}") from None


def _wait(session: Session, parsed: Parsed) -> None:
    def wait(name: str) -> None:
        answer = session.engine.json("POST", container_path(name, "/wait"))
        session.out.line(str(answer["StatusCode"]))
        session.out.flush()

    for_every(parsed.arguments, wait)


_STOP_FLAGS = """
    -s, --signal string Signal to send to the container
        --time int!     Seconds to wait before killing the container
    -t, --timeout int   Seconds to wait before killing the container
"""

_EACH = "CONTAINER [CONTAINER...]"

COMMANDS = (
    Command(
        "container stop",
        f"[OPTIONS] {_EACH}",
        "Stop running containers",
        _stop,
        at_least=1,
        aliases="container stop, stop",
        flags=_STOP_FLAGS,
    ),
    Command(
        "container restart",
        f"[OPTIONS] {_EACH}",
        "Restart containers",
        _restart,
        at_least=1,
        aliases="container restart, restart",
        flags=_STOP_FLAGS,
    ),
    Command(
        "container kill",
        f"[OPTIONS] {_EACH}",
        "Kill running containers",
        _kill,
        at_least=1,
        aliases="container kill, kill",
        flags="-s, --signal string Signal to send to the container",
    ),
    Command(
        "container rm",
        f"[OPTIONS] {_EACH}",
        "Remove containers",
        _remove,
        at_least=1,
        aliases="container rm, container remove, rm",
        flags="""
        -f, --force bool   Kill a running container (SIGKILL) and remove it
        -l, --link bool    Remove the link of that name
        -v, --volumes bool Remove its anonymous volumes too
        """,
    ),
    Command("container pause", _EACH, "Pause all processes of containers", _pause, at_least=1, aliases="container pause, pause"),
    Command("container unpause", _EACH, "Let paused containers go on", _unpause, at_least=1, aliases="container unpause, unpause"),
    Command(
        "container rename",
        "CONTAINER NEW_NAME",
        "Rename a container",
        _rename,
        at_least=2,
        at_most=2,
        aliases="container rename, rename",
    ),
    Command(
        "container wait",
        _EACH,
        "Wait until containers stop and print their exit codes",
        _wait,
        at_least=1,
        aliases="container wait, wait",
    ),
)
