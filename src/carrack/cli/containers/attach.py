"""`carrack attach`."""

from __future__ import annotations

from carrack.cli.attachment import Attachment, await_status, check_terminal, exit_with, resizer
from carrack.cli.command import Command
from carrack.cli.containers.lifecycle import container_path
from carrack.cli.failure import CommandFailure
from carrack.cli.signals import SignalWatch
from carrack.client.failure import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session
    from carrack.client.engine import Response


def _running(session: Session, name: str) -> dict[str, Any]:
    """The container, if one can attach to it. Raises CommandFailure, ApiError."""
    container: dict[str, Any] = session.engine.json("GET", container_path(name, "/json"))
    state = container["State"]
    if not state["Running"]:
        raise CommandFailure("You cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise CommandFailure("You cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise CommandFailure("You cannot attach to a restarting container, wait until it is running")
    return container


def _begin_waiting(session: Session, name: str) -> Response | None:
    """The request that will tell the exit status, sent before anything else; when it fails, the next one says why."""
    try:
        return session.new_engine().request("POST", container_path(name, "/wait"))
    except ApiError:
        return None


def _attach(session: Session, parsed: Parsed) -> None:
    name = parsed.arguments[0]
    waiting = _begin_waiting(session, name)
    config = _running(session, name)["Config"]
    tty = config["Tty"]
    check_terminal(session, attach_stdin=not parsed.flag("no-stdin"), tty=tty)
    keys = session.detach_keys(parsed.text("detach-keys"))
    stdin = not parsed.flag("no-stdin") and config["OpenStdin"]
    query = {
        "stream": "1",
        "stdout": "1",
        "stderr": "1",
        **({"stdin": "1"} if stdin else {}),
        **({"detachKeys": keys} if keys else {}),
    }
    signals = None
    if tty:
        signals = SignalWatch()
    elif parsed.flag("sig-proxy"):
        signals = SignalWatch(engine=session.new_engine(), container=name)
    attachment = None
    try:
        hijacked = session.engine.hijack(container_path(name, "/attach"), query)
        attachment = Attachment(session, hijacked, tty=tty, stdin=stdin, keys=keys)
        _running(session, name)  # it may have ended between the first look and the attach, which would then wait for ever
        resize = resizer(session, container_path(name, "/resize")) if tty and session.out.is_terminal else None
        if resize:
            height, width = session.out.size()
            resize(height + 1, width + 1)  # a program redraws its prompt only when the size has really changed
        attachment.prepare()
        attachment.run(waiting=waiting, signals=signals, resize=resize)
        if attachment.detached:
            raise CommandFailure("read escape sequence")
        status = attachment.status
        if status is None:
            status = 125 if waiting is None else await_status(session, waiting, signals)
    finally:
        if attachment is not None:
            attachment.close()
        if signals is not None:
            signals.close()
    exit_with(status)


COMMANDS = (
    Command(
        "container attach",
        "[OPTIONS] CONTAINER",
        "Attach the terminal's input and output to a running container",
        _attach,
        at_least=1,
        at_most=1,
        aliases="container attach, attach",
        flags="""
            --detach-keys string  Keys that detach from the container
            --no-stdin bool       Do not attach STDIN
            --sig-proxy bool=true Pass signals on to the process
        """,
    ),
)
