"""`docker rmi` by Docker's rules, and `docker image prune`.

A name that is not the last one is only taken away. The last name takes the image with it, unless containers use it; an id takes
the image and its names, if they are of one repository. Conflicts are soft (``--force`` overrides them: several repositories, a
stopped container) or hard (a running container, images built on it).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from carrack.errors import Conflict, NotFound
from carrack.images.image import ContainerUse
from carrack.images.store import ImageStore
from carrack.oci.digest import Digest
from carrack.oci.reference import Reference
from carrack.snapshots import Layer


@dataclass(frozen=True, slots=True)
class Untagged:
    """A name that is gone, in its familiar form."""

    name: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """An image, or a layer of it, that is gone."""

    id: str


Removal = Untagged | Deleted


class _ImageConflict(Conflict):
    def __init__(self, image: Digest, why: str, *, hard: bool = False, used: bool = False) -> None:
        super().__init__(f"conflict: unable to delete {image.short} ({'cannot' if hard else 'must'} be forced) - {why}")
        self.used = used
        """A container is the reason."""


def remove(store: ImageStore, ref: str, *, force: bool = False, prune: bool = True) -> list[Removal]:
    """Take a name or an image away, and with `prune` the untagged images it was built from.

    Raises NotFound, InvalidParameter, Conflict in Docker's words; then nothing has changed.
    """
    resolved = store.index.resolve(ref)
    if resolved.name is not None:
        return _Removal(store, resolved.id, force=force, prune=prune).by_name(ref, resolved.name)
    return _Removal(store, resolved.id, force=force, prune=prune).by_id()


def remove_image(store: ImageStore, image: Digest) -> list[Removal]:
    """Take an unused image away with all its names. Raises NotFound, Conflict."""
    return _Removal(store, image, force=False, prune=True).with_all_names()


class _Removal:
    """One order to remove."""

    def __init__(self, store: ImageStore, image: Digest, *, force: bool, prune: bool) -> None:
        self._store = store
        self._image = image
        self._force = force
        self._prune = prune
        self._records: list[Removal] = []

    def by_name(self, asked: str, name: Reference) -> list[Removal]:
        references = self._store.index.references(self._image)
        if not self._force and _is_single(references):
            use = next(iter(self._uses(self._image)), None)
            if use is not None:
                raise Conflict(
                    f'conflict: unable to remove repository reference "{asked}" (must force) - '
                    f"container {use.id[:12]} is using its referenced image {self._image.short}"
                )
        gone = [name]
        left = [reference for reference in references if reference != name]
        if name.digest is None and not any(other.tag and other.repository == name.repository for other in left):
            # With the last tag of a repository its digests go, too.
            gone += [other for other in left if other.repository == name.repository]
            left = [other for other in left if other not in gone]
        if left:
            self._untag(gone)
            return self._records
        conflict = self._conflict(self._image, but_names=gone)
        if conflict is not None:
            if conflict.used or self._store.index.children(self._image):
                self._untag(gone)  # the image stays, without a name: others need it
                return self._records
            raise conflict
        self._delete(self._image, gone)
        return self._records

    def by_id(self) -> list[Removal]:
        references = self._store.index.references(self._image)
        conflict = self._conflict(self._image, but_names=references if _is_single(references) else ())
        if conflict is not None:
            raise conflict
        self._delete(self._image, references)
        return self._records

    def with_all_names(self) -> list[Removal]:
        references = self._store.index.references(self._image)
        conflict = self._conflict(self._image, but_names=references)
        if conflict is not None:
            raise conflict
        self._delete(self._image, references)
        return self._records

    def _conflict(self, image: Digest, but_names: Sequence[Reference] = ()) -> _ImageConflict | None:
        """What forbids to delete an image, the soft reasons only when not forced."""
        if self._store.index.children(image):
            return _ImageConflict(image, "image has dependent child images", hard=True)
        uses = self._uses(image)
        for use in uses:
            if use.running:
                why = f"image is being used by running container {use.id[:12]}"
                return _ImageConflict(image, why, hard=True, used=True)
        if self._force:
            return None
        if any(reference not in but_names for reference in self._store.index.references(image)):
            return _ImageConflict(image, "image is referenced in multiple repositories")
        for use in uses:
            return _ImageConflict(image, f"image is being used by stopped container {use.id[:12]}", used=True)
        return None

    def _uses(self, image: Digest) -> Sequence[ContainerUse]:
        return self._store.in_use(image)

    def _untag(self, names: Sequence[Reference]) -> None:
        image = self._store.index.get(self._image)
        self._store.database.write(lambda connection: _drop_names(connection, names)).result()
        for name in names:
            self._records.append(Untagged(name.familiar))
            self._store.tell("untag", image, str(self._image))

    def _delete(self, digest: Digest, names: Sequence[Reference]) -> None:
        """Forget an image in one change of state.db, then its directories and blobs; then its parent, if that is idle now."""
        image = self._store.index.get(digest)
        blobs = self._store.index.blobs_of(digest)

        def forget(connection: sqlite3.Connection) -> tuple[Layer, ...]:
            _drop_names(connection, names)
            connection.execute("DELETE FROM images WHERE digest = ?", (str(digest),))
            return self._store.snapshots.release_layers(connection, image.chain_id) if image.chain_id else ()

        try:
            layers = self._store.database.write(forget).result()
        except sqlite3.IntegrityError as error:
            raise Conflict(f"conflict: unable to delete {digest.short} - it was given another name meanwhile") from error
        self._store.index.forget(digest)
        for name in names:
            self._records.append(Untagged(name.familiar))
            self._store.tell("untag", image, str(digest))
        self._store.tell("delete", image, str(digest))
        self._records.append(Deleted(str(digest)))
        self._records += [Deleted(str(layer.chain_id)) for layer in layers]
        self._store.snapshots.discard(layers)
        self._store.content.collect(self._store.index.blobs, only=blobs)
        if self._prune and image.parent is not None:
            self._prune_parent(image.parent)

    def _prune_parent(self, parent: Digest) -> None:
        try:
            idle = not self._store.index.references(parent) and self._conflict_unforced(parent) is None
            if idle:
                self._delete(parent, ())
        except NotFound:
            return  # built from an image that is long gone

    def _conflict_unforced(self, image: Digest) -> _ImageConflict | None:
        force, self._force = self._force, False
        try:
            return self._conflict(image)
        finally:
            self._force = force


def _drop_names(connection: sqlite3.Connection, names: Sequence[Reference]) -> None:
    connection.executemany("DELETE FROM tags WHERE reference = ?", [(str(name),) for name in names])


def _is_single(references: Sequence[Reference]) -> bool:
    """Whether the names come down to one: at most one tag, and digests only of its repository."""
    if len(references) <= 1:
        return True
    tags = [reference for reference in references if reference.tag]
    digests = {reference.repository for reference in references if not reference.tag}
    if len(tags) > 1:
        return False
    single = tags[0] if tags else references[0]
    return digests == {single.repository}
