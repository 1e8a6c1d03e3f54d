"""Extracting an archive into a directory of a container, from inside a worker that is shut in there."""

from __future__ import annotations

import os

from carrack.archive.compression import CHUNK_BYTES, Decompressed
from carrack.archive.extract import Extractor
from carrack.archive.reader import TarReader
from carrack.errors import DataCorrupt, Forbidden, InvalidParameter, NotFound, SystemFailure
from carrack.kernel import paths
from carrack.runtime import users
from carrack.runtime.program import read_user_file
from carrack.shim.messages import WorkerDone, WritePath
from carrack.shim.read_path import absolute


def write_path(job: WritePath, root_fd: int, source_fd: int) -> WorkerDone:
    """Extract from `source_fd`, links of the path followed. Raises NotFound, InvalidParameter, Forbidden, SystemFailure."""
    directory = os.path.realpath(absolute(job.path))
    _check_target(job.path, root_fd, directory)
    owner = _owner(job.owner, root_fd) if job.owner else None
    stream = Decompressed(lambda: _read(source_fd))
    os.umask(0)
    inside = os.fsencode(directory.strip("/"))
    extractor = Extractor(root_fd, whiteouts=False, inside=inside, keep_kinds=job.keep_kinds, owner=owner)
    reader = TarReader(stream.read)
    extractor.extract(reader)
    try:
        reader.drain()
    except DataCorrupt:
        pass  # what stands behind the end of an archive is nobody's, as for tar(1)
    return WorkerDone(size_bytes=extractor.size_bytes, entries=extractor.entries)


def _check_target(path: str, root_fd: int, directory: str) -> None:
    try:
        fd = paths.open_in(root_fd, directory, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        raise NotFound(path) from None
    except NotADirectoryError:
        raise InvalidParameter("extraction point is not a directory") from None
    except OSError as error:
        raise SystemFailure(f"{path}: {error.strerror}") from error
    try:
        if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
            is_root = os.fstat(fd).st_dev == os.fstat(root_fd).st_dev
            raise Forbidden("container rootfs is marked read-only" if is_root else "mounted volume is marked read-only")
    finally:
        os.close(fd)


def _owner(wish: str, root_fd: int) -> tuple[int, int]:
    account = users.resolve(wish, _content(root_fd, "/etc/passwd"), _content(root_fd, "/etc/group"))
    return account.uid, account.gid


def _content(root_fd: int, path: str) -> bytes:
    try:
        return read_user_file(paths.open_in(root_fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY))
    except OSError:
        return b""


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, CHUNK_BYTES)
    except OSError as error:
        raise SystemFailure(f"cannot read an archive: {error.strerror}") from error
