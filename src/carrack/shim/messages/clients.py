"""What a client's connection asks of a shim: each message travels with the client's own socket."""

from __future__ import annotations

from carrack.shim.messages.protocol import ProtocolMessage


class Attach(ProtocolMessage, frozen=True, tag="attach"):
    """Join the container's standard streams with a client. Descriptor: the client's socket."""

    sequence: int = 0
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    replay_logs: bool = False
    """Write what was logged so far first (`logs=1`)."""
    stream: bool = True
    """Go on with live output; without it, end after the replay."""
    detach_keys: bytes = b"\x10\x11"
    """The byte sequence that ends the client and leaves the container running; empty: none."""
    head: bytes = b""
    """Bytes the daemon had already read from the client."""
    end_of_input: bool = False
    """The client had already closed its sending side."""
    framing: str = ""
    """``framed`` or ``raw``, whatever the process has; empty: framed unless it has a terminal."""


class Wait(ProtocolMessage, frozen=True, tag="wait"):
    """Tell a client how the container ended, as the last chunks of an HTTP response whose header is already sent.

    Descriptor: the client's socket. `not-running` and `next-exit` are answered at the exit, `removed` at Forget.
    """

    sequence: int = 0
    condition: str = "not-running"


class FollowLogs(ProtocolMessage, frozen=True, tag="follow-logs"):
    """Write log records to a client, those on disk first, then new ones, in HTTP chunks. Descriptor: the client's socket."""

    sequence: int = 0
    stdout: bool = True
    stderr: bool = True
    since_nanoseconds: int = 0
    until_nanoseconds: int = 0
    tail: int = -1
    """How many of the last records to begin with; -1: all."""
    timestamps: bool = False
    details: bool = False
