"""From results to an image in the image store: layers packed into blobs, configuration and history, names.

The same results give the same bytes: times of history come from the records of the steps (or from SOURCE_DATE_EPOCH), and a blob's
compression depends on nothing but its content. With an epoch, times in the build's own layers that are later become the epoch, so
that another machine comes to the same digests; base layers stay as they are.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from carrack.build import annotations as annotated
from carrack.build.annotations import Annotations
from carrack.build.cache import HISTORY, BuildCache
from carrack.build.cache_key import named_key
from carrack.build.history import COMMENT
from carrack.build.plan import Plan
from carrack.build.ports import FileTrees, Packed, PackOptions
from carrack.build.solver import Result
from carrack.content import ContentStore, Lease
from carrack.distribution.cancellation import Cancellation
from carrack.errors import SystemFailure
from carrack.images.image import Image
from carrack.images.images import Images, new_name
from carrack.images.store import NewImage, write_bytes, write_document
from carrack.oci.descriptor import (
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    PlatformDocument,
)
from carrack.oci.digest import Digest
from carrack.oci.image_config import History, ImageConfig, RootFS
from carrack.oci.platform import machine
from carrack.snapshots import Layer

_TYPES = {"gzip": OCI_LAYER_GZIP, "zstd": OCI_LAYER_ZSTD, "uncompressed": OCI_LAYER}
_AS_OCI = {DOCKER_LAYER: OCI_LAYER, DOCKER_LAYER_GZIP: OCI_LAYER_GZIP}
_PIECE_BYTES = 1 << 20
_PACKERS = 3
_DEFAULT_COMPRESSION = "gzip"
Attest = Callable[[Descriptor, ImageConfig, Lease], tuple[Sequence[Descriptor], Sequence[Digest]]]
"""Writes the statements on an image's manifest; gives the manifests that hold them, for its index, and every blob of them."""


@dataclass(frozen=True, slots=True)
class ImageWish:
    """How an image is exported."""

    names: tuple[str, ...] = ()
    compression: str = _DEFAULT_COMPRESSION
    level: int | None = None
    force_compression: bool = False
    """Layers of base images, too, take this compression."""
    epoch_seconds: int | None = None
    rewrite_timestamps: bool = True
    annotations: Annotations = field(default_factory=Annotations)


@dataclass(frozen=True, slots=True)
class ImageTarget:
    """The image of one platform."""

    plan: Plan
    attest: Attest | None = None
    extra_config: Mapping[str, object] = field(default_factory=dict)
    """Further fields of the configuration, such as an inline cache."""


@dataclass(frozen=True, slots=True)
class _Made:
    """One platform's image, written; `image` is its entry in an index."""

    config_blob: Descriptor
    config: ImageConfig
    manifest: Descriptor
    layers: tuple[Descriptor, ...]
    image: Descriptor
    statements: Sequence[Descriptor] = ()
    attached: Sequence[Digest] = ()
    """The blobs of the statements."""

    @property
    def blobs(self) -> tuple[Digest, ...]:
        return (self.manifest.name, self.config_blob.name, *(layer.name for layer in self.layers), *self.attached)


@dataclass(frozen=True, slots=True)
class PackedLayer:
    """A layer as it stands in an image."""

    diff_id: Digest
    blob: Descriptor


class ImageExporter:
    """Exports to the image store. Blocking."""

    def __init__(self, images: Images, content: ContentStore, cache: BuildCache, files: FileTrees) -> None:
        self._images = images
        self._content = content
        self._cache = cache
        self._files = files

    def export(self, targets: Sequence[ImageTarget], results: Mapping[str, Result], wish: ImageWish, cancel: Cancellation) -> Image:
        """Make the image and give it its names: of several platforms the one that runs here, the others under the same index.

        Raises InvalidParameter, SystemFailure, Cancelled, and leaves nothing then.
        """
        store = self._images.store
        names = tuple(new_name(name) for name in wish.names)
        with store.assembling() as lease:
            made = [self._made(target, results, wish, lease, cancel) for target in targets]
            target = self._target(made, wish, lease)
            cancel.check()
            before = {name: store.index.named(name) for name in names}
            here = next((each for each in made if machine().matches(each.config.platform)), made[0])
            own = {here.config_blob.name, here.manifest.name, *(layer.name for layer in here.layers)}
            beside = tuple(dict.fromkeys(digest for each in made for digest in each.blobs if digest not in own))
            store.record([NewImage(here.config_blob.name, here.config, here.manifest, target, here.layers, names, beside)])
        image = self._images.get(str(here.config_blob.name))
        for name in names:
            if before[name] != image.id:
                store.tell("tag", image, name.familiar)
        return image

    def _made(
        self, target: ImageTarget, results: Mapping[str, Result], wish: ImageWish, lease: Lease, cancel: Cancellation
    ) -> _Made:
        plan = target.plan
        vertex = plan.target.vertex
        chain = results[vertex.digest].chain_id if vertex is not None else None
        layers = self.layers((plan,), chain, wish, lease, cancel)
        config = self._config(plan, results, layers, wish)
        document = {**msgspec.to_builtins(config), **target.extra_config}
        config_blob = write_bytes(self._content, lease, msgspec.json.encode(document), OCI_CONFIG)
        blobs = tuple(layer.blob for layer in layers)
        annotations = wish.annotations.on(annotated.MANIFEST, plan.platform)
        content = Manifest(2, config_blob, blobs, OCI_MANIFEST, annotations=annotations)
        manifest = write_document(self._content, lease, content, OCI_MANIFEST)
        described = PlatformDocument(config.architecture, config.os, config.variant)
        entry = wish.annotations.on(annotated.MANIFEST_DESCRIPTOR, plan.platform)
        image = msgspec.structs.replace(manifest, platform=described, annotations=entry)
        statements, attached = target.attest(manifest, config, lease) if target.attest is not None else ((), ())
        return _Made(config_blob, config, manifest, blobs, image, statements, attached)

    def layers(
        self, plans: Sequence[Plan], chain: Digest | None, wish: ImageWish, lease: Lease, cancel: Cancellation
    ) -> list[PackedLayer]:
        """Every layer of a stack as a blob, lowest first."""
        stack = list(reversed(self._images.store.snapshots.chain(chain)))
        known = self._base_blobs(plans)
        with ThreadPoolExecutor(_PACKERS, thread_name_prefix="pack") as pool:
            packing = [pool.submit(self._packed, layer, known.get(str(layer.diff_id)), wish, lease, cancel) for layer in stack]
            return [each.result() for each in packing]

    def _base_blobs(self, plans: Sequence[Plan]) -> dict[str, Descriptor]:
        found: dict[str, Descriptor] = {}
        for image in (image for plan in plans for image in plan.images):
            for diff_id, blob in zip(image.config.rootfs.diff_ids, image.layers, strict=False):
                found[diff_id] = Descriptor(_AS_OCI.get(blob.media_type, blob.media_type), blob.digest, blob.size)
        return found

    def _packed(self, layer: Layer, base: Descriptor | None, wish: ImageWish, lease: Lease, cancel: Cancellation) -> PackedLayer:
        cancel.check()
        wanted = _TYPES.get(wish.compression, OCI_LAYER_GZIP)
        if base is not None and (not wish.force_compression or base.media_type == wanted):
            lease.add(base.name)
            if self._content.has(base.name):
                return PackedLayer(layer.diff_id, base)
        rewriting = base is None and wish.epoch_seconds is not None and wish.rewrite_timestamps
        named = wish.compression + (f" {wish.level}" if wish.level is not None else "")
        if not rewriting:
            blob = self._cache.blob_of(layer.diff_id, named)
            if blob is not None:
                lease.add(blob.name)
                if self._content.has(blob.name):
                    return PackedLayer(layer.diff_id, blob)
        options = PackOptions(wish.compression, wish.level, wish.epoch_seconds if rewriting else None)
        diff_id, blob = self._pack(layer, options, lease, cancel)
        if not rewriting:
            if diff_id != layer.diff_id:
                raise SystemFailure(f"layer {layer.diff_id} has changed on disk: it now packs to {diff_id}")
            self._cache.remember_blob(layer.diff_id, named, blob)
        return PackedLayer(diff_id, blob)

    def _pack(self, layer: Layer, options: PackOptions, lease: Lease, cancel: Cancellation) -> tuple[Digest, Descriptor]:
        directory = self._images.store.snapshots.directory(layer)
        packed, blob = self.packed(lambda fd: self._files.pack_upper(directory, fd, options, cancel), options.compression, lease)
        return Digest.parse(packed.diff_id), blob

    def pack_made(self, upper: Path, lease: Lease, cancel: Cancellation) -> Packed:
        """Pack a layer that a step has just made and that an image is to hold: once, into the blob that the export will find."""
        options = PackOptions(_DEFAULT_COMPRESSION)
        packed, blob = self.packed(lambda fd: self._files.pack_upper(upper, fd, options, cancel), options.compression, lease)
        self._cache.remember_blob(Digest.parse(packed.diff_id), options.compression, blob)
        return packed

    def packed(self, pack: Callable[[int], Packed], compression: str, lease: Lease) -> tuple[Packed, Descriptor]:
        """Keep what `pack` writes to a descriptor as a blob; what was packed, and the blob."""
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        failures: list[BaseException] = []
        written: list[tuple[Digest, int]] = []

        def keep() -> None:
            try:
                with self._content.writer(lease) as writer:
                    while piece := os.read(read_fd, _PIECE_BYTES):
                        writer.write(piece)
                    size = writer.offset
                    if not failures:
                        written.append((writer.commit(), size))
            except BaseException as error:  # noqa: BLE001
                failures.append(error)
            finally:
                os.close(read_fd)

        keeper = threading.Thread(target=keep, name="pack-keeper")
        keeper.start()
        try:
            packed = pack(write_fd)
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            os.close(write_fd)
            keeper.join()
        if failures:
            raise failures[0]
        digest, size = written[0]
        return packed, Descriptor(_TYPES.get(compression, OCI_LAYER_GZIP), str(digest), size)

    # ── configuration ────────────────────────────────────────────────────────────────────────────────────────────────

    def _config(self, plan: Plan, results: Mapping[str, Result], layers: Sequence[PackedLayer], wish: ImageWish) -> ImageConfig:
        target = plan.target
        base = target.image.config if target.image is not None else ImageConfig()
        lines: list[History] = list(base.history or ())
        missing = len(base.rootfs.diff_ids) - sum(not line.empty_layer for line in lines)
        lines += [History(created=base.created or "", comment="base layer") for _ in range(missing)]
        below = target.image.chain_id if target.image is not None else None
        stated = str(target.image.id) if target.image is not None else "scratch"
        moment = base.created or ""
        for step in target.history:
            empty = True
            if step.vertex is not None:
                result = results[step.vertex.digest]
                empty = result.chain_id == below
                below = result.chain_id
                stated = str(named_key("line", stated, step.created_by, str(below)).digest)
                moment = _moment(result.created)
            else:
                stated = named_key("line", stated, step.created_by).digest
                moment = _moment(self._line_created(stated, step.created_by))
            if wish.epoch_seconds is not None:
                moment = _moment(wish.epoch_seconds * 10**9)
            lines.append(History(moment, step.created_by, comment=COMMENT, empty_layer=empty))
        platform = target.platform
        return ImageConfig(
            architecture=platform.architecture,
            os=platform.os,
            variant=platform.variant,
            os_version=base.os_version,
            os_features=base.os_features,
            created=moment or _moment(0 if wish.epoch_seconds is None else wish.epoch_seconds * 10**9),
            author=target.author,
            config=target.execution,
            rootfs=RootFS(diff_ids=[str(layer.diff_id) for layer in layers]),
            history=lines,
        )

    def _line_created(self, stated: str, created_by: str) -> int:
        """When a line that touches no file was first written over what is below: the same build gives the same image id."""
        key = named_key("history", stated)
        record = self._cache.find(key.digest)
        if record is None:
            record = self._cache.put(key, kind=HISTORY, description=created_by[:200])
        return record.created

    def _target(self, made: Sequence[_Made], wish: ImageWish, lease: Lease) -> Descriptor:
        """What the names stand for: the manifest alone, or an index of each platform's and of the statements on them."""
        statements = [statement for each in made for statement in each.statements]
        has_index = len(made) > 1 or bool(statements)
        wish.annotations.check(has_index=has_index)
        if not has_index:
            return made[0].manifest
        entries = (*(each.image for each in made), *statements)
        index = Index(2, entries, OCI_INDEX, annotations=wish.annotations.on(annotated.INDEX))
        return write_document(self._content, lease, index, OCI_INDEX)


def _moment(nanoseconds: int) -> str:
    seconds, rest = divmod(nanoseconds, 10**9)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}".rstrip("0").rstrip(".") + "Z"
