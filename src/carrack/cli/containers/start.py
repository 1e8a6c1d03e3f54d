"""`carrack start`, with or without attaching."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.containers import explanation
from carrack.cli.containers.lifecycle import container_path
from carrack.cli.failure import CommandFailure
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session


def _start(session: Session, parsed: Parsed) -> None:
    query = {
        key: parsed.text(flag)
        for flag, key in (("checkpoint", "checkpoint"), ("checkpoint-dir", "checkpoint-dir"))
        if parsed.text(flag)
    }
    if parsed.flag("attach") or parsed.flag("interactive"):
        if len(parsed.arguments) > 1:
            raise CommandFailure("you cannot start and attach multiple containers at once")
        _start_attached(session, parsed, query)
    elif query:
        if len(parsed.arguments) > 1:
            raise CommandFailure("you cannot restore multiple containers at once")
        session.engine.order("POST", container_path(parsed.arguments[0], "/start"), query)
    else:
        _start_each(session, parsed.arguments, parsed.value("explain"))


def _start_each(session: Session, names: list[str], explain: str) -> None:
    failed: list[str] = []
    for name in names:
        try:
            explanation.start(session, container_path(name, "/start"), {}, explain)
        except CarrackError as error:
            session.err.line(str(error))
            failed.append(name)
        else:
            session.out.line(name)
    if failed:
        session.err.flush()
        raise CommandFailure(f"Error: failed to start containers: {', '.join(failed)}")


def _start_attached(session: Session, parsed: Parsed, query: dict[str, str]) -> None:
    from carrack.cli.attachment import Attachment, await_status, exit_with, resizer
    from carrack.cli.signals import SignalWatch

    container = session.engine.json("GET", container_path(parsed.arguments[0], "/json"))
    identity, config = container["Id"], container["Config"]
    keys = session.detach_keys(parsed.text("detach-keys"))
    stdin = parsed.flag("interactive") and config["OpenStdin"]
    attach = {
        "stream": "1",
        "stdout": "1",
        "stderr": "1",
        **({"stdin": "1"} if stdin else {}),
        **({"detachKeys": keys} if keys else {}),
    }
    signals = SignalWatch() if config["Tty"] else SignalWatch(engine=session.new_engine(), container=identity)
    hijacked = session.engine.hijack(container_path(identity, "/attach"), attach)
    attachment = Attachment(session, hijacked, tty=config["Tty"], stdin=stdin, keys=keys)
    removed = container["HostConfig"]["AutoRemove"]
    try:
        attachment.prepare()
        waiting = session.new_engine().request(
            "POST", container_path(identity, "/wait"), {"condition": "removed" if removed else "next-exit"}
        )
        try:
            explanation.start(session, container_path(identity, "/start"), query, parsed.value("explain"))
        except CarrackError:
            attachment.close()
            if removed:
                await_status(session, waiting, signals, quiet=True)
            raise
        resize = resizer(session, container_path(identity, "/resize")) if config["Tty"] and session.out.is_terminal else None
        attachment.run(waiting=waiting, signals=signals, resize=resize)
        if attachment.detached:
            return
        status = attachment.status if attachment.status is not None else await_status(session, waiting, signals)
    finally:
        attachment.close()
        signals.close()
    exit_with(status)


COMMANDS = (
    Command(
        "container start",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Start stopped containers",
        _start,
        at_least=1,
        aliases="container start, start",
        flags="""
        -a, --attach bool           Attach to its output and pass signals on
            --checkpoint string@experimental     Checkpoint to restore from
            --checkpoint-dir string@experimental Folder the checkpoint is kept in
            --detach-keys string    Keys that detach from the container
        -i, --interactive bool      Attach to its STDIN
        """
        + explanation.EXPLAIN_FLAG,
        checks={"explain": explanation.read_format},
    ),
)
