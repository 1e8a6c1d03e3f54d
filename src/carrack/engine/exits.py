"""How a container ended: what its shim wrote before it told anyone, and what those who wait are told."""

from __future__ import annotations

import time

import msgspec

from carrack.engine.container import Container
from carrack.shim.messages import Exited

SUPERVISOR_LOST = "the container's supervisor was lost, and the container was ended with it"
_KILLED = 128 + 9


def read_exit(container: Container) -> Exited:
    """How a container ended, from what its shim wrote; 137 when it wrote nothing."""
    exited = find_exit(container)
    if exited is not None and exited.finished_at_nanoseconds >= container.state.started_at_nanoseconds:
        return exited
    return Exited(_KILLED, time.time_ns(), error=SUPERVISOR_LOST)


def find_exit(container: Container) -> Exited | None:
    """The exit that a shim of this container wrote last."""
    try:
        with open(f"{container.directory}/exit.json", "rb") as file:
            return msgspec.json.decode(file.read(65536), type=Exited)
    except (OSError, msgspec.DecodeError):
        return None


def exit_document(container: Container) -> bytes:
    """What `wait` answers."""
    document: dict[str, object] = {"StatusCode": container.state.exit_code}
    return msgspec.json.encode(document) + b"\n"
