"""Tar headers as values: POSIX ustar, old GNU, and pax extended headers (pax(1), GNU tar's manual, "Basic Tar Format").

Names stay bytes, as the kernel has them. Every number and length is checked before it is used: an archive is somebody else's.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes
from zlib import adler32

from carrack.errors import InvalidParameter

BLOCK = 512
ZEROS = bytes(BLOCK)

REGULAR = b"0"
HARD_LINK = b"1"
SYMBOLIC_LINK = b"2"
CHARACTER_DEVICE = b"3"
BLOCK_DEVICE = b"4"
DIRECTORY = b"5"
FIFO = b"6"
PAX = b"x"
PAX_GLOBAL = b"g"
GNU_LONG_NAME = b"L"
GNU_LONG_LINK = b"K"
GNU_SPARSE = b"S"

EXTENDED_LIMIT_BYTES = 1 << 20
"""The largest pax header or GNU long name that is read (Go's archive/tar draws the same line)."""
PATH_LIMIT_BYTES = 4096
"""PATH_MAX: a longer name could not be opened anyway."""

_REGULAR_TYPES = frozenset((b"0", b"\0", b"7"))  # 7: contiguous files, which no system tells apart
_LINKS = frozenset((HARD_LINK, SYMBOLIC_LINK))
_DEVICES = frozenset((CHARACTER_DEVICE, BLOCK_DEVICE))
_EMPTY_TYPES = _LINKS | _DEVICES | {DIRECTORY, FIFO}
_ID_LIMIT = (1 << 32) - 1  # the last 32-bit value means "leave it" to chown(2)
_TIME_LIMIT_SECONDS = (1 << 63) // 1_000_000_000 - 1
_SIZE_LIMIT = (1 << 63) - 1


@dataclass(slots=True)
class Entry:
    """One member of an archive. `size` counts the bytes that follow in the archive, `real_size` those of the file."""

    name: bytes
    type: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: bytes = b""
    device_major: int = 0
    device_minor: int = 0
    xattrs: dict[str, bytes] | None = None
    sparse: list[tuple[int, int]] | None = None
    """Where the stored bytes belong: (offset, length), for a sparse file."""
    sparse_map_in_content: bool = False
    """pax sparse format 1.0: the map stands before the stored bytes."""
    real_size: int = 0


def shown(name: bytes) -> str:
    """A name for a message: printable, whatever bytes it has, and of bounded length."""
    text = name.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 200 else text[:200] + "…")[1:-1]


def invalid(name: bytes, why: str) -> InvalidParameter:
    """The refusal of one entry."""
    return InvalidParameter(f"invalid archive: {shown(name)}: {why}")


def parse(block: bytes) -> Entry:
    """Read one header block, without what extended headers before it say. Raises InvalidParameter."""
    if not _checksum_agrees(block):
        raise InvalidParameter("invalid archive: not a tar header (wrong checksum)")
    name = block[:100]
    end = name.find(b"\0")
    if end >= 0:
        name = name[:end]
    magic = block[257:263]
    if magic == b"ustar\0" and block[345]:
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    kind = block[156:157]
    try:
        # What nearly every header holds: octal digits up to the field's last byte. `number` knows the rest.
        mode, uid, gid = int(block[100:107], 8), int(block[108:115], 8), int(block[116:123], 8)
        size, mtime = int(block[124:135], 8), int(block[136:147], 8)
    except ValueError:
        mode, uid, gid = number(block, 100, 108), number(block, 108, 116), number(block, 116, 124)
        size, mtime = number(block, 124, 136), number(block, 136, 148)
    if not 0 <= size <= _SIZE_LIMIT:
        raise invalid(name, "impossible size")
    if kind in _REGULAR_TYPES:
        kind = DIRECTORY if name[-1:] == b"/" else REGULAR
    stored = 0 if kind in _EMPTY_TYPES else size
    entry = Entry(name, kind, mode & 0o7777, uid, gid, stored, mtime * 1_000_000_000, real_size=size)
    if kind in _LINKS:
        entry.link = block[157:257].partition(b"\0")[0]
    elif kind in _DEVICES:
        entry.device_major = number(block, 329, 337)
        entry.device_minor = number(block, 337, 345)
    return entry


def number(block: bytes, start: int, end: int) -> int:
    """A numeric field: octal digits, or base-256 when its first bit is set (GNU). Raises InvalidParameter."""
    try:
        return int(block[start : end - 1], 8)
    except ValueError:
        pass
    field = block[start:end]
    if field[0] & 0x80:
        # Two's complement over all bits but the marking one.
        value = int.from_bytes(field, "big") & ((1 << (8 * len(field) - 1)) - 1)
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    digits = field.strip(b" \0")
    if not digits:
        return 0
    try:
        return int(digits.partition(b"\0")[0], 8)
    except ValueError:
        raise InvalidParameter("invalid archive: not a tar header (a number is malformed)") from None


def _checksum_agrees(block: bytes) -> bool:
    """Whether the header's checksum, the sum of its bytes with its own field as spaces, is right.

    adler32's low half is that sum plus one, modulo 65521: the same test to 16 bits, and forty times as fast as `sum`.
    """
    try:
        stated = number(block, 148, 156)
    except InvalidParameter:
        return False
    return (stated + 1 - 8 * 32 + sum(block[148:156])) % 65521 == adler32(block) & 0xFFFF


def check(entry: Entry) -> None:
    """Refuse what no file system could hold: ids out of range, endless names, names with NUL. Bounds the time."""
    if not 0 <= entry.uid < _ID_LIMIT or not 0 <= entry.gid < _ID_LIMIT:
        raise invalid(entry.name, f"impossible owner {entry.uid}:{entry.gid}")
    if len(entry.name) > PATH_LIMIT_BYTES or len(entry.link) > PATH_LIMIT_BYTES:
        raise invalid(entry.name, "name too long")
    if b"\0" in entry.name or b"\0" in entry.link:
        raise invalid(entry.name, "name contains NUL")
    if not 0 <= entry.mtime_ns <= _TIME_LIMIT_SECONDS * 1_000_000_000:
        entry.mtime_ns = 0  # as Docker does with a time that no clock shows


def parse_pax(content: bytes) -> list[tuple[bytes, bytes]]:
    """The records ``length key=value`` of a pax header, in order: sparse maps repeat their keys. Raises InvalidParameter."""
    records: list[tuple[bytes, bytes]] = []
    position = 0
    while position < len(content):
        space = content.find(b" ", position, position + 20)
        digits = content[position:space] if space > 0 else b""
        if not digits.isdigit():
            if not content[position:].strip(b"\0"):
                break  # padding that some writers count as content
            raise InvalidParameter("invalid archive: malformed pax header")
        end = position + int(digits)
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if end > len(content) or end <= space + 1 or not equals or not key or content[end - 1 : end] != b"\n":
            raise InvalidParameter("invalid archive: malformed pax header")
        records.append((key, value))
        position = end
    return records


def apply_pax(entry: Entry, records: list[tuple[bytes, bytes]]) -> None:
    """Let a pax header's records override the header they precede. Raises InvalidParameter."""
    sparse: dict[bytes, bytes] = {}
    pairs: list[int] = []
    for key, value in records:
        if not value:
            continue  # an empty value takes the record back (pax(1))
        if key == b"path":
            entry.name = value
            if entry.type == REGULAR and value[-1:] == b"/":
                entry.type = DIRECTORY
        elif key == b"linkpath":
            entry.link = value
        elif key == b"size":
            size = _decimal(entry.name, value)
            entry.real_size = size
            entry.size = 0 if entry.type in _EMPTY_TYPES else size
        elif key == b"uid":
            entry.uid = _decimal(entry.name, value)
        elif key == b"gid":
            entry.gid = _decimal(entry.name, value)
        elif key == b"mtime":
            entry.mtime_ns = _time(entry.name, value)
        elif key.startswith(b"SCHILY.xattr."):
            _add_xattr(entry, key[13:], value)
        elif key.startswith(b"LIBARCHIVE.xattr."):
            try:
                _add_xattr(entry, unquote_to_bytes(key[17:]), b64decode(value + b"=" * (-len(value) % 4)))
            except Base64Error as error:
                raise invalid(entry.name, "malformed extended attribute") from error
        elif key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            pairs.append(_decimal(entry.name, value))
        elif key.startswith(b"GNU.sparse."):
            sparse[key[11:]] = value
    if sparse or pairs:
        _apply_pax_sparse(entry, sparse, pairs)


def _apply_pax_sparse(entry: Entry, fields: dict[bytes, bytes], pairs: list[int]) -> None:
    if entry.type != REGULAR:
        raise invalid(entry.name, "sparse but no file")
    if fields.get(b"major") == b"1":
        entry.sparse_map_in_content = True
        entry.sparse = []
    else:
        numbers = pairs or [_decimal(entry.name, part) for part in fields.get(b"map", b"").split(b",") if part]
        if len(numbers) % 2:
            raise invalid(entry.name, "malformed sparse map")
        entry.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))
    entry.name = fields.get(b"name", entry.name)
    size = fields.get(b"realsize", fields.get(b"size"))
    if size is None:
        raise invalid(entry.name, "sparse without a size")
    entry.real_size = _decimal(entry.name, size)
    if not entry.sparse_map_in_content:
        check_sparse(entry)


def check_sparse(entry: Entry, stored: int = -1) -> None:
    """Refuse a sparse map that is not in order, leaves the file, or does not add up to the stored bytes."""
    position = total = 0
    for offset, length in entry.sparse or ():
        if offset < position or length < 0 or offset + length > entry.real_size:
            raise invalid(entry.name, "malformed sparse map")
        position = offset + length
        total += length
    if total != (entry.size if stored < 0 else stored):
        raise invalid(entry.name, "sparse map does not match the content")


def sparse_pairs(name: bytes, block: bytes, start: int, count: int) -> list[tuple[int, int]]:
    """The used slots of an old GNU sparse map: pairs of 12-byte numbers."""
    pairs: list[tuple[int, int]] = []
    for slot in range(start, start + 24 * count, 24):
        if not block[slot]:
            break
        offset, length = number(block, slot, slot + 12), number(block, slot + 12, slot + 24)
        if offset < 0 or length < 0:
            raise invalid(name, "malformed sparse map")
        if length:
            pairs.append((offset, length))
    return pairs


def _add_xattr(entry: Entry, key: bytes, value: bytes) -> None:
    if not key or b"\0" in key or len(key) > 255 or len(value) > 65536:
        raise invalid(entry.name, "impossible extended attribute")
    if entry.xattrs is None:
        entry.xattrs = {}
    entry.xattrs[key.decode("utf-8", "surrogateescape")] = value


def _decimal(name: bytes, value: bytes) -> int:
    if not value.isdigit() or len(value) > 19:
        raise invalid(name, "malformed number in a pax header")
    return int(value)


def _time(name: bytes, value: bytes) -> int:
    """Seconds with a decimal fraction, to nanoseconds; a time before the epoch becomes the epoch."""
    whole, _, fraction = value.partition(b".")
    if whole.startswith(b"-"):
        return 0
    if not whole.isdigit() or len(whole) > 19 or (fraction and not fraction.isdigit()):
        raise invalid(name, "malformed time in a pax header")
    return int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, b"0") or b"0")
