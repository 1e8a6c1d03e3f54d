"""Local files as a tar stream, in pieces: nothing larger than one read is in memory. Used by `cp` and `build`."""

from __future__ import annotations

import os
import tarfile

from carrack.cli.failure import CommandFailure
from carrack.cli.files import os_error_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PIECE_BYTES = 1 << 18


class _Nowhere:
    """A file that forgets: `tarfile` is only asked to describe entries."""

    def write(self, data: bytes) -> int:
        return len(data)

    def tell(self) -> int:
        return 0


def tar_pieces(entries: Iterable[tuple[str, str]], *, adjust: Callable[[tarfile.TarInfo], None] | None = None) -> Iterator[bytes]:
    """The archive of (path, name in the archive) pairs. Sockets are left out; a second name of a file is a hard link.

    Raises CommandFailure for a file that cannot be read.
    """
    describer = tarfile.TarFile(fileobj=_Nowhere(), mode="w", format=tarfile.PAX_FORMAT)  # type: ignore[arg-type]
    for path, name in entries:
        try:
            entry = describer.gettarinfo(path, arcname=name)
        except OSError as error:
            raise CommandFailure(os_error_text(error, "lstat")) from None
        if entry is None:
            continue
        if adjust is not None:
            adjust(entry)
        yield entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if entry.isreg():
            yield from _content(path, entry.size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _content(path: str, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes of a file and the padding: a file that shrinks meanwhile is filled up, one that grows is cut."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CommandFailure(os_error_text(error)) from None
    left = size
    try:
        while left:
            data = os.read(fd, min(PIECE_BYTES, left)) or bytes(min(PIECE_BYTES, left))
            left -= len(data)
            yield data
    finally:
        os.close(fd)
    if size % tarfile.BLOCKSIZE:
        yield bytes(tarfile.BLOCKSIZE - size % tarfile.BLOCKSIZE)
