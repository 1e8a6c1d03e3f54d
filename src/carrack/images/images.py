"""Images as the engine and the API use them: one object, blocking, safe from any thread."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from carrack.content import ContentStore
from carrack.errors import Conflict, InvalidParameter, NotFound, SystemFailure
from carrack.images import attestations, importing, listing, load, parts, remove, save
from carrack.images.attestations import Attestation
from carrack.images.image import Image, Uses, created_microseconds
from carrack.images.index import canonical, moment, put_tag
from carrack.images.layers import LayerBuilder, LayerUnpacker
from carrack.images.oci_layout import Tree
from carrack.images.parts import ManifestSummary
from carrack.images.platforms import remove_platforms
from carrack.images.progress import Progress
from carrack.images.remove import Removal
from carrack.images.store import Emit, ImageStore
from carrack.oci.descriptor import Descriptor
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


@dataclass(frozen=True, slots=True)
class Kept:
    """What images take on disk."""

    total_bytes: int
    reclaimable_bytes: int


class Images:
    """All images of a data-root.

    `workers` unpacks layers; `emit` tells events; `uses`, which may be set later, asks who uses which image.
    """

    def __init__(
        self,
        database: Database,
        content: ContentStore,
        snapshots: Snapshotter,
        workers: LayerUnpacker,
        emit: Emit,
        uses: Uses | None = None,
    ) -> None:
        self._builder = LayerBuilder(content, snapshots, workers)
        self.store = ImageStore(database, content, snapshots, self._builder, emit)
        if uses is not None:
            self.store.uses = uses

    def use_by(self, uses: Uses) -> None:
        """Say whom to ask who uses which image."""
        self.store.uses = uses

    def container_counts(self) -> Counter[str]:
        """How many containers each image has, by its id."""
        return Counter(image for image, _ in self.store.uses())

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

    def remove_platforms(self, ref: str, platforms: Sequence[Platform], *, force: bool = False) -> Sequence[Removal]:
        """See `platforms.remove_platforms`."""
        return remove_platforms(self.store, ref, platforms, force=force)

    def history(self, ref: str, platform: Platform | None = None) -> Sequence[HistoryLine]:
        """How an image was made, the last step first. Raises NotFound, InvalidParameter, SystemFailure."""
        image = self.get(ref) if platform is None else self.variant(ref, platform)
        config = image.config
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

    def variant(self, ref: str, platform: Platform) -> Image:
        """The image of one platform that came under a name. Raises NotFound, InvalidParameter."""
        image = self.get(ref)
        if platform.matches(image.platform):
            return image
        candidates = Tree(self.store.content, self.target(ref, image)).candidates
        found = next((candidate for candidate in candidates if platform.matches(candidate.platform)), None)
        if found is None:
            raise NotFound(f"image with reference {ref} was found but does not provide the specified platform ({platform})")
        unpacked_bytes = parts.unpacked(self.store, found.config.diff_ids)
        return replace(
            image,
            id=found.config_digest,
            config=found.config,
            chain_id=chain_id(found.config.diff_ids) if unpacked_bytes else None,
            size_bytes=unpacked_bytes or sum(layer.size for layer in found.manifest.layers),
            created=moment(created_microseconds(found.config.created)),
            manifest=found.descriptor,
            layers=found.manifest.layers,
            parent=None,
        )

    def descendants(self, image: Digest) -> set[Digest]:
        """An image and every image that was made from it here, by commit or build."""
        children: dict[Digest, list[Digest]] = {}
        for each in self.store.index.all():
            if each.parent is not None:
                children.setdefault(each.parent, []).append(each.id)
        found, waiting = {image}, [image]
        while waiting:
            for child in children.get(waiting.pop(), ()):
                if child not in found:
                    found.add(child)
                    waiting.append(child)
        return found

    def target(self, ref: str, image: Image) -> Descriptor:
        """What a reference to an image stands for in its registry: the manifest or the index."""
        resolved = self.store.index.resolve(ref)
        return (self.store.index.target(resolved.name) if resolved.name else None) or image.descriptor

    def parts(self, image: Image, target: Descriptor | None = None, *, identity: bool = False) -> Sequence[ManifestSummary]:
        """The manifests of what an image came from, each with its platform and what of it is here."""
        return parts.parts(self.store, target or image.descriptor, parts.identity_of(image) if identity else None)

    def attestations(
        self, ref: str, platform: Platform | None = None, types: Sequence[str] = (), *, with_statements: bool = False
    ) -> Sequence[Attestation]:
        """See `attestations.attestations`. Raises also NotFound for an unknown image."""
        target = self.target(ref, self.get(ref))
        return attestations.attestations(self.store, target, platform, types, with_statements=with_statements)

    def prune(self, filters: listing.Filters | None = None, tell: Callable[[Removal], None] = lambda gone: None) -> Pruned:
        """Remove images without a tag, or with ``dangling=false`` all that no container uses. Raises InvalidParameter."""
        filters = filters or {}
        listing.check_known(filters, listing.PRUNE_KNOWN)
        dangling_only = listing.flag(filters, "dangling") is not False
        tests = listing.label_tests(filters) + listing.until_tests(filters)
        before = self._kept_bytes()
        records: list[Removal] = []
        for image in self.store.index.all():
            if dangling_only and image.names:  # names by digest alone do not keep an image
                continue
            if not listing.all_pass(tests, image) or self.store.in_use(image.id):
                continue
            try:
                gone = remove.remove_image(self.store, image.id)
            except (Conflict, NotFound):
                continue  # built upon, taken into use, or gone meanwhile
            records += gone
            for record in gone:
                tell(record)
        reclaimed = max(0, before - self._kept_bytes())
        self.store.emit("image", "prune", "", {"reclaimed": str(reclaimed)})
        return Pruned(tuple(records), reclaimed)

    def disk_usage(self) -> Kept:
        """What all images take, unpacked layers and blobs, each counted once; and what of it no container's image needs."""
        used = set(self.container_counts())
        kept_layers: set[Digest] = set()
        for image in self.store.index.all():
            if str(image.id) in used:
                kept_layers |= {layer.chain_id for layer in self.store.snapshots.chain(image.chain_id)}
        total = kept = 0
        for chains, size in self._layer_sizes():
            total += size
            kept += size if any(Digest.parse(chain) in kept_layers for chain in chains) else 0
        kept_blobs = {digest for image in used for digest in self.store.index.blobs_of(Digest.parse(image))}
        for digest, size in self._blob_sizes().items():
            total += size
            kept += size if digest in kept_blobs else 0
        return Kept(total, total - kept)

    @property
    def driver(self) -> str:
        """The storage driver's name."""
        return self.store.snapshots.name

    def layer_directories(self, image: Image) -> Sequence[str]:
        """Where the image's layers are, topmost first."""
        return [str(directory) for directory in self.store.snapshots.directories(image.chain_id)]

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

    def _kept_bytes(self) -> int:
        return sum(size for _, size in self._layer_sizes()) + sum(self._blob_sizes().values())

    def _layer_sizes(self) -> Sequence[tuple[Sequence[str], int]]:
        """Each directory of layers: the layers that have it, and what it takes."""
        rows = self.store.database.read("SELECT group_concat(chain_id), max(size_bytes) FROM layers GROUP BY coalesce(home, short)")
        return [(chains.split(","), size) for chains, size in rows]

    def _blob_sizes(self) -> dict[Digest, int]:
        sizes = {}
        for digest in self.store.content.list():
            try:
                sizes[digest] = self.store.content.size(digest)
            except NotFound:  # removed meanwhile
                continue
        return sizes

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
