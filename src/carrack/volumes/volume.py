"""A volume as it is recorded."""

from __future__ import annotations

import msgspec

ANONYMOUS_LABEL = "com.docker.volume.anonymous"
"""Marks a volume that nobody named; such ones go by `volume prune` without `--all`."""


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """A directory that outlives containers. `references` are the ids of the containers that have it, running or not."""

    name: str
    driver: str = "local"
    mountpoint: str = ""
    created_nanoseconds: int = 0
    scope: str = "local"
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    references: tuple[str, ...] = ()
    renamed_from: str = ""
    """A rename that was recorded before it was done: the name its directory may still have."""

    @property
    def anonymous(self) -> bool:
        return ANONYMOUS_LABEL in self.labels
