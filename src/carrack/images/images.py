"""Images as the engine and the API use them: one object, blocking, safe from any thread."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from carrack.content import ContentStore
from carrack.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from carrack.images import importing, listing, load, remove, save
from carrack.images.image import Image, InUse, created_microseconds
from carrack.images.index import canonical, put_tag
from carrack.images.layers import LayerBuilder, LayerUnpacker
from carrack.images.oci_layout import Candidate, Tree, choose
from carrack.images.progress import Progress
from carrack.images.remove import Removal
from carrack.images.store import Emit, ImageStore
from carrack.oci.digest import Digest, chain_id
from carrack.oci.platform import Platform
from carrack.oci.reference import Reference
from carrack.snapshots import Snapshotter
from carrack.state import Database


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One step of an image's making."""

    id: str
    """The image's id, or ``<missing>`` for a step that made no image here."""
    created_seconds: int
    created_by: str
    tags: tuple[str, ...]
    size_bytes: int
    comment: str


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune removed."""

    records: tuple[Removal, ...]
    reclaimed_bytes: int


class Images:
    """All images of a data-root.

    `workers` unpacks layers; `emit` tells events; `in_use`, which may be set later, asks who uses an image.
    """

    def __init__(
        self,
        database: Database,
        content: ContentStore,
        snapshots: Snapshotter,
        workers: LayerUnpacker,
        emit: Emit,
        in_use: InUse | None = None,
    ) -> None:
        self._builder = LayerBuilder(content, snapshots, workers)
        self.store = ImageStore(database, content, snapshots, self._builder, emit)
        if in_use is not None:
            self.store.in_use = in_use

    @property
    def in_use(self) -> InUse:
        """Asks which containers were made from an image."""
        return self.store.in_use

    @in_use.setter
    def in_use(self, in_use: InUse) -> None:
        self.store.in_use = in_use

    def get(self, ref: str) -> Image:
        """The image a name, an id or the beginning of an id means. Raises NotFound ("No such image: …"), InvalidParameter."""
        return self.store.index.get(self.store.index.resolve(ref).id)

    def list(self, filters: listing.Filters | None = None, *, all: bool = False) -> list[Image]:
        """The images that pass the filters, the newest first. Raises InvalidParameter, NotFound."""
        filters = filters or {}
        listing.check_known(filters, listing.KNOWN)
        return listing.narrow(self.store.index, filters, all=all)

    def load(self, stream: Iterator[bytes], platforms: Sequence[Platform] = ()) -> Iterator[Progress]:
        """See `load.load`."""
        return load.load(self.store, stream, platforms)

    def save(self, refs: Sequence[str], platforms: Sequence[Platform] = ()) -> Iterator[bytes]:
        """See `save.save`."""
        return save.save(self.store, refs, platforms)

    def import_(
        self,
        stream: Iterator[bytes],
        *,
        name: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        platform: Platform | None = None,
    ) -> Image:
        """See `importing.import_image`."""
        return importing.import_image(self.store, stream, name=name, message=message, changes=changes, platform=platform)

    def tag(self, ref: str, name: str) -> None:
        """Give an image one more name, which another image loses if it had it. Raises NotFound, InvalidParameter."""
        resolved = self.store.index.resolve(ref)
        image = self.store.index.get(resolved.id)
        reference = new_name(name)
        target = (self.store.index.target(resolved.name) if resolved.name else None) or image.descriptor
        try:
            self.store.database.write(lambda connection: put_tag(connection, reference, image.id, target)).result()
        except sqlite3.IntegrityError as error:  # removed meanwhile
            raise NotFound(f"No such image: {ref}") from error
        self.store.tell("tag", image, reference.familiar)

    def remove(self, ref: str, *, force: bool = False, prune: bool = True) -> Sequence[Removal]:
        """See `remove.remove`."""
        return remove.remove(self.store, ref, force=force, prune=prune)

    def history(self, ref: str, platform: Platform | None = None) -> Sequence[HistoryLine]:
        """How an image was made, the last step first. Raises NotFound, InvalidParameter, SystemFailure."""
        image = self.get(ref)
        config = image.config if platform is None else self.candidate(image, platform).config
        lines: list[HistoryLine] = []
        position = 0
        for step in config.history or ():
            size_bytes = 0
            if not step.empty_layer:
                position += 1
                if position > len(config.diff_ids):
                    raise SystemFailure("too many non-empty layers in History section")
                chain = chain_id(config.diff_ids[:position])
                if chain is not None and self.store.snapshots.has(chain):
                    size_bytes = self.store.snapshots.get(chain).size_bytes
            created = (created_microseconds(step.created) or 0) // 1_000_000
            lines.append(HistoryLine("<missing>", created, step.created_by, (), size_bytes, step.comment))
        lines.reverse()
        return self._with_ids(lines, image)

    def candidate(self, image: Image, platform: Platform) -> Candidate:
        """The image of another platform that came under the same name. Raises NotFound."""
        return choose(self.tree(image).candidates, (platform,))[0]

    def tree(self, image: Image) -> Tree:
        """What the image's target holds: every platform, every blob that is here."""
        return Tree(self.store.content, image.descriptor)

    def prune(self, filters: listing.Filters | None = None) -> Pruned:
        """Remove images without a tag, or with ``dangling=false`` all that no container uses. Raises InvalidParameter."""
        filters = filters or {}
        listing.check_known(filters, listing.PRUNE_KNOWN)
        dangling_only = listing.flag(filters, "dangling") is not False
        tests = listing.label_tests(filters) + listing.until_tests(filters)
        before = self._layers_bytes()
        records: list[Removal] = []
        for image in self.store.index.all():
            if dangling_only and image.names:  # names by digest alone do not keep an image
                continue
            if not listing.all_pass(tests, image) or self.store.in_use(image.id):
                continue
            try:
                records += remove.remove_image(self.store, image.id)
            except (Conflict, NotFound):
                continue  # built upon, taken into use, or gone meanwhile
        reclaimed = max(0, before - self._layers_bytes())
        self.store.emit("image", "prune", "", {"reclaimed": str(reclaimed)})
        return Pruned(tuple(records), reclaimed)

    def disk_usage(self) -> int:
        """What all layers take, each counted once, as Docker's `LayersSize`."""
        return self._layers_bytes()

    @property
    def driver(self) -> str:
        """The storage driver's name."""
        return self.store.snapshots.name

    def layer_directories(self, image: Image) -> Sequence[str]:
        """Where the image's layers are, topmost first."""
        return [str(self.store.snapshots.directory(layer)) for layer in self.store.snapshots.chain(image.chain_id)]

    def tagged(self, image: Digest) -> datetime | None:
        """When the image last got a name."""
        rows = self.store.database.read("SELECT max(updated) FROM tags WHERE digest = ?", (str(image),))
        return datetime.fromtimestamp(rows[0][0], UTC) if rows[0][0] is not None else None

    def shared_bytes(self) -> dict[Digest, int]:
        """For each image: what its layers hold that other images have, too."""
        chains = {image.id: self.store.snapshots.chain(image.chain_id) for image in self.store.index.all()}
        uses = Counter(layer.chain_id for chain in chains.values() for layer in chain)
        return {image: sum(layer.size_bytes for layer in chain if uses[layer.chain_id] > 1) for image, chain in chains.items()}

    def recover(self) -> None:
        """At start: remove what a killed daemon was still making, and layers and blobs that no image needs."""
        for path in self.store.snapshots.garbage():
            self.store.snapshots.throw(path)
        self.store.release(self.store.snapshots.idle())
        self.store.content.recover()
        self.store.content.collect(self.store.index.blobs)

    def close(self) -> None:
        """Wait for unpacking layers."""
        self._builder.close()

    def _layers_bytes(self) -> int:
        rows = self.store.database.read("SELECT coalesce(sum(size_bytes), 0) FROM layers")
        return int(rows[0][0])

    def _with_ids(self, lines: Sequence[HistoryLine], image: Image) -> Sequence[HistoryLine]:
        """Docker's way: the newest step bears the image's id and names, those before it the parents' that were built here."""
        shown: list[HistoryLine] = []
        current: Image | None = image
        for line in lines:
            if current is not None:
                line = HistoryLine(
                    str(current.id), line.created_seconds, line.created_by, current.names, line.size_bytes, line.comment
                )
                current = self._parent(current)
            shown.append(line)
        return shown

    def _parent(self, image: Image) -> Image | None:
        if image.parent is None:
            return None
        try:
            return self.store.index.get(image.parent)
        except NotFound:
            return None


def new_name(text: str) -> Reference:
    """A name that an image may be given: a repository and a tag. Raises InvalidParameter in Docker's words."""
    reference = Reference.parse(text)
    if reference.digest is not None:
        raise InvalidParameter("refusing to create a tag with a digest reference")
    if reference.familiar_repository == "sha256":
        raise InvalidParameter("refusing to create an ambiguous tag using digest algorithm as name")
    return canonical(reference)
