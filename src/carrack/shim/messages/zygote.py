"""The zygote itself, and the names process that it forks once per instance."""

from __future__ import annotations

from carrack.shim.messages.protocol import VERSION, ProtocolMessage

START = b"start"
JOB = b"job"
"""The first packet of a connection to a zygote: whether a StartOrder comes next, or something for a worker or the names process.
Instead of it a daemon of any version may send Leave."""


class Greeting(ProtocolMessage, frozen=True, tag="greeting"):
    """The first message on every connection to a zygote, from it."""

    pid: int
    build: str
    """Which code it holds; a daemon of another build replaces it."""
    version: int = VERSION
    trouble: str = ""
    """Why it cannot take an order by this connection, which it closes."""


class Leave(ProtocolMessage, frozen=True, tag="leave"):
    """To a zygote: close the socket and exit. Shims and workers that it forked go on."""


class ServeNames(ProtocolMessage, frozen=True, tag="serve-names"):
    """Become an instance's names process (networks/dns/process.py). Descriptors: its listening socket, and the conversation with
    whoever ordered it."""

    socket_path: str
    version: int = VERSION
