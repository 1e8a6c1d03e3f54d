"""`docker load`: images from an archive, in Docker's format (manifest.json), as an OCI image layout (index.json), or in both.

Where both stand in one archive, as Docker itself saves since version 25, the OCI index is what is believed, because its manifests
keep the digests; manifest.json must then speak of the same images, or the archive means two things and is refused.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import msgspec

from carrack.content import ContentStore, Lease
from carrack.errors import InvalidParameter, NotFound
from carrack.images import oci_layout
from carrack.images.members import Members, read_members
from carrack.images.progress import Progress
from carrack.images.store import CONFIG_LIMIT_BYTES, ImageStore, NewImage, write_document
from carrack.images.transcode import layer_blob
from carrack.oci.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor, Index, Manifest, decode_manifest
from carrack.oci.digest import Digest
from carrack.oci.image_config import ImageConfig
from carrack.oci.platform import Platform, machine
from carrack.oci.reference import Reference

_SHOWN_BYTES = 4 << 20
"""Members below this size pass without a progress line."""


class _Item(msgspec.Struct, rename="pascal", frozen=True):
    """One image of manifest.json."""

    config: str
    repo_tags: list[str] | None = None
    layers: list[str] | None = None


def load(store: ImageStore, stream: Iterator[bytes], platforms: Sequence[Platform] = ()) -> Iterator[Progress]:
    """Load every image of an archive; all of them or none.

    `platforms`: which to take of an image for several; without, the one that runs here, or the only one there is. Yields progress
    and at the end one ``Loaded image: …`` line per name. Raises InvalidParameter, DataCorrupt, NotFound, SystemFailure.
    """
    with store.assembling() as lease:
        members = yield from _receive(store, stream, lease)
        images = _images(store, lease, members, platforms)
        moved = list(_moved(store, images))
        store.record(images)
    for name, before in moved:
        yield Progress(stream=f"The image {name.familiar} already exists, renaming the old one with ID {before} to empty string\n")
    for image in images:
        known = store.index.get(image.config_digest)
        store.tell("load", known, str(known.id))
        for name in image.names:
            yield Progress(stream=f"Loaded image: {name.familiar}\n")
        if not image.names:
            yield Progress(stream=f"Loaded image ID: {image.config_digest}\n")


def load_layout(store: ImageStore, stream: Iterator[bytes], wanted: str = "") -> Digest:
    """One image of a layout (a tar of it), by the tag or digest that it has there, "" for the only one. It gets no name here.

    Of several platforms all are kept. Gives the image's id. Raises InvalidParameter, DataCorrupt, NotFound, SystemFailure.
    """
    with store.assembling() as lease:
        passing = _receive(store, stream, lease)
        while True:
            try:
                next(passing)
            except StopIteration as end:
                members: Members = end.value
                break
        target = _target_of(members, wanted)
        tree = oci_layout.Tree(store.content, target)
        if not tree.candidates:
            raise NotFound(f"the layout's {wanted or 'only entry'} is no image")
        here = [each for each in tree.candidates if machine().matches(each.platform)]
        chosen = (here or tree.candidates)[0]
        store.record([oci_layout.new_image(store.content, target, chosen, (), tree.present)])
        return chosen.config_digest


def _target_of(members: Members, wanted: str) -> Descriptor:
    index = decode_manifest(members.documents.get("index.json", b""), "")
    if not isinstance(index, Index):
        raise InvalidParameter("the layout's index.json is no index")
    found = [each for each in index.manifests if wanted in ("", each.digest, (each.annotations or {}).get(oci_layout.REF_NAME))]
    if len(found) != 1:
        named = ", ".join((each.annotations or {}).get(oci_layout.REF_NAME, each.digest) for each in index.manifests)
        raise NotFound(
            f"the layout has {len(found) or 'nothing'} of {wanted or 'that could be meant'}: there is {named or 'nothing'}"
        )
    return found[0]


def _moved(store: ImageStore, images: Sequence[NewImage]) -> Iterator[tuple[Reference, Digest]]:
    """The names that stand for another image so far."""
    for image in images:
        for name in image.names:
            before = store.index.named(name)
            if before is not None and before != image.config_digest:
                yield name, before


def _receive(store: ImageStore, stream: Iterator[bytes], lease: Lease) -> Generator[Progress, None, Members]:
    passing = read_members(stream, store.content, lease, store.snapshots.free_bytes())
    shown = 0
    while True:
        try:
            name, done, total = next(passing)
        except StopIteration as end:
            members: Members = end.value
            return members
        if total >= _SHOWN_BYTES and (done == total or done - shown >= _SHOWN_BYTES or done < shown):
            shown = done
            yield Progress("Loading layer", name.rpartition("/")[2][:12], done, total)


def _images(store: ImageStore, lease: Lease, members: Members, platforms: Sequence[Platform]) -> list[NewImage]:
    """The images that an archive's documents describe."""
    listed = _listed(members)
    if "index.json" not in members.documents:
        if "manifest.json" not in members.documents:
            if "repositories" in members.documents:
                raise InvalidParameter("invalid archive: made by Docker before 1.10, whose format is not supported")
            raise InvalidParameter("invalid archive: neither a manifest.json nor an index.json in it")
        return [_from_item(store.content, lease, members, item, platforms) for item in listed]
    layout = oci_layout.read(store.content, members, platforms)
    return _with_tags(layout, listed, members)


def _listed(members: Members) -> list[_Item]:
    try:
        return msgspec.json.decode(members.documents.get("manifest.json", b"[]"), type=list[_Item])
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidParameter(f"invalid archive: manifest.json: {error}") from error


def _from_item(content: ContentStore, lease: Lease, members: Members, item: _Item, platforms: Sequence[Platform]) -> NewImage:
    """An image of Docker's format. It has no manifest of its own, so one is made: an image here can always be pushed."""
    member = members.get(item.config)
    raw = content.read(member.digest, CONFIG_LIMIT_BYTES)
    config = ImageConfig.decode(raw)
    paths = item.layers or []
    if len(paths) != len(config.diff_ids):
        raise InvalidParameter(f"invalid manifest, layers length mismatch: expected {len(config.diff_ids)}, got {len(paths)}")
    if platforms and not any(platform.matches(config.platform) for platform in platforms):
        raise NotFound(f"no image for platform {platforms[0]} in the archive: it has {config.platform}")
    layers = tuple(layer_blob(content, lease, members.get(path).digest) for path in paths)
    manifest = Manifest(2, Descriptor(OCI_CONFIG, str(member.digest), len(raw)), layers, OCI_MANIFEST)
    descriptor = write_document(content, lease, manifest, OCI_MANIFEST)
    return NewImage(member.digest, config, descriptor, descriptor, layers, _tags(item))


def _with_tags(layout: oci_layout.Layout, listed: Sequence[_Item], members: Members) -> list[NewImage]:
    """Give the images of a layout the tags that manifest.json adds, having made sure that both speak of the same."""
    tags: dict[Digest, list[Reference]] = {}
    for item in listed:
        config = members.get(item.config).digest
        if config not in layout.configs:
            raise InvalidParameter(f"invalid archive: ambiguous: manifest.json has image {config}, which index.json does not have")
        tags.setdefault(config, []).extend(_tags(item))
    return [
        replace(image, names=tuple(dict.fromkeys((*image.names, *tags.get(image.config_digest, ()))))) for image in layout.images
    ]


def _tags(item: _Item) -> tuple[Reference, ...]:
    references = tuple(Reference.parse(text) for text in item.repo_tags or ())
    for reference in references:
        if not reference.tag:
            raise InvalidParameter(f"invalid tag {reference.familiar!r}")
    return references
