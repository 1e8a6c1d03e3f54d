"""What an image is here: its configuration, the stack of layers it names, and the content it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from carrack.oci.descriptor import Descriptor
from carrack.oci.digest import Digest
from carrack.oci.image_config import ImageConfig
from carrack.oci.platform import Platform


class ImageDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """What state.db keeps of an image besides its columns."""

    config: ImageConfig
    manifest: Descriptor
    """The manifest that names this config; made here when an archive brought none."""
    target: Descriptor
    """What was pulled or loaded: the same manifest, or the index that holds it."""
    layers: tuple[Descriptor, ...]
    """The layers' blobs as they were received, lowest first."""
    size_bytes: int
    """The content of all layers' files, as Docker counts it."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image, as of the moment it was asked for."""

    id: Digest
    config: ImageConfig
    chain_id: Digest | None
    """Its topmost layer; None for an image without layers."""
    names: tuple[str, ...]
    """The tags as Docker shows them, such as ``nginx:latest``."""
    repo_digests: tuple[str, ...]
    """The names by digest, such as ``nginx@sha256:…``."""
    size_bytes: int
    created: datetime | None
    descriptor: Descriptor
    """The manifest or index it was pulled or loaded from."""
    manifest: Descriptor
    layers: tuple[Descriptor, ...]
    parent: Digest | None = None
    """The image it was built from here, when it was."""

    @property
    def platform(self) -> Platform:
        return self.config.platform

    @property
    def labels(self) -> dict[str, str]:
        return self.config.execution.labels or {}

    @property
    def dangling(self) -> bool:
        """No tag names it."""
        return not self.names


@dataclass(frozen=True, slots=True)
class ContainerUse:
    """A container that was made from an image."""

    id: str
    name: str
    running: bool


Uses = Callable[[], Iterable[tuple[str, ContainerUse]]]
"""Asks the engine for every container, with the id of the image it was made from."""


def created_microseconds(text: str | None) -> int | None:
    """A configuration's `created` (RFC 3339) in microseconds of the epoch; None when it is absent or no time."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
