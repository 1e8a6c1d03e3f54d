"""What we write beside criu's images, and read before a restore."""

from __future__ import annotations

import msgspec

from carrack.errors import InvalidParameter

CONTENTS = "carrack.json"
COMPLETE = "inventory.img"
"""Criu writes it last."""
_LARGEST_BYTES = 1 << 20


class Contents(msgspec.Struct, frozen=True):
    """What of a container was outside it when it was written out."""

    pipes: tuple[str, ...] = ()
    """``pipe:[INODE]`` of standard input, output and errors, as the container knew them; empty: not a pipe."""
    mounts: tuple[str, ...] = ()
    """Places where something of the host was mounted."""


def read(directory: str) -> Contents:
    """Raises InvalidParameter when the directory holds no checkpoint of ours."""
    try:
        with open(f"{directory}/{CONTENTS}", "rb") as file:
            return msgspec.json.decode(file.read(_LARGEST_BYTES), type=Contents)
    except (OSError, msgspec.DecodeError) as error:
        raise InvalidParameter(f"{directory} holds no checkpoint: {CONTENTS}: {error}") from error
