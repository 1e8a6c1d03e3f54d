"""`carrack run` and `carrack create`."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.containers import explanation
from carrack.cli.containers.create import check_pull_choice, configured_proxies, create_container
from carrack.cli.containers.options import CHECKS, CREATE_FLAGS, RUN_FLAGS
from carrack.cli.containers.spec import build_spec
from carrack.cli.failure import CommandFailure, run_failure, with_help
from carrack.errors import CarrackError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.containers.spec import Spec
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session


def _read_spec(session: Session, parsed: Parsed, command: str) -> Spec:
    try:
        check_pull_choice(parsed.text("pull"))
        server_os = session.engine.ping().get("ostype", "linux") if parsed.changed("device") else "linux"
        return build_spec(parsed, server_os=server_os, proxies=configured_proxies(session))
    except (ValueError, CommandFailure) as error:
        raise CommandFailure(with_help(str(error), command), 125) from None


def _create(session: Session, parsed: Parsed) -> None:
    spec = _read_spec(session, parsed, "create")
    session.out.line(create_container(session, parsed, spec))


def _run(session: Session, parsed: Parsed) -> None:
    spec = _read_spec(session, parsed, "run")
    config = spec.config
    if parsed.flag("detach"):
        if parsed.items("attach"):
            raise CommandFailure("conflicting options: cannot specify both --attach and --detach")
        config.update(AttachStdin=False, AttachStdout=False, AttachStderr=False, StdinOnce=False)
    elif config["Tty"] and config["AttachStdin"] and not session.input.is_terminal:
        raise CommandFailure("the input device is not a TTY")
    try:
        identity = create_container(session, parsed, spec)
    except CarrackError as error:
        raise run_failure(error) from None
    session.err.flush()
    if config["AttachStdin"] or config["AttachStdout"] or config["AttachStderr"]:
        _run_attached(session, parsed, spec, identity)
        return
    session.out.line(identity)
    session.out.flush()
    try:
        explanation.start(session, f"/containers/{identity}/start", {}, parsed.value("explain"))
    except CarrackError as error:
        raise run_failure(error) from None


def _run_attached(session: Session, parsed: Parsed, spec: Spec, identity: str) -> None:
    """Attach, wait, start: in this order, so that neither the first output nor a quick exit is missed."""
    from carrack.cli.attachment import Attachment, await_status, exit_with, resizer
    from carrack.cli.signals import SignalWatch

    config = spec.config
    keys = session.detach_keys(parsed.text("detach-keys"))
    tty = config["Tty"]
    signals = None
    if parsed.flag("sig-proxy"):
        signals = SignalWatch(engine=session.new_engine(), container=identity)
    elif tty:
        signals = SignalWatch()
    hijacked = session.engine.hijack(f"/containers/{identity}/attach", attach_query(config, keys))
    attachment = Attachment(
        session,
        hijacked,
        tty=tty,
        stdin=config["AttachStdin"],
        stdout=config["AttachStdout"],
        stderr=config["AttachStderr"],
        keys=keys,
    )
    try:
        attachment.prepare()
        waiting = session.new_engine().request(
            "POST", f"/containers/{identity}/wait", {"condition": "removed" if parsed.flag("rm") else "next-exit"}
        )
        try:
            explanation.start(session, f"/containers/{identity}/start", {}, parsed.value("explain"))
        except CarrackError as error:
            attachment.close()
            if parsed.flag("rm"):
                await_status(session, waiting, signals, quiet=True)
            raise run_failure(error) from None
        resize = resizer(session, f"/containers/{identity}/resize") if tty and session.out.is_terminal else None
        attachment.run(waiting=waiting, signals=signals, resize=resize)
        if attachment.detached:
            return
        status = attachment.status if attachment.status is not None else await_status(session, waiting, signals)
    finally:
        attachment.close()
        if signals is not None:
            signals.close()
    exit_with(status)


def attach_query(config: dict[str, object], keys: str) -> dict[str, str]:
    """The query of POST …/attach for the streams a configuration asks for."""
    query = {"stream": "1"}
    for stream in ("stdin", "stdout", "stderr"):
        if config[f"Attach{stream.capitalize()}"]:
            query[stream] = "1"
    if keys:
        query["detachKeys"] = keys
    return query


COMMANDS = (
    Command(
        "container run",
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create a container from an image and run it",
        _run,
        at_least=1,
        aliases="container run, run",
        flags=RUN_FLAGS + explanation.EXPLAIN_FLAG,
        checks={**CHECKS, "explain": explanation.read_format},
        interspersed=False,
    ),
    Command(
        "container create",
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create a container without starting it",
        _create,
        at_least=1,
        aliases="container create, create",
        flags=CREATE_FLAGS,
        checks=CHECKS,
        interspersed=False,
    ),
)
