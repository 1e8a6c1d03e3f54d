"""`exit.json`: how a container ended, on disk before anyone is told (law 5), so that a daemon that was away can read it."""

from __future__ import annotations

import os

from carrack.errors import SystemFailure
from carrack.shim import wire
from carrack.shim.messages import Exited

NAME = "exit.json"


def write(state_directory: str, exited: Exited) -> None:
    """Put the record in place by a rename: a reader finds all of it or none. Raises OSError."""
    path = os.path.join(state_directory, NAME)
    temporary = path + ".new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, wire.encode(exited))
    finally:
        os.close(fd)
    os.rename(temporary, path)


def read(state_directory: str) -> Exited | None:
    """The record, None when there is none (or it is not one)."""
    try:
        with open(os.path.join(state_directory, NAME), "rb") as file:
            message = wire.decode(file.read())
    except (FileNotFoundError, SystemFailure):
        return None
    return message if isinstance(message, Exited) else None


def remove(state_directory: str) -> None:
    """Forget an earlier run's exit."""
    try:
        os.unlink(os.path.join(state_directory, NAME))
    except FileNotFoundError:
        pass
