"""The image index: which images there are, what they are called, and which content they need. SQL on state.db, no walk of files.

Names are kept in their full form (``docker.io/library/nginx:latest``); what people see is the familiar one.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import msgspec

from carrack.errors import NotFound
from carrack.images.image import Image, ImageDocument, created_microseconds
from carrack.oci.descriptor import INDEX_TYPES, Descriptor
from carrack.oci.digest import Digest, chain_id
from carrack.oci.reference import Reference
from carrack.state import Database, Row

_ID = re.compile(r"(?:sha256:)?([a-f0-9]{64})")
_ID_PREFIX = re.compile(r"(?:sha256:)?([a-f0-9]{1,64})")
_READ_LIMIT, _READ_BYTES = 2000, 64 << 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_decode_document = msgspec.json.Decoder(ImageDocument).decode
_decode_descriptor = msgspec.json.Decoder(Descriptor).decode


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a reference meant: an image, and the name it was found by (None when an id was given)."""

    id: Digest
    name: Reference | None


class ImageIndex:
    """The tables `images`, `tags`, `image_blobs` of state.db."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._read: dict[str, tuple[bytes, Image]] = {}
        """Images that were read before, with the document they were read from: a list of hundreds must take no time."""
        self._all: tuple[int, list[Image]] = (-1, [])
        """Every image, as of a commit of the database."""

    def resolve(self, ref: str) -> Resolved:
        """Find the image a person means: an id, a name with or without tag, a name by digest, or the beginning of an id.

        Docker's order: a full id first, then names, then the beginnings of ids, so that an image called ``abc`` is found before
        one whose id begins with ``abc``. Raises NotFound ("No such image: …"), InvalidParameter.
        """
        full = _ID.fullmatch(ref)
        if full is not None:
            return Resolved(self._by_digest(f"sha256:{full[1]}"), None)
        named = self._by_name(ref)
        if named is not None:
            return named
        prefix = _ID_PREFIX.fullmatch(ref)
        if prefix is not None:
            rows = self._database.read("SELECT digest FROM images WHERE digest GLOB ? LIMIT 2", (f"sha256:{prefix[1]}*",))
            if len(rows) == 1:
                return Resolved(Digest.parse(rows[0][0]), None)
        raise no_such_image(ref)

    def get(self, image: Digest) -> Image:
        """One image by its id. Raises NotFound."""
        rows = self._database.read(f"{_SELECT} WHERE digest = ?", (str(image),))
        if not rows:
            raise NotFound(f"No such image: {image}")
        tags = self._database.read("SELECT reference FROM tags WHERE digest = ? ORDER BY reference", (str(image),))
        return self._image(rows[0], [row[0] for row in tags])

    def all(self) -> list[Image]:
        """Every image, the newest first."""
        commits = self._database.commits
        if self._all[0] != commits:
            self._all = (commits, self._read_all())
        return list(self._all[1])

    def _read_all(self) -> list[Image]:
        names: dict[str, list[str]] = {}
        for reference, digest in self._database.read("SELECT reference, digest FROM tags ORDER BY reference"):
            names.setdefault(digest, []).append(reference)
        rows = self._database.read(f"{_SELECT} ORDER BY created DESC, digest")
        return [self._image(row, names.get(row[0], ())) for row in rows]

    def references(self, image: Digest) -> list[Reference]:
        """The names of an image, by tag and by digest, in their order."""
        rows = self._database.read("SELECT reference FROM tags WHERE digest = ? ORDER BY reference", (str(image),))
        return [Reference.parse(row[0]) for row in rows]

    def named(self, reference: Reference) -> Digest | None:
        """The image that exactly this name stands for."""
        rows = self._database.read("SELECT digest FROM tags WHERE reference = ?", (str(canonical(reference)),))
        return Digest.parse(rows[0][0]) if rows else None

    def repository(self, repository: str) -> list[tuple[Reference, Digest]]:
        """The names within one repository."""
        # ';' and 'A' are the letters behind ':' and '@'
        rows = self._database.read(
            """SELECT reference, digest FROM tags
               WHERE (reference > ? AND reference < ?) OR (reference > ? AND reference < ?) ORDER BY reference""",
            (f"{repository}:", f"{repository};", f"{repository}@", f"{repository}A"),
        )
        return [(Reference.parse(reference), Digest.parse(digest)) for reference, digest in rows]

    def target(self, reference: Reference) -> Descriptor | None:
        """The manifest or index a name stands for in its registry."""
        rows = self._database.read("SELECT target FROM tags WHERE reference = ?", (str(reference),))
        return _decode_descriptor(rows[0][0]) if rows else None

    def children(self, image: Digest) -> list[Digest]:
        """The images that were built from this one here."""
        rows = self._database.read("SELECT digest FROM images WHERE parent = ?", (str(image),))
        return [Digest.parse(row[0]) for row in rows]

    def parents(self) -> set[Digest]:
        """The images that have children."""
        return {Digest.parse(row[0]) for row in self._database.read("SELECT DISTINCT parent FROM images WHERE parent IS NOT NULL")}

    def blobs(self) -> set[Digest]:
        """All content that any image needs."""
        return {Digest.parse(row[0]) for row in self._database.read("SELECT DISTINCT digest FROM image_blobs")}

    def blobs_of(self, image: Digest) -> set[Digest]:
        """The content one image needs."""
        rows = self._database.read("SELECT digest FROM image_blobs WHERE image = ?", (str(image),))
        return {Digest.parse(row[0]) for row in rows}

    def forget(self, image: Digest) -> None:
        """One that has been removed is not kept in memory either."""
        self._read.pop(str(image), None)

    def _image(self, row: Row, references: Sequence[str]) -> Image:
        digest, content = row[0], row[-1]
        known = self._read.get(digest)
        if known is None or known[0] != content:
            known = (content, _nameless(row))
            if len(content) <= _READ_BYTES:
                if len(self._read) >= _READ_LIMIT:
                    self._read.clear()
                self._read[digest] = known
        names = tuple(_familiar(name) for name in references if "@" not in name)
        digests = tuple(_familiar(name) for name in references if "@" in name)
        return replace(known[1], names=names, repo_digests=digests)

    def _by_digest(self, text: str) -> Digest:
        if self._database.read("SELECT 1 FROM images WHERE digest = ?", (text,)):
            return Digest.parse(text)
        # Of several images under one index, the one that a name stands for now, then the one that came last.
        rows = self._database.read(
            """SELECT b.image FROM image_blobs b LEFT JOIN tags t ON t.digest = b.image
               WHERE b.digest = ? AND b.role IN ('manifest', 'index') ORDER BY t.updated DESC NULLS LAST LIMIT 1""",
            (text,),
        )
        if not rows:
            raise NotFound(f"No such image: {text}")
        return Digest.parse(rows[0][0])

    def _by_name(self, ref: str) -> Resolved | None:
        reference = canonical(Reference.parse(ref))
        rows = self._database.read("SELECT digest FROM tags WHERE reference = ?", (str(reference),))
        if rows:
            return Resolved(Digest.parse(rows[0][0]), reference)
        if reference.digest is None:
            return None
        # repository@digest of something that has a tag in that repository here
        rows = self._database.read(
            """SELECT t.digest, t.reference FROM tags t JOIN image_blobs b ON b.image = t.digest
               WHERE b.digest = ? AND b.role IN ('manifest', 'index') AND t.reference > ? AND t.reference < ?
               ORDER BY t.updated DESC LIMIT 1""",
            (str(reference.digest), f"{reference.repository}:", f"{reference.repository};"),
        )
        return Resolved(Digest.parse(rows[0][0]), Reference.parse(rows[0][1])) if rows else None


def canonical(reference: Reference) -> Reference:
    """The name as it is kept: a digest wins over a tag, and the tag is ``latest`` when neither was given."""
    if reference.digest is not None:
        return Reference(reference.domain, reference.path, "", reference.digest)
    return reference.with_default_tag()


def no_such_image(ref: str) -> NotFound:
    """Docker's text for a reference that means nothing here. Raises InvalidParameter when it could mean nothing anywhere."""
    return NotFound(f"No such image: {Reference.parse(ref).with_default_tag().familiar}")


def put_image(
    connection: sqlite3.Connection,
    image: Digest,
    document: ImageDocument,
    *,
    attachments: Iterable[Digest] = (),
    parent: Digest | None = None,
) -> bool:
    """In a change of state.db: record an image, or the further content of one that is there. True when it is new."""
    chain = chain_id(document.config.diff_ids)
    inserted = connection.execute(
        "INSERT INTO images VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (
            str(image),
            created_microseconds(document.config.created),
            str(chain) if chain else None,
            str(parent) if parent else None,
            msgspec.json.encode(document),
        ),
    ).rowcount
    if not inserted:
        connection.execute("UPDATE images SET document = ? WHERE digest = ?", (msgspec.json.encode(document), str(image)))
    rows = [(str(image), str(image), "config"), (str(image), document.manifest.digest, "manifest")]
    if document.target.media_type in INDEX_TYPES:
        rows.append((str(image), document.target.digest, "index"))
    rows += [(str(image), layer.digest, "layer") for layer in document.layers]
    rows += [(str(image), str(digest), "attachment") for digest in attachments]
    connection.executemany("INSERT INTO image_blobs VALUES (?, ?, ?) ON CONFLICT DO NOTHING", rows)
    return bool(inserted)


def put_tag(connection: sqlite3.Connection, reference: Reference, image: Digest, target: Descriptor) -> Digest | None:
    """In a change of state.db: let a name stand for an image. Gives the image it stood for before, when that was another."""
    name = str(canonical(reference))
    before = connection.execute("SELECT digest FROM tags WHERE reference = ?", (name,)).fetchone()
    connection.execute(
        """INSERT INTO tags VALUES (?, ?, ?, ?) ON CONFLICT (reference)
           DO UPDATE SET digest = excluded.digest, target = excluded.target, updated = excluded.updated""",
        (name, str(image), msgspec.json.encode(target), int(time.time())),
    )
    return Digest.parse(before[0]) if before is not None and before[0] != str(image) else None


_SELECT = "SELECT digest, created, chain_id, parent, document FROM images"


def _nameless(row: Row) -> Image:
    digest, created, chain, parent, content = row
    document = _decode_document(content)
    return Image(
        id=Digest.parse(digest),
        config=document.config,
        chain_id=Digest.parse(chain) if chain else None,
        names=(),
        repo_digests=(),
        size_bytes=document.size_bytes,
        created=moment(created),
        descriptor=document.target,
        manifest=document.manifest,
        layers=document.layers,
        parent=Digest.parse(parent) if parent else None,
    )


def moment(microseconds: int | None) -> datetime | None:
    """Microseconds of the epoch as a time."""
    return _EPOCH + timedelta(microseconds=microseconds) if microseconds is not None else None


def _familiar(name: str) -> str:
    """The familiar form of a kept name, without parsing it again: a listing does this for each."""
    if not name.startswith("docker.io/"):
        return name
    path = name[len("docker.io/") :]
    rest = path.removeprefix("library/")
    return path if "/" in rest else rest
