"""Build contexts on disk: unpacking one, bringing one up to date, leaving out what an ignore file names.

The process is confined to the context's directory; what a client sent says nothing about any other place.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Sequence

from carrack.archive import manifest
from carrack.archive.compression import CHUNK_BYTES, Decompressed
from carrack.archive.extract import Extractor
from carrack.archive.header import shown
from carrack.archive.index import Index, read_whole
from carrack.archive.reader import TarReader
from carrack.archive.removal import remove_tree
from carrack.errors import InvalidParameter
from carrack.path_patterns import PathRules
from carrack.shim.messages import PruneTree, SyncContext, UnpackContext, WorkerDone

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def unpack_context(job: UnpackContext, source_fd: int, root_fd: int, index_fd: int) -> WorkerDone:
    """Extract a context into an empty directory. Raises InvalidParameter, DataCorrupt, SystemFailure."""
    os.umask(0)
    digest = hashlib.sha256()
    stream = Decompressed(lambda: os.read(source_fd, CHUNK_BYTES))

    def piece() -> bytes:
        content = stream.read()
        digest.update(content)
        return content

    index = Index()
    reader = TarReader(piece, job.limit_bytes)
    extractor = Extractor(root_fd, whiteouts=False, limit_entries=manifest.ENTRIES_LIMIT, owner=(0, 0), index=index)
    extractor.extract(reader)
    reader.drain()
    index.write(index_fd)
    return WorkerDone(f"sha256:{digest.hexdigest()}", extractor.size_bytes, extractor.entries)


def sync_context(job: SyncContext, root_fd: int, fds: Sequence[int]) -> WorkerDone:
    """Make the directory what the new manifest says. Raises InvalidParameter, DataCorrupt, SystemFailure, OSError."""
    source_fd, old_fd, new_fd, index_fd, new_index_fd = fds
    os.umask(0)
    old, new = manifest.parse_manifest(read_whole(old_fd)), manifest.parse_manifest(read_whole(new_fd))
    index = Index.read(index_fd)
    paths = list(new)
    expected = {paths[number] for number in manifest.missing(old, new)}
    for path, line in old.items():
        stays = new.get(path)
        if stays is None or stays.kind != line.kind or path in expected or (line.kind == b"l" and stays != line):
            index.forget(path)
            remove_tree(root_fd, os.fsdecode(path))
    for path, line in new.items():
        if line.kind == b"d" and old.get(path) != line:
            _make_folder(path, line.mode)
        elif line.kind == b"l" and old.get(path) != line:
            os.symlink(line.target, path)
            os.utime(path, ns=(line.mtime_ns, line.mtime_ns), follow_symlinks=False)
    extractor = Extractor(root_fd, whiteouts=False, owner=(0, 0), index=index, only=expected)
    extractor.extract(TarReader(Decompressed(lambda: os.read(source_fd, CHUNK_BYTES)).read, job.limit_bytes))
    if expected:
        raise InvalidParameter(f"the context's archive lacks {shown(min(expected))}, which its manifest announces")
    for path in reversed(paths):
        if new[path].kind == b"d":
            os.utime(path, ns=(new[path].mtime_ns, new[path].mtime_ns))
    index.write(new_index_fd)
    return WorkerDone(size_bytes=sum(line.size for line in new.values() if line.kind == b"f"), entries=len(new))


def prune_tree(job: PruneTree, root_fd: int) -> WorkerDone:
    """Remove what the patterns leave out, exceptions kept. Raises SystemFailure, OSError."""
    rules = PathRules(job.patterns)
    removed = 0
    waiting = [("", PathRules.NONE)]
    perhaps_empty: list[str] = []
    while waiting:
        folder, inherited = waiting.pop()
        fd = os.open(folder or ".", _DIRECTORY, dir_fd=root_fd)
        try:
            for name in os.listdir(fd):
                path = f"{folder}/{name}" if folder else name
                verdict = rules.judge(path, inherited)
                is_folder = stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)
                left_out = rules.leaves_out(verdict)
                if is_folder and (not left_out or rules.may_hold(path)):
                    waiting.append((path, verdict))
                    if left_out:
                        perhaps_empty.append(path)
                elif left_out:
                    removed += 1
                    if job.look_only:
                        return WorkerDone(entries=removed)
                    remove_tree(fd, name)
        finally:
            os.close(fd)
    for path in sorted(perhaps_empty, reverse=True) if not job.look_only else ():
        try:
            os.rmdir(path, dir_fd=root_fd)
            removed += 1
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
    return WorkerDone(entries=removed)


def _make_folder(path: bytes, mode: int) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    os.chmod(path, mode)
