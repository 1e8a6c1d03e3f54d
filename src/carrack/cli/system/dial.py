"""`carrack system dial-stdio`: the daemon's API on stdin and stdout, for a client that comes by ssh. Hidden from help."""

from __future__ import annotations

from select import select

from carrack.cli.command import Command
from carrack.cli.console import write_all
from carrack.client.connection import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from carrack.cli.flags import Parsed
    from carrack.cli.session import Session


def _dial(session: Session, parsed: Parsed) -> None:
    connection = connect(session.endpoint())
    reading = True
    unsent = b""
    try:
        while True:
            sources = [connection.fileno()] + ([session.input.fd] if reading and not unsent else [])
            readable, writable, _ = select(sources, [connection.fileno()] if unsent else [], [])
            if writable:
                unsent = unsent[connection.send_some(unsent) :]
            if session.input.fd in readable and reading and not unsent:
                unsent = session.input.read(65536)
                if not unsent:
                    reading = False
                    connection.half_close()
            if connection.fileno() in readable:
                data = connection.receive()
                if not data:
                    return
                write_all(1, data)
    finally:
        connection.close()


COMMANDS = (Command("system dial-stdio", "", "Connect stdin and stdout to the daemon", _dial, at_most=0),)
