"""What a finished build gives: images, archives, trees, caches, with the statements that were asked for. Blocking."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from carrack.build import exporters
from carrack.build.annotations import Annotations
from carrack.build.attest import Attestor
from carrack.build.cache_export import CacheExporter
from carrack.build.exchange import INLINE
from carrack.build.image_export import ImageExporter, ImageTarget, ImageWish
from carrack.build.plan import Plan
from carrack.build.ports import Packed
from carrack.build.request import BuildRequest, CacheReference, Export
from carrack.build.solver import Result
from carrack.build.stacks import Stacks
from carrack.build.workshop import BuildWorkshop
from carrack.distribution.cancellation import Cancellation
from carrack.images.image import Image
from carrack.images.store import ImageStore
from carrack.oci.descriptor import INDEX_TYPES

CACHE = "cache"
"""The type of an output that is the build's cache, as a layout for the client (``--cache-to type=local``)."""
_INLINE_ARGUMENT = "BUILDKIT_INLINE_CACHE"


@dataclass(frozen=True, slots=True)
class Finished:
    """A build whose steps are done."""

    request: BuildRequest
    plans: tuple[Plan, ...]
    """One for each platform."""
    results: Mapping[str, Result]
    workshop: BuildWorkshop
    dockerfile: bytes
    epoch_seconds: int | None
    cancel: Cancellation
    started_nanoseconds: int = field(default_factory=time.time_ns)


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one export came to."""

    image: str = ""
    names: tuple[str, ...] = ()
    metadata: Mapping[str, object] = field(default_factory=dict)


class Delivery:
    """Carries exports out."""

    def __init__(
        self, images: ImageExporter, files: exporters.FileExporter, caches: CacheExporter, store: ImageStore, stacks: Stacks
    ) -> None:
        self._store = store
        self._images = images
        self._files = files
        self._caches = caches
        self._content = store.content
        self._stacks = stacks

    def export(self, export: Export, build: Finished) -> Delivered:
        """One output. Raises InvalidParameter, SystemFailure, Cancelled."""
        request, cancel = build.request, build.cancel
        for plan in build.plans:
            if (vertex := plan.target.vertex) is not None:
                build.workshop.need(build.results[vertex.digest].chain_id, cancel)
        if export.type == CACHE:
            reference = CacheReference("local", export.attributes)
            self._caches.export(reference, build.plans, build.results, request.credentials, cancel, export.target_fd)
            return Delivered()
        exporters.check(export)
        targets = [self._target(plan, build) for plan in build.plans]
        if export.type in exporters.TREES:
            self._files.tree(export, targets, build.results, build.epoch_seconds, cancel)
            return Delivered()
        wish = self._wish(export, build)
        if export.target_fd >= 0:
            image = self._files.archive(export, targets, build.results, wish, cancel)
        else:
            image = self._images.export(targets, build.results, wish, cancel)
        provenance: dict[str, object] = {}
        for plan in build.plans:
            suffix = f"/{plan.platform}" if len(build.plans) > 1 else ""
            provenance[f"buildx.build.provenance{suffix}"] = self._attestor(plan, build).provenance({})
        return Delivered(str(image.id), wish.names, {**_metadata(image, wish.names), **provenance})

    def packer(self, stack: ExitStack) -> Callable[[Path, Cancellation], Packed]:
        """Packs layers of the image to be while they are made; what no image comes to hold goes when the stack is closed."""
        lease = stack.enter_context(self._store.assembling())
        return lambda upper, cancel: self._images.pack_made(upper, lease, cancel)

    def send_cache(self, reference: CacheReference, build: Finished) -> None:
        """A ``--cache-to`` that goes to a registry. Raises InvalidParameter, Unauthorized, Unavailable."""
        self._caches.export(reference, build.plans, build.results, build.request.credentials, build.cancel)

    def _wish(self, export: Export, build: Finished) -> ImageWish:
        request, attributes = build.request, export.attributes
        named = (name for name in attributes.get("name", "").split(",") if name)
        return ImageWish(
            names=tuple(dict.fromkeys((*request.names, *named))),
            compression=attributes.get("compression", "gzip"),
            level=int(attributes["compression-level"]) if "compression-level" in attributes else None,
            force_compression=attributes.get("force-compression") == "true",
            epoch_seconds=build.epoch_seconds,
            rewrite_timestamps=attributes.get("rewrite-timestamp", "true") == "true",
            annotations=Annotations.parse({**request.annotations, **_annotations(attributes)}),
        )

    def _target(self, plan: Plan, build: Finished) -> ImageTarget:
        request = build.request
        inline = any(each.type == "inline" for each in request.cache_to) or request.build_arguments.get(_INLINE_ARGUMENT) == "1"
        extra = {INLINE: msgspec.Raw(self._caches.inline(plan, build.results))} if inline else {}
        return ImageTarget(plan, self._attestor(plan, build) if request.attestations else None, extra)

    def _attestor(self, plan: Plan, build: Finished) -> Attestor:
        vertex = plan.target.vertex
        chain = build.results[vertex.digest].chain_id if vertex is not None else None
        return Attestor(
            content=self._content,
            files=build.workshop.equipment.files,
            request=build.request,
            plan=plan,
            tree=lambda: self._stacks.of(chain),
            dockerfile=build.dockerfile,
            sources=build.workshop.sources,
            started_nanoseconds=build.started_nanoseconds,
            epoch_seconds=build.epoch_seconds,
            cancel=build.cancel,
        )


def _annotations(attributes: Mapping[str, str]) -> dict[str, str]:
    """Those among its attributes: ``annotation.key``, ``annotation-index.key``, ``annotation-manifest[linux/amd64].key``."""
    found = {}
    for name, value in attributes.items():
        level, dot, key = name.removeprefix("annotation").partition(".")
        if name.startswith("annotation") and dot and key:
            found[f"{level.removeprefix('-')}:{key}" if level else key] = value
    return found


def _metadata(image: Image, names: tuple[str, ...]) -> dict[str, object]:
    """What buildx writes to ``--metadata-file``."""
    descriptor = image.descriptor
    return {
        **({} if descriptor.media_type in INDEX_TYPES else {"containerimage.config.digest": str(image.id)}),
        "containerimage.descriptor": {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size},
        "containerimage.digest": descriptor.digest,
        **({"image.name": ",".join(names)} if names else {}),
    }
