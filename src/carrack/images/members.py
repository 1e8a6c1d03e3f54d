"""The outer archive of `docker load`: a tar whose members become blobs as they stream past.

Members that name their digest (``blobs/sha256/…``) are verified against it. The few documents that say what the archive holds
stay in memory, bounded; everything else becomes a blob under the digest it turns out to have. Nothing is ever written under
a name that the archive chose.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from carrack.archive import header
from carrack.archive.compression import Decompressed
from carrack.archive.header import Entry, invalid, shown
from carrack.archive.reader import TarReader
from carrack.content import ContentStore, Lease
from carrack.errors import DataCorrupt, InvalidParameter
from carrack.oci.digest import Digest

_DOCUMENTS = frozenset(("manifest.json", "index.json", "oci-layout", "repositories"))
_DOCUMENT_LIMIT_BYTES = 8 << 20
_MEMBERS_LIMIT = 100_000
_LINKS_LIMIT = 16
_BLOB = re.compile(r"blobs/(sha256|sha512)/([a-f0-9]+)")
_LEGACY = re.compile(r"[a-f0-9]{64}/(VERSION|json)")
"""What Docker before 1.10 wanted beside each layer."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the archive that became a blob."""

    digest: Digest
    size: int


Passing = tuple[str, int, int]
"""A member on its way in: its name, how much of it has passed, how large it is."""


class Members:
    """What an archive held."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self._files: dict[str, Member] = {}
        self._links: dict[str, str] = {}

    def find(self, path: str) -> Member | None:
        """The file of this name, through the archive's own links."""
        for _ in range(_LINKS_LIMIT):
            path = _normal(path)
            if path not in self._links:
                return self._files.get(path)
            path = self._links[path]
        raise InvalidParameter(f"invalid archive: too many links at {shown(path.encode())}")

    def get(self, path: str) -> Member:
        """The file of this name. Raises InvalidParameter."""
        member = self.find(path)
        if member is None:
            raise InvalidParameter(f"invalid archive: {shown(path.encode())} is named but missing")
        return member

    def add(self, path: str, member: Member) -> None:
        """Note a file. A name given twice with different content is refused: two readers could see two images."""
        present = self._files.setdefault(path, member)
        if present != member or path in self._links:
            raise InvalidParameter(f"invalid archive: duplicate name {shown(path.encode())}")

    def add_link(self, path: str, target: str) -> None:
        """Note a link."""
        if path in self._files or self._links.setdefault(path, target) != target:
            raise InvalidParameter(f"invalid archive: duplicate name {shown(path.encode())}")

    def add_document(self, path: str, content: bytes) -> None:
        """Keep a document."""
        if self.documents.setdefault(path, content) != content:
            raise InvalidParameter(f"invalid archive: duplicate name {path}")


def read_members(
    stream: Iterator[bytes], content: ContentStore, lease: Lease, limit_bytes: int
) -> Generator[Passing, None, Members]:
    """Read an archive, compressed or not, to its end; yields (name, done, total) while large members pass.

    The generator's value is the `Members`. Raises InvalidParameter, DataCorrupt, SystemFailure.
    """
    unpacked = Decompressed(lambda: next(stream, b""))
    reader = TarReader(unpacked.read, limit_bytes)
    members = Members()
    count = 0
    while (entry := reader.next()) is not None:
        count += 1
        if count > _MEMBERS_LIMIT:
            raise InvalidParameter(f"invalid archive: more than {_MEMBERS_LIMIT} members")
        path = _member_path(entry)
        if entry.type == header.DIRECTORY or not path:
            continue
        if entry.type in (header.SYMBOLIC_LINK, header.HARD_LINK):
            members.add_link(path, _link_target(entry, path))
        elif entry.type != header.REGULAR or entry.sparse is not None:
            raise invalid(entry.name, "neither a file nor a directory")
        elif path in _DOCUMENTS:
            members.add_document(path, reader.read(_DOCUMENT_LIMIT_BYTES))
        elif not _LEGACY.fullmatch(path):
            member = yield from _store(entry, path, reader, content, lease)
            members.add(path, member)
    reader.drain()
    return members


def _store(entry: Entry, path: str, reader: TarReader, content: ContentStore, lease: Lease) -> Generator[Passing, None, Member]:
    expected = None
    match = _BLOB.fullmatch(path)
    if match is not None:
        expected = Digest.parse(f"{match[1]}:{match[2]}")
        lease.add(expected)
        if content.has(expected) and content.size(expected) == entry.size:
            _verify(reader, expected)  # nothing to keep, but an archive that lies about itself is refused whatever we have
            return Member(expected, entry.size)
    with content.writer(lease, expected=expected) as writer:
        for piece in reader.content():
            writer.write(piece)
            yield path, writer.offset, entry.size
        return Member(writer.commit(size_bytes=entry.size), entry.size)


def _verify(reader: TarReader, expected: Digest) -> None:
    found = hashlib.new(expected.algorithm)
    for piece in reader.content():
        found.update(piece)
    if found.hexdigest() != expected.encoded:
        raise DataCorrupt(f"content is {expected.algorithm}:{found.hexdigest()}, not {expected}")


def _member_path(entry: Entry) -> str:
    """A member's name. It becomes no path on disk, but who tries to leave the archive means no good."""
    try:
        name = entry.name.decode()
    except UnicodeDecodeError:
        raise invalid(entry.name, "name is not UTF-8") from None
    if name.startswith("/"):
        raise invalid(entry.name, "absolute name")
    if ".." in name.split("/"):
        raise invalid(entry.name, "outside of the archive's root")
    return _normal(name)


def _link_target(entry: Entry, path: str) -> str:
    """Where a link points, as a name of the archive: a hard link from the root, a symbolic one from where it stands."""
    target = entry.link.decode("utf-8", "replace")
    if target.startswith("/"):
        raise invalid(entry.name, f"link to {shown(entry.link)}, outside of the archive")
    base = path.split("/")[:-1] if entry.type == header.SYMBOLIC_LINK else []
    for part in target.split("/"):
        if part == "..":
            if not base:
                raise invalid(entry.name, f"link to {shown(entry.link)}, outside of the archive")
            base.pop()
        elif part not in ("", "."):
            base.append(part)
    return "/".join(base)


def _normal(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))
