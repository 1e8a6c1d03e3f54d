"""What a kind of volume must be able to do. Records, references and events are not its affair: `Volumes` does those once."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from carrack.volumes.volume import Volume


class Driver(Protocol):
    """One kind of volume."""

    name: str

    def check(self, name: str, options: dict[str, str]) -> None:
        """Whether such a volume can be. Touches nothing. Raises InvalidParameter."""
        ...

    def create(self, name: str, options: dict[str, str]) -> str:
        """Make the volume; return its path on the host. One that is there already does not matter."""
        ...

    def forget_unborn(self, known: Collection[str]) -> None:
        """Take away what `create` made and nobody recorded, for the daemon was killed in between; of that only what is empty."""
        ...

    def mount(self, volume: Volume) -> None:
        """Make its content appear at its path; once for any number of users. Raises SystemFailure."""
        ...

    def unmount(self, volume: Volume) -> None:
        """Undo `mount`; one that is not mounted does not matter."""
        ...

    def rename(self, volume: Volume, name: str) -> str:
        """Give an unmounted volume another name; return its new path. One that has it already does not matter."""
        ...

    def stage(self, options: dict[str, str]) -> Path:
        """A new place to fill, which becomes a volume by `adopt` and is thrown away by `abandon` or by the next start."""
        ...

    def adopt(self, staged: Path, name: str) -> str:
        """Make a staged place the volume of that name, whole or not at all; return its path. Raises SystemFailure."""
        ...

    def abandon(self, staged: Path) -> None:
        """Throw a staged place away. Idempotent."""
        ...

    def detach(self, volume: Volume) -> None:
        """Make ready for `remove`: unmounted, and nothing in it that is somebody else's. Raises SystemFailure; then it stays."""
        ...

    def remove(self, volume: Volume) -> None:
        """Remove the volume and what is in it; one that is gone does not matter."""
        ...
