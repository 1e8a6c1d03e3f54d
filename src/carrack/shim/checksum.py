"""The content key of what a COPY or a bind mount reads of a tree: equal exactly when the files would be equal, times aside.

It is BuildKit's notion (`contenthash`): names, kinds, permission bits, owners, link targets, device numbers, extended attributes
and bytes; what is not read does not count, and a touched file is the same file.
"""

from __future__ import annotations

import hashlib
import os
import stat

from carrack.archive.copying import NOT_THE_FILES
from carrack.archive.index import Index
from carrack.path_patterns import PathRules
from carrack.shim.messages import Checksum
from carrack.shim.selection import Chosen, SourceTree

_CHUNK_BYTES = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def checksum(job: Checksum, root_fd: int, index_fd: int = -1) -> str:
    """The key, ``sha256:…``. Raises NotFound in BuildKit's words, OSError."""
    tree = SourceTree(root_fd)
    summing = _Summing(tree, PathRules(job.excludes), Index.read(index_fd) if index_fd >= 0 else Index())
    source = job.source
    if job.parents:
        for chosen in tree.choose_with_parents(source.path, required=source.required):
            below = "/".join((*chosen.parents[-1:], chosen.name))
            for parent in chosen.parents:
                summing.parent(f"/{chosen.pivot}/{parent}", parent)
            summing.add(chosen, below, above=below if chosen.name else "")
    else:
        for chosen in tree.choose(source.path, wildcards=source.wildcards, required=source.required, follow=job.follow_links):
            summing.add(chosen, chosen.name)
    return summing.result()


class _Summing:
    def __init__(self, tree: SourceTree, rules: PathRules, index: Index) -> None:
        self._tree = tree
        self._rules = rules
        self._index = index
        self._sum = hashlib.sha256()
        self._parents: set[str] = set()

    def parent(self, path: str, name: str) -> None:
        """A directory that travels for what is in it, once."""
        if name in self._parents:
            return
        self._parents.add(name)
        fd = self._tree.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._record(name, os.fstat(fd), fd)
        finally:
            os.close(fd)

    def add(self, chosen: Chosen, name: str, above: str = "") -> None:
        """What a pattern chose. Of a directory only what is in it counts: its own facts are not copied, its name is no one's."""
        status = chosen.status
        if not stat.S_ISDIR(status.st_mode):
            if self._rules.excludes(name):
                return
            if stat.S_ISLNK(status.st_mode):
                fd = self._tree.open(chosen.path, os.O_PATH | os.O_NOFOLLOW)
                link = os.readlink("", dir_fd=fd)
            else:
                fd = self._tree.open(chosen.path, os.O_RDONLY if stat.S_ISREG(status.st_mode) else os.O_PATH)
                link = ""
            try:
                self._record(name, status, fd if stat.S_ISREG(status.st_mode) else -1, link, chosen.path)
            finally:
                os.close(fd)
            return
        if above:
            self.parent(chosen.path, name)
        else:
            self._sum.update(b"directory\0")
        for found in self._tree.walk(chosen, self._rules, above):
            if found.leaves:
                continue
            self._found(found.fd, found.name, found.relative, found.status, f"{chosen.path.rstrip('/')}/{found.relative}")

    def result(self) -> str:
        return f"sha256:{self._sum.hexdigest()}"

    def _found(self, fd: int, name: str, relative: str, status: os.stat_result, path: str) -> None:
        mode = status.st_mode
        if stat.S_ISREG(mode):
            known = self._index.digest(path, status.st_size)
            if known is not None:
                self._known(relative, status, known)
                return
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            inner = os.open(name, _DIRECTORY if stat.S_ISDIR(mode) else _READ, dir_fd=fd)
            try:
                self._record(relative, status, inner)
            finally:
                os.close(inner)
        else:
            self._record(relative, status, -1, os.readlink(name, dir_fd=fd) if stat.S_ISLNK(mode) else "")

    def _record(self, name: str, status: os.stat_result, fd: int, link: str = "", path: str = "") -> None:
        attributes = b""
        content = b""
        if fd >= 0:
            attributes = _attributes(fd)
            if stat.S_ISREG(status.st_mode):
                known = self._index.digest(path, status.st_size) if path else None
                content = known or digest_of(fd)
        self._known(name, status, content, attributes, link)

    def _known(self, name: str, status: os.stat_result, content: bytes, attributes: bytes = b"", link: str = "") -> None:
        device = status.st_rdev if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode) else 0
        facts = f"{status.st_mode:o} {status.st_uid} {status.st_gid} {device}"
        for part in (os.fsencode(name), facts.encode(), os.fsencode(link), attributes, content):
            self._sum.update(b"%d:" % len(part) + part)


def digest_of(fd: int) -> bytes:
    """The sha256 of a file's content, in hexadecimal."""
    summing = hashlib.sha256()
    while piece := os.read(fd, _CHUNK_BYTES):
        summing.update(piece)
    return summing.hexdigest().encode()


def _attributes(fd: int) -> bytes:
    parts = []
    for key in sorted(os.listxattr(fd)):
        if not key.startswith(NOT_THE_FILES):
            value = os.getxattr(fd, key)
            parts.append(b"%s=%d:%s" % (os.fsencode(key), len(value), value))
    return b"".join(parts)
