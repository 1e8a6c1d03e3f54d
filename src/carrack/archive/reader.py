"""A tar archive as a stream of entries: one pass, no seek, bounded memory.

The reader pulls pieces of any size from its source, keeps one of them, and hands content out as views of it, so that a small
file is written to disk straight from where it was decompressed to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from carrack.archive import header
from carrack.archive.header import BLOCK, ZEROS, Entry
from carrack.errors import DataCorrupt, InvalidParameter

_SPARSE_BLOCKS_LIMIT = 4096
"""How many blocks of pairs an old GNU sparse map may have: 86 000 pieces of one file."""


class TarReader:
    """Reads an archive entry by entry: `next`, then `content`, `read` or nothing, then `next` again.

    `source` gives the next piece of the (decompressed) archive, empty at its end. With `limit_bytes`, an archive that goes on
    beyond it is refused. Raises InvalidParameter for what is no tar or not to be trusted, DataCorrupt for one that is cut off.
    """

    def __init__(self, source: Callable[[], bytes], limit_bytes: int = 0) -> None:
        self._source = source
        self._limit_bytes = limit_bytes
        self._piece = b""
        self._position = 0
        self._taken = 0
        self._holes_bytes = 0
        """What sparse files hold beyond what is stored: no room is taken by it here, but by every layer that is packed of it."""
        self._unread = 0
        """Content of the present entry that nobody has read yet."""
        self._padding = 0

    @property
    def offset(self) -> int:
        """How many bytes of the archive were handed out."""
        return self._taken - len(self._piece) + self._position

    def next(self) -> Entry | None:
        """The next entry, extended headers applied and checked; None at the end of the archive."""
        if self._unread or self._padding:
            self._skip(self._unread + self._padding)
            self._unread = self._padding = 0
        records: list[tuple[bytes, bytes]] | None = None
        long_name = long_link = None
        while True:
            block = self._block()
            if block is None:
                if records is not None or long_name is not None or long_link is not None:
                    raise DataCorrupt("unexpected end of archive: a header announces an entry that is missing")
                return None
            entry = header.parse(block)
            kind = entry.type
            if kind == header.PAX:
                records = header.parse_pax(self._extended(entry))
            elif kind == header.GNU_LONG_NAME:
                long_name = self._extended(entry).rstrip(b"\0")
            elif kind == header.GNU_LONG_LINK:
                long_link = self._extended(entry).rstrip(b"\0")
            elif kind == header.PAX_GLOBAL:
                self._extended(entry)  # read over, as Docker does: what it says (git's commit id) names no file
            else:
                break
        if long_name is not None:
            entry.name = long_name
            if kind == header.REGULAR and long_name[-1:] == b"/":
                entry.type = header.DIRECTORY
        if long_link is not None:
            entry.link = long_link
        if kind == header.GNU_SPARSE:
            self._read_sparse_map(entry, block)
        if records is not None:
            header.apply_pax(entry, records)
        header.check(entry)
        self._unread = entry.size
        self._padding = -entry.size % BLOCK
        if entry.sparse_map_in_content:
            self._read_sparse_map_in_content(entry)
        if entry.real_size > entry.size:
            self._holes_bytes += entry.real_size - entry.size
            self._check_limit()
        return entry

    def content(self) -> Iterator[memoryview]:
        """The rest of the present entry's stored bytes, in pieces that are good until the next step."""
        while self._unread:
            if self._position == len(self._piece):
                self._refill()
            end = min(len(self._piece), self._position + self._unread)
            view = memoryview(self._piece)[self._position : end]
            self._unread -= end - self._position
            self._position = end
            yield view

    def whole(self) -> memoryview | None:
        """All of the present entry's bytes when they lie in one piece, else None: the quick way for small files."""
        end = self._position + self._unread
        if end > len(self._piece):
            return None
        view = memoryview(self._piece)[self._position : end]
        self._position = end
        self._unread = 0
        return view

    def read(self, limit_bytes: int) -> bytes:
        """The present entry's content, which must not be larger than the limit."""
        if self._unread > limit_bytes:
            raise InvalidParameter(f"invalid archive: an entry of {self._unread} bytes where at most {limit_bytes} are allowed")
        return b"".join(self.content())

    def drain(self) -> None:
        """Read the source to its end: a digest covers what follows the last entry, too."""
        self._unread = self._padding = 0
        while self._pull():
            pass

    def _block(self) -> bytes | None:
        """The next header block; None at the end, which two zero blocks or the end of the source mark."""
        block = self._take(BLOCK)
        if block == ZEROS:
            # One zero block and an end is what some writers leave; a second header after one zero block is garbage to GNU tar too.
            return None
        if not block:
            return None
        if len(block) < BLOCK:
            raise DataCorrupt("unexpected end of archive")
        return block

    def _take(self, size: int) -> bytes:
        """The next bytes, fewer only at the end of the source."""
        end = self._position + size
        piece = self._piece
        if end <= len(piece):
            taken = piece[self._position : end]
            self._position = end
            return taken
        parts = []
        while size:
            if self._position == len(self._piece) and not self._pull():
                break
            end = min(len(self._piece), self._position + size)
            parts.append(self._piece[self._position : end])
            size -= end - self._position
            self._position = end
        return b"".join(parts)

    def _skip(self, size: int) -> None:
        while size:
            available = len(self._piece) - self._position
            if size <= available:
                self._position += size
                return
            size -= available
            self._position = len(self._piece)
            self._refill()

    def _refill(self) -> None:
        if not self._pull():
            raise DataCorrupt("unexpected end of archive")

    def _pull(self) -> bool:
        self._piece = self._source()
        self._position = 0
        self._taken += len(self._piece)
        self._check_limit()
        return bool(self._piece)

    def _check_limit(self) -> None:
        if self._limit_bytes and self._taken + self._holes_bytes > self._limit_bytes:
            free = f"{self._limit_bytes / 1e6:.1f} MB"
            raise InvalidParameter(f"No space left on device: unpacked, this takes more than the {free} that may be used")

    def _extended(self, entry: Entry) -> bytes:
        """The content of an extended header."""
        if entry.size > header.EXTENDED_LIMIT_BYTES:
            raise InvalidParameter(f"invalid archive: an extended header of {entry.size} bytes")
        content = self._take(entry.size)
        if len(content) < entry.size:
            raise DataCorrupt("unexpected end of archive")
        self._skip(-entry.size % BLOCK)
        return content

    def _read_sparse_map(self, entry: Entry, block: bytes) -> None:
        """Old GNU sparse files: four pairs in the header, twenty-one in each block that follows while it says so."""
        entry.type = header.REGULAR
        entry.real_size = header.number(block, 483, 495)
        entry.sparse = header.sparse_pairs(entry.name, block, 386, 4)
        more = block[482]
        blocks = 0
        while more:
            block = self._take(BLOCK)
            blocks += 1
            if len(block) < BLOCK or blocks > _SPARSE_BLOCKS_LIMIT:
                raise DataCorrupt("unexpected end of archive: a sparse map without an end")
            entry.sparse += header.sparse_pairs(entry.name, block, 0, 21)
            more = block[504]
        header.check_sparse(entry)

    def _read_sparse_map_in_content(self, entry: Entry) -> None:
        """pax sparse 1.0: decimal lines before the content, padded to a block: a count, then offsets and lengths."""
        parts: list[bytes] = []
        lines, wanted = 0, 1
        while lines < wanted:
            if self._unread < BLOCK or len(parts) * BLOCK > header.EXTENDED_LIMIT_BYTES:
                raise header.invalid(entry.name, "malformed sparse map")
            parts.append(self._take(BLOCK))
            self._unread -= BLOCK
            lines += parts[-1].count(b"\n")
            if wanted == 1 and lines:
                wanted += 2 * self._decimal(entry, b"".join(parts).partition(b"\n")[0])
        text = b"".join(parts)
        numbers = [self._decimal(entry, line) for line in text.split(b"\n")[1:wanted]]
        entry.sparse = [pair for pair in zip(numbers[::2], numbers[1::2], strict=True) if pair[1]]
        header.check_sparse(entry, self._unread)

    @staticmethod
    def _decimal(entry: Entry, text: bytes) -> int:
        if not text.isdigit() or len(text) > 19:
            raise header.invalid(entry.name, "malformed sparse map")
        return int(text)
