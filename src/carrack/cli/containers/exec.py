"""`carrack exec`."""

from __future__ import annotations

import os

from carrack.cli.attachment import Attachment, check_terminal, exit_with, resizer
from carrack.cli.command import Command
from carrack.cli.containers.lifecycle import container_path
from carrack.cli.containers.options import check_environment
from carrack.cli.failure import CommandFailure, ExitWith
from carrack.cli.files import read_key_values
from carrack.client.failure import ConnectionFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session


def build_exec(session: Session, parsed: Parsed) -> dict[str, Any]:
    """The body of POST /containers/{id}/exec. Raises CommandFailure."""
    variables: list[str] = []
    try:
        for path in parsed.items("env-file"):
            variables.extend(read_key_values(path, os.environ.get))
    except ValueError as error:
        raise CommandFailure(str(error)) from None
    variables.extend(parsed.items("env"))
    attached = not parsed.flag("detach")
    document: dict[str, Any] = {
        "User": parsed.text("user"),
        "Privileged": parsed.flag("privileged"),
        "Tty": parsed.flag("tty"),
        "Detach": not attached,
        "AttachStdin": attached and parsed.flag("interactive"),
        "AttachStderr": attached,
        "AttachStdout": attached,
        "DetachKeys": session.detach_keys(parsed.text("detach-keys")),
        "Env": variables or None,
        "WorkingDir": parsed.text("workdir"),
        "Cmd": parsed.arguments[1:],
    }
    if parsed.flag("tty"):
        document["ConsoleSize"] = list(session.out.size())
    return document


def _exec(session: Session, parsed: Parsed) -> None:
    document = build_exec(session, parsed)
    name, engine = parsed.arguments[0], session.engine
    engine.json("GET", container_path(name, "/json"))
    detach, tty = parsed.flag("detach"), document["Tty"]
    if not detach:
        check_terminal(session, attach_stdin=document["AttachStdin"], tty=tty)
    if document["Env"] and not engine.speaks("1.25"):
        raise CommandFailure(f'"env" requires API version 1.25, but the Docker daemon API version is {engine.version}')
    sent = document if engine.speaks("1.42") else {key: value for key, value in document.items() if key != "ConsoleSize"}
    identity = engine.json("POST", container_path(name, "/exec"), document=sent).get("Id")
    if not identity:
        raise CommandFailure("exec ID empty")
    start: dict[str, Any] = {"Detach": detach, "Tty": tty}
    if tty and engine.speaks("1.42"):
        start["ConsoleSize"] = document["ConsoleSize"]
    if detach:
        engine.order("POST", f"/exec/{identity}/start", document=start)
        return
    attachment = Attachment(
        session,
        engine.hijack(f"/exec/{identity}/start", document=start),
        tty=tty,
        stdin=document["AttachStdin"],
        keys=document["DetachKeys"],
    )
    signals = None
    try:
        attachment.prepare()
        resize = None
        if tty and session.input.is_terminal and session.out.is_terminal:
            from carrack.cli.signals import SignalWatch

            signals = SignalWatch()
            resize = resizer(session, f"/exec/{identity}/resize")
        attachment.run(signals=signals, resize=resize)
        if attachment.detached:
            raise CommandFailure("read escape sequence")
    finally:
        attachment.close()
        if signals is not None:
            signals.close()
    try:
        exit_with(int(engine.json("GET", f"/exec/{identity}/json").get("ExitCode") or 0))
    except ConnectionFailed:
        raise ExitWith(255) from None


COMMANDS = (
    Command(
        "container exec",
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        "Run a command in a running container",
        _exec,
        at_least=2,
        aliases="container exec, exec",
        interspersed=False,
        checks={"env": check_environment},
        flags="""
        -d, --detach bool        Run the command in the background
            --detach-keys string Keys that detach from the command
        -e, --env list@1.25           Environment variables
            --env-file list@1.25      File of environment variables
        -i, --interactive bool   Keep STDIN open even if nobody is attached
            --privileged bool    Give the command extended privileges
        -t, --tty bool           Give it a terminal
        -u, --user string        User name or id ("<name|uid>[:<group|gid>]")
        -w, --workdir string@1.35     Working directory
        """,
    ),
)
