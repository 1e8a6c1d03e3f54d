"""How a worker's job ended."""

from __future__ import annotations

from carrack.shim.messages.protocol import ProtocolMessage


class WorkerDone(ProtocolMessage, frozen=True, tag="worker-done"):
    """A job's result; the fields that its kind gives."""

    diff_id: str = ""
    size_bytes: int = 0
    entries: int = 0
    stream_bytes: int = 0
    checksum: str = ""
    exit_code: int = 0


class WorkerFailed(ProtocolMessage, frozen=True, tag="worker-failed"):
    """`kind` is the name of a class of carrack.errors."""

    kind: str
    message: str
