"""What a container changed of its image, from inside a worker: Docker's C (changed), A (added) and D (deleted), in order of paths.

An overlay's upper directory says it by itself: its marks delete, its entries change or add. A full copy is held against what it
was copied from. A directory has changed when its mode, owner or time has: something was made or removed in it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from carrack.archive.extract import OPAQUE
from carrack.errors import SystemFailure
from carrack.shim.messages import FindChanges, WorkerDone
from carrack.shim.pack_tree import Output

CHANGED, ADDED, DELETED = b"C", b"A", b"D"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 400
"""Two directories are open for each level."""
_Change = tuple[bytes, bytes]


def find_changes(job: FindChanges, below_fd: int, changes_fd: int, target_fd: int) -> WorkerDone:
    """Write every change to `target_fd`. Raises SystemFailure."""
    output = Output(target_fd)
    places = frozenset(os.fsencode(place) for place in job.places)
    entries = 0
    try:
        for kind, path in _changes(changes_fd, below_fd, b"", places, 0, whole=job.whole):
            output.add(kind + path + b"\0")
            entries += 1
    except OSError as error:
        raise SystemFailure(f"cannot read a file system: {error}") from error
    output.finish()
    return WorkerDone(entries=entries)


def _changes(upper: int, lower: int, path: bytes, places: frozenset[bytes], depth: int, *, whole: bool) -> Iterator[_Change]:
    """Within one directory; `lower` -1: there is none below."""
    if depth > _DEEPEST:
        raise SystemFailure("directories are nested too deeply to be compared")
    hides = whole or _is_opaque(upper)
    mine = {os.fsencode(name) for name in os.listdir(upper)}
    theirs = {os.fsencode(name) for name in os.listdir(lower)} if hides and lower >= 0 else set()
    for base in sorted(mine | theirs):
        here = path + b"/" + base
        if base not in mine:
            yield DELETED, here
            continue
        status, before = _status(upper, base), _status(lower, base)
        if status is None:
            continue  # it went while we looked
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0 and not whole:
            if before is not None:
                yield DELETED, here
            continue
        if whole and before is None and here in places and _is_place(status):
            continue
        if not stat.S_ISDIR(status.st_mode):
            if before is None or not whole or _differs(status, before):
                yield (ADDED if before is None else CHANGED), here
            continue
        replaces = before is not None and stat.S_ISDIR(before.st_mode)
        if before is None:
            yield ADDED, here
        elif not replaces or _differs(status, before):
            yield CHANGED, here
        yield from _below(upper, lower if replaces else -1, base, here, places, depth, whole=whole)


def _below(
    upper: int, lower: int, base: bytes, here: bytes, places: frozenset[bytes], depth: int, *, whole: bool
) -> Iterator[_Change]:
    inner = os.open(base, _DIRECTORY, dir_fd=upper)
    try:
        under = os.open(base, _DIRECTORY, dir_fd=lower) if lower >= 0 else -1
        try:
            yield from _changes(inner, under, here, places, depth + 1, whole=whole)
        finally:
            if under >= 0:
                os.close(under)
    finally:
        os.close(inner)


def _status(directory: int, base: bytes) -> os.stat_result | None:
    if directory < 0:
        return None
    try:
        return os.stat(base, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _differs(now: os.stat_result, before: os.stat_result) -> bool:
    same_facts = (now.st_mode, now.st_uid, now.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    same_size = stat.S_ISDIR(now.st_mode) or now.st_size == before.st_size
    return not (same_facts and same_size and now.st_mtime_ns == before.st_mtime_ns)


def _is_place(status: os.stat_result) -> bool:
    """Whether something is only a place to mount on."""
    return stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode) or status.st_size == 0


def _is_opaque(directory: int) -> bool:
    try:
        return os.getxattr(directory, OPAQUE) == b"y"
    except OSError:
        return False
