"""Files that are either whole or not there: written beside, synced, renamed. After a call a power cut takes nothing back."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

from carrack.errors import InvalidParameter
from carrack.oci.digest import Digest

_DIRECTORY_MODE = 0o755


def write_file(path: str, content: bytes, staging: str) -> None:
    """Make `path` hold exactly `content`, replacing what was there, atomically and durably. Directories are made as needed."""
    temporary = f"{staging}/{secrets.token_hex(12)}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    move_file(temporary, path)


def move_file(source: str, path: str) -> None:
    """Rename a synced file to `path` durably. A directory that tidying takes away meanwhile is made again."""
    directory = os.path.dirname(path)
    while True:
        try:
            os.rename(source, path)
            break
        except FileNotFoundError:
            if not os.path.lexists(source):
                raise
            make_directory(directory)
    sync_directory(directory)


def make_directory(path: str) -> None:
    """Make a directory and those above it, also while tidying removes empty ones."""
    while True:
        try:
            os.makedirs(path, _DIRECTORY_MODE, exist_ok=True)
        except FileNotFoundError:
            continue  # one above went between two steps of makedirs
        return


def remove_file(path: str, *, durable: bool = True) -> bool:
    """Unlink durably (unless it may as well come back); whether it was there. Its directory goes too when that leaves it empty."""
    directory = os.path.dirname(path)
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    try:
        os.rmdir(directory)
        directory = os.path.dirname(directory)
    except OSError:
        pass  # the directory holds something else, or has just been filled again
    if durable:
        sync_directory(directory)
    return True


def sync_directory(path: str) -> None:
    """Make the names in a directory survive a power cut."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_file(path: str) -> bytes:
    """All of a small file in three system calls. Raises FileNotFoundError."""
    fd = open_quietly(path)
    try:
        content = os.read(fd, 65536)
        if len(content) < 65536:
            return content
        pieces = [content]
        while piece := os.read(fd, 1 << 20):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)


def open_quietly(path: str) -> int:
    """Open to read without a trace in the access time, where the file is ours (open(2), O_NOATIME). Raises FileNotFoundError."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOATIME)
    except PermissionError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def read_link(path: str) -> Digest | None:
    """The digest a link names; None when it is absent or, as a crash of another registry can leave it, not whole."""
    try:
        return Digest.parse(read_file(path).decode("ascii").strip())
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError, InvalidParameter):
        return None


def names_in(path: str) -> list[str]:
    """The names in a directory, sorted by bytes; none when it is absent."""
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def digests_in(path: str) -> Iterator[Digest]:
    """The digests of an ``<algorithm>/<hex>`` tree; other names are passed over."""
    for algorithm in names_in(path):
        for encoded in names_in(f"{path}/{algorithm}"):
            try:
                yield Digest.parse(f"{algorithm}:{encoded}")
            except InvalidParameter:
                continue
