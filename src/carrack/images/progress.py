"""What a long order tells while it works: Docker's progress messages as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of a progress stream. `id` names the part (a layer's short digest), `current` of `total` bytes are done.

    `stream` is plain text for the person; `aux` a document for the program.
    """

    status: str = ""
    id: str = ""
    current: int = 0
    total: int = 0
    stream: str = ""
    aux: object = None
    sentence: bool = False
    """About the whole, although it has an id: no bar belongs to it."""
