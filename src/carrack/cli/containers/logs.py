"""`carrack logs`: of one container as Docker prints them, of several with the name in front of each line."""

from __future__ import annotations

from carrack.cli.command import Command
from carrack.cli.console import write_all
from carrack.cli.containers.lifecycle import container_path
from carrack.cli.failure import CommandFailure
from carrack.cli.times import api_timestamp
from carrack.client.frames import STDERR, SYSTEM_ERROR, FrameReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session
    from carrack.client.engine import Response


def _logs(session: Session, parsed: Parsed) -> None:
    containers = [session.engine.json("GET", container_path(name, "/json")) for name in parsed.arguments]
    query: dict[str, str] = {"stdout": "1", "stderr": "1", "tail": parsed.text("tail")}
    for flag in ("since", "until"):
        if parsed.text(flag):
            try:
                query[flag] = api_timestamp(parsed.text(flag))
            except ValueError as error:
                raise CommandFailure(f'invalid value for "{flag}": {error}') from None
    for flag in ("follow", "timestamps", "details"):
        if parsed.flag(flag):
            query[flag] = "1"
    if len(containers) > 1:
        from carrack.cli.containers.several_logs import print_several

        print_several(session, containers, query)
        return
    container = containers[0]
    with session.engine.request("GET", container_path(container["Id"], "/logs"), query) as response:
        print_stream(response, framed=not container["Config"]["Tty"])


def print_stream(response: Response, *, framed: bool) -> None:
    """Copies a log answer to stdout and stderr as it arrives. Raises CommandFailure when the daemon reports a failure in it."""
    frames = FrameReader()
    for data in response.body:
        if not framed:
            write_all(1, data)
            continue
        for stream, piece in frames.feed(data):
            if stream == SYSTEM_ERROR:
                raise CommandFailure(f"error from daemon in stream: {piece.decode('utf-8', 'replace')}")
            write_all(2 if stream == STDERR else 1, piece)


COMMANDS = (
    Command(
        "container logs",
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Print the logs of containers",
        _logs,
        at_least=1,
        aliases="container logs, logs",
        flags="""
            --details bool    Print what the logging driver adds
        -f, --follow bool     Go on printing as more is logged
            --since string    From this time on ("2013-01-02T13:23:37Z"), or this long ago ("42m")
        -n, --tail string=all Number of lines from the end
        -t, --timestamps bool Print the time of each line
            --until string@1.35    Up to this time ("2013-01-02T13:23:37Z"), or this long ago ("42m")
        """,
    ),
)
