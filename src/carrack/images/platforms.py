"""`docker rmi --platform`: some platforms of an image go, the others stay under its names."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from carrack.errors import Conflict, InvalidParameter, NotFound
from carrack.images.image import Image
from carrack.images.oci_layout import Candidate, Tree, new_image
from carrack.images.remove import Deleted, Removal, remove, remove_image
from carrack.images.store import ImageStore
from carrack.oci.descriptor import Descriptor
from carrack.oci.digest import Digest
from carrack.oci.platform import Platform


def remove_platforms(store: ImageStore, ref: str, platforms: Sequence[Platform], *, force: bool) -> list[Removal]:
    """Take the content of these platforms away; with the last one the image goes.

    Where the platform that runs here goes, the names stand for another one that is here. Raises InvalidParameter without `force`
    (other images may share the content), NotFound for a platform that is not here, Conflict while a container uses it.
    """
    if not force:
        raise InvalidParameter("Content will be removed from all images referencing this variant. Use --force to force delete.")
    resolved = store.index.resolve(ref)
    image = store.index.get(resolved.id)
    target = (store.index.target(resolved.name) if resolved.name else None) or image.descriptor
    tree = Tree(store.content, target)
    chosen = [_find(tree, platform, ref) for platform in platforms]
    staying = [each for each in tree.candidates if each not in chosen and _is_whole(store, each)]
    for each in chosen:
        for use in store.in_use(each.config_digest):
            raise Conflict(
                f"conflict: unable to delete {each.config_digest.short} (cannot be forced) - "
                f"image is being used by container {use.id[:12]}"
            )
    records: list[Removal] = [Deleted(each.descriptor.digest) for each in chosen]
    if not staying:
        return [*remove(store, str(image.id), force=True), *records]
    keep = {digest for each in staying for digest in blobs_of(each)} | {target.name}
    gone = {digest for each in chosen for digest in blobs_of(each)} - keep
    if any(each.config_digest == image.id for each in chosen):
        _stand_for(store, image, target, staying[0], [digest for digest in tree.present if digest not in gone])
        return [*remove_image(store, image.id), *records]

    def forget(connection: sqlite3.Connection) -> None:
        rows = [(str(image.id), str(digest)) for digest in gone]
        connection.executemany("DELETE FROM image_blobs WHERE image = ? AND digest = ?", rows)

    store.database.write(forget).result()
    store.content.collect(store.index.blobs, only=gone)
    store.tell("delete", image, str(image.id))
    return records


def blobs_of(candidate: Candidate) -> list[Digest]:
    """The content of one platform."""
    manifest = candidate.manifest
    return list(dict.fromkeys((candidate.descriptor.name, manifest.config.name, *(layer.name for layer in manifest.layers))))


def _find(tree: Tree, platform: Platform, ref: str) -> Candidate:
    for candidate in tree.candidates:
        if platform.matches(candidate.platform):
            return candidate
    raise NotFound(f"image with reference {ref} was found but does not provide the specified platform ({platform})")


def _is_whole(store: ImageStore, candidate: Candidate) -> bool:
    return all(store.content.has(digest) for digest in blobs_of(candidate))


def _stand_for(store: ImageStore, image: Image, target: Descriptor, other: Candidate, present: Sequence[Digest]) -> None:
    """Let every name of an image stand for the one of another platform."""
    names = tuple(store.index.references(image.id))
    store.record([new_image(store.content, target, other, names, present)])
