"""Two small jobs of a build inside a tree: make a directory as WORKDIR does, and say what is at a place."""

from __future__ import annotations

import os
import stat

from carrack.errors import InvalidParameter, NotFound
from carrack.kernel import paths
from carrack.runtime import users
from carrack.shim.messages import WorkerDone

DIRECTORY, FILE, OTHER = 1, 2, 3
"""What `LookAt` answers in `entries`."""
_MODE = 0o755
_LINKS = 40


def make_directory(root_fd: int, path: str, owner: str, moment_seconds: int) -> WorkerDone:
    """Make a directory and those above it that are missing, for an owner by the tree's own names; `entries`: how many were made.

    Links are followed inside the tree. What is there stays as it is. Raises InvalidParameter when something else is in the way.
    """
    uid, gid = _owner(root_fd, owner)
    made = 0
    here = os.dup(root_fd)
    walked = ""
    try:
        for name in (part for part in path.split("/") if part):
            walked = f"{walked}/{name}"
            try:
                below = paths.open_in(root_fd, walked, os.O_PATH | os.O_DIRECTORY)
            except FileNotFoundError:
                below = _make(root_fd, here, name, walked)
                os.fchown(below, uid, gid)
                if moment_seconds >= 0:
                    os.utime(below, (moment_seconds, moment_seconds))
                made += 1
            except NotADirectoryError:
                raise InvalidParameter(f"cannot make {path}: {walked} is not a directory") from None
            os.close(here)
            here = below
    finally:
        os.close(here)
    return WorkerDone(entries=made)


def look_at(root_fd: int, path: str) -> WorkerDone:
    """What is at a path, links followed inside: `entries` is DIRECTORY, FILE or OTHER. Raises NotFound."""
    try:
        fd = paths.open_in(root_fd, path or ".", os.O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f'"{path}": not found') from None
    mode = os.fstat(fd).st_mode
    os.close(fd)
    return WorkerDone(entries=DIRECTORY if stat.S_ISDIR(mode) else FILE if stat.S_ISREG(mode) else OTHER)


def _make(root_fd: int, parent_fd: int, name: str, walked: str) -> int:
    """Make one directory in an opened one; where a link leads nowhere, the directory that it names is made."""
    try:
        os.mkdir(name, _MODE, dir_fd=parent_fd)
    except FileExistsError:
        target = os.readlink(name, dir_fd=parent_fd)
        parent = walked.rpartition("/")[0]
        _make_all(root_fd, target if target.startswith("/") else f"{parent}/{target}", _LINKS)
    fd = paths.open_in(root_fd, walked, os.O_PATH | os.O_DIRECTORY)
    reopened = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    os.close(fd)
    os.fchmod(reopened, _MODE)
    return reopened


def _make_all(root_fd: int, path: str, links: int) -> None:
    if not links:
        raise InvalidParameter(f"too many links at {path}")
    walked = ""
    for name in (part for part in path.split("/") if part and part != "."):
        parent = walked or "/"
        walked = f"{walked}/{name}"
        try:
            os.close(paths.open_in(root_fd, walked, os.O_PATH | os.O_DIRECTORY))
        except FileNotFoundError:
            above = paths.open_in(root_fd, parent, os.O_PATH | os.O_DIRECTORY)
            try:
                os.mkdir(name, _MODE, dir_fd=above)
            except FileExistsError:
                target = os.readlink(name, dir_fd=above)
                _make_all(root_fd, target if target.startswith("/") else f"{parent}/{target}", links - 1)
            finally:
                os.close(above)


def _owner(root_fd: int, owner: str) -> tuple[int, int]:
    if not owner:
        return 0, 0
    account = users.resolve(owner, _read(root_fd, "/etc/passwd"), _read(root_fd, "/etc/group"))
    return account.uid, account.gid


def _read(root_fd: int, path: str) -> bytes:
    try:
        fd = paths.open_in(root_fd, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return b""
    with os.fdopen(fd, "rb") as file:
        return file.read(users.LARGEST_FILE)
