"""Images over a data-root of their own, with real layers and a real worker."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from carrack.content import FilesystemContent
from carrack.images import ContainerUse
from carrack.images.images import Images
from carrack.images.registries import Puller
from carrack.oci.platform import Platform
from carrack.snapshots import Overlay, Trash
from carrack.state import Database
from tests.rig.confined import ForkUnpacker
from tests.rig.tarballs import pieces


@dataclass
class House:
    """Images over a data-root of its own."""

    root: Path
    events: list[tuple[str, str, str]] = field(default_factory=list)
    uses: dict[str, ContainerUse] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.database = Database(self.root / "state.db")
        self.content = FilesystemContent(self.root / "blobs", self.root / "ingest", sync=False)
        self.trash = Trash(self.root / "trash")
        self.snapshots = Overlay(self.root / "layers", self.root / "containers", self.database, self.trash)
        self.images = Images(self.database, self.content, self.snapshots, ForkUnpacker(), self.emit, self.used)
        self.puller = Puller(self.images)

    def emit(self, kind: str, action: str, actor: str, attributes: dict[str, str]) -> None:
        self.events.append((action, actor, attributes.get("name", "")))

    def used(self) -> list[tuple[str, ContainerUse]]:
        return list(self.uses.items())

    def load(self, content: bytes, *platforms: Platform) -> list[str]:
        return [line.stream for line in self.images.load(pieces(content), platforms) if line.stream]

    def save(self, *refs: str, platforms: tuple[Platform, ...] = ()) -> bytes:
        return b"".join(self.images.save(refs, platforms))

    def names(self) -> list[str]:
        return sorted(name for image in self.images.list() for name in image.names)

    def remains(self) -> list[str]:
        """Everything that is kept on disk for images: blobs, layers, things on their way in."""
        found = [f"blob {digest}" for digest in self.content.list()]
        found += [f"ingest {name}" for name in os.listdir(self.root / "ingest")]
        return found + [f"layer {name}" for name in os.listdir(self.root / "layers")]

    def pull(self, name: str, tag: str = "", platform: Platform | None = None, credentials: str = "") -> list[str]:
        return [line.status for line in self.puller.pull(name, tag, platform, credentials)]

    def push(self, name: str, tag: str = "", credentials: str = "") -> list[str]:
        return [line.status for line in self.puller.push(name, tag, None, credentials)]

    def close(self) -> None:
        self.puller.close()
        self.images.close()
        self.database.close()
