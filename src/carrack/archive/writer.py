"""Tar out: headers as bytes, and a directory tree as a stream.

ustar where it suffices, a pax header before it where it does not (long names, big numbers, fractions of seconds, attributes), as
Go's archive/tar writes. Overlayfs' marks turn back into image-spec's whiteouts.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from carrack.archive import header
from carrack.archive.extract import METACOPY, OPAQUE, OPAQUE_MARKER, REDIRECT, WHITEOUT_PREFIX
from carrack.archive.header import BLOCK, Entry
from carrack.errors import SystemFailure

CHUNK_BYTES = 1 << 20
END = bytes(2 * BLOCK)
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SECOND = 1_000_000_000
_KEPT_ATTRIBUTES = ("security.capability", "user.")


def file_header(name: str, size_bytes: int) -> bytes:
    """The header of a plain file owned by root, of mode 0644 and without a time; its content and `padding` follow."""
    return encode(Entry(name.encode(), header.REGULAR, 0o644, 0, 0, size_bytes, 0, real_size=size_bytes))


def directory_header(name: str, mtime: int = 0) -> bytes:
    """The header of a directory owned by root."""
    return encode(Entry(name.encode() + b"/", header.DIRECTORY, 0o755, 0, 0, 0, mtime * _SECOND))


def padding(size_bytes: int) -> bytes:
    """What follows content of this size."""
    return bytes(-size_bytes % BLOCK)


def encode(entry: Entry) -> bytes:
    """An entry's header, with a pax header before it when it needs one."""
    records: list[tuple[bytes, bytes]] = []
    name, prefix = _split(entry.name)
    if prefix is None:
        records.append((b"path", entry.name))
        name, prefix = entry.name[:100], b""
    if len(entry.link) > 100:
        records.append((b"linkpath", entry.link))
    if entry.size > 0o77777777777:
        records.append((b"size", str(entry.size).encode()))
    for key, value in ((b"uid", entry.uid), (b"gid", entry.gid)):
        if value > 0o7777777:
            records.append((key, str(value).encode()))
    seconds, fraction = divmod(entry.mtime_ns, _SECOND)
    if fraction or not 0 <= seconds <= 0o77777777777:
        text = f"{seconds}.{fraction:09d}".rstrip("0").rstrip(".")
        records.append((b"mtime", text.encode()))
    for attribute, content in sorted((entry.xattrs or {}).items()):
        records.append((b"SCHILY.xattr." + os.fsencode(attribute), content))
    block = _block(entry, name, prefix)
    if not records:
        return block
    pax = b"".join(_record(key, value) for key, value in records)
    announce = Entry(b"PaxHeaders.0/" + name[-80:].rstrip(b"/"), header.PAX, 0o644, 0, 0, len(pax), 0)
    return _block(announce, announce.name, b"") + pax + padding(len(pax)) + block


def _block(entry: Entry, name: bytes, prefix: bytes) -> bytes:
    seconds = entry.mtime_ns // _SECOND
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            b"%07o\0" % entry.mode,
            _octal(entry.uid, 7),
            _octal(entry.gid, 7),
            _octal(entry.size, 11),
            _octal(seconds, 11),
            b"        ",
            entry.type,
            entry.link[:100].ljust(100, b"\0"),
            b"ustar\x0000",
            bytes(64),
            _octal(entry.device_major, 7),
            _octal(entry.device_minor, 7),
            prefix.ljust(155, b"\0"),
            bytes(12),
        )
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _octal(value: int, digits: int) -> bytes:
    """A field of digits; what does not fit stands in the pax header, and zero here."""
    return b"%0*o\0" % (digits, value if 0 <= value < 8**digits else 0)


def _record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest)))
    if len(str(length)) + len(rest) != length:
        length += 1
    return str(length).encode() + rest


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """A name as ustar holds it, in two parts; no second part at all when it does not fit or is not ASCII."""
    if not name.isascii():
        return name, None
    if len(name) <= 100:
        return name, b""
    cut = name.rfind(b"/", 0, 156)
    while cut > 0:
        if 0 < len(name) - cut - 1 <= 100:
            return name[cut + 1 :], name[:cut]
        if len(name) - cut - 1 > 100:
            break
        cut = name.rfind(b"/", 0, cut)
    return name, None


class TreeWriter:
    """A directory tree as a tar stream, in the order of its names, links not followed.

    With `whiteouts`, the tree is an overlay's upper directory: its marks become ``.wh.`` entries. The caller keeps the tree still
    or accepts that a file which changes meanwhile is cut or padded to the size it had. The same tree always gives the same bytes.
    """

    def __init__(
        self,
        root_fd: int,
        *,
        whiteouts: bool = False,
        prefix: bytes = b"",
        whole_seconds: bool = False,
        latest_mtime_ns: int | None = None,
        xattrs: bool = True,
    ) -> None:
        """`whole_seconds` cuts times as Docker's layers have them; no time is written later than `latest_mtime_ns`."""
        self._root_fd = root_fd
        self._whiteouts = whiteouts
        self._prefix = prefix
        self._whole_seconds = whole_seconds
        self._latest_mtime_ns = latest_mtime_ns
        self._xattrs = xattrs
        self._seen: dict[tuple[int, int], bytes] = {}
        """The first name of files with several."""
        self.entries = 0
        self.size_bytes = 0
        """The content of all files, as Docker counts a layer's size."""

    def stream(self, *, ends: bool = True) -> Iterator[bytes]:
        """The archive in pieces, with its end unless something follows. Raises SystemFailure."""
        yield from self._guarded(self._below(self._root_fd, self._prefix))
        if ends:
            yield END

    def stream_entry(self, base: bytes, name: bytes) -> Iterator[bytes]:
        """The archive of one entry of the directory, `.` for itself, with everything below it, called `name` there. Raises
        SystemFailure, also when it is not there."""
        yield from self._guarded(self._entry(base, name))
        yield END

    def _guarded(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from pieces
        except OSError as error:
            raise SystemFailure(f"cannot read a file system: {error}") from error

    def _entry(self, base: bytes, name: bytes) -> Iterator[bytes]:
        status = os.stat(base, dir_fd=self._root_fd, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            yield from self._node(self._root_fd, base, name, status)
            return
        inner = os.open(base, _OPEN_DIRECTORY, dir_fd=self._root_fd)
        try:
            path = name.rstrip(b"/") + b"/"
            yield self._head(Entry(path, header.DIRECTORY, *self._facts(status)), inner)
            yield from self._below(inner, path)
        finally:
            os.close(inner)

    def _below(self, fd: int, prefix: bytes) -> Iterator[bytes]:
        """Everything in a directory; the caller closes it."""
        levels: list[_Level] = []
        try:
            levels.append(_Level(fd, prefix))
            yield from self._opaque_marker(fd, prefix)
            while levels:
                level = levels[-1]
                if level.names:
                    base = os.fsencode(level.names.pop())
                    try:
                        status = os.stat(base, dir_fd=level.fd, follow_symlinks=False)
                        if not stat.S_ISDIR(status.st_mode):
                            yield from self._node(level.fd, base, level.path + base, status)
                            continue
                        inner = os.open(base, _OPEN_DIRECTORY, dir_fd=level.fd)
                    except FileNotFoundError:
                        continue  # it went while we looked
                    path = level.path + base + b"/"
                    try:
                        yield self._head(Entry(path, header.DIRECTORY, *self._facts(status)), inner)
                        yield from self._opaque_marker(inner, path)
                        levels.append(_Level(inner, path))
                    except BaseException:
                        os.close(inner)
                        raise
                else:
                    levels.pop()
                    if levels:
                        os.close(level.fd)
        finally:
            for level in levels[1:]:
                os.close(level.fd)

    def _opaque_marker(self, fd: int, path: bytes) -> Iterator[bytes]:
        if not self._whiteouts:
            return
        if _attribute(fd, REDIRECT) is not None:
            raise SystemFailure(f"{header.shown(path)} was renamed by overlayfs (redirect_dir), which no layer can say")
        if _attribute(fd, OPAQUE) == b"y":
            yield encode(Entry(path + OPAQUE_MARKER, header.REGULAR, 0o600, 0, 0, 0, 0))

    def _facts(self, status: os.stat_result) -> tuple[int, int, int, int, int]:
        """Mode, owner, group, size 0 and time of an entry."""
        mtime_ns = status.st_mtime_ns
        if self._latest_mtime_ns is not None:
            mtime_ns = min(mtime_ns, self._latest_mtime_ns)
        if self._whole_seconds:
            mtime_ns -= mtime_ns % _SECOND
        return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, 0, mtime_ns

    def _head(self, entry: Entry, fd: int = -1) -> bytes:
        """The header of an entry, with the attributes of the file that is open as `fd`."""
        self.entries += 1
        if fd >= 0 and self._xattrs:
            entry.xattrs = _attributes(fd)
        return encode(entry)

    def _node(self, fd: int, base: bytes, path: bytes, status: os.stat_result) -> Iterator[bytes]:
        mode = status.st_mode
        if stat.S_ISCHR(mode) and status.st_rdev == 0:
            if not self._whiteouts:
                return  # in a lowest layer it hides nothing, and no overlay shows it
            hidden = path[: -len(base)] + WHITEOUT_PREFIX + base
            yield self._head(Entry(hidden, header.REGULAR, 0o600, 0, 0, 0, 0))  # all whiteouts are one inode: its time says nothing
            return
        entry = Entry(path, header.REGULAR, *self._facts(status))
        if status.st_nlink > 1:
            first = self._seen.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                entry.type, entry.link = header.HARD_LINK, first
                yield self._head(entry)
                return
        if stat.S_ISREG(mode):
            yield from self._file(fd, base, entry, status.st_size)
        elif stat.S_ISLNK(mode):
            entry.type, entry.link = header.SYMBOLIC_LINK, os.readlink(base, dir_fd=fd)
            yield self._head(entry)
        elif stat.S_ISFIFO(mode):
            entry.type = header.FIFO
            yield self._head(entry)
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            entry.type = header.CHARACTER_DEVICE if stat.S_ISCHR(mode) else header.BLOCK_DEVICE
            entry.device_major, entry.device_minor = os.major(status.st_rdev), os.minor(status.st_rdev)
            yield self._head(entry)
        # sockets have no form in tar, and belong to a process that is not here

    def _file(self, fd: int, base: bytes, entry: Entry, size: int) -> Iterator[bytes]:
        inner = os.open(base, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
        try:
            if self._whiteouts and _attribute(inner, METACOPY) is not None:
                raise SystemFailure(f"{header.shown(entry.name)} has its content in another layer (metacopy)")
            entry.size = entry.real_size = size
            yield self._head(entry, inner)
            self.size_bytes += size
            left = size
            while left:
                piece = os.read(inner, min(left, CHUNK_BYTES)) or bytes(min(left, CHUNK_BYTES))
                left -= len(piece)
                yield piece
            if size % BLOCK:
                yield padding(size)
        finally:
            os.close(inner)


class _Level:
    """A directory that is being written: what is still to come, the last first."""

    __slots__ = ("fd", "names", "path")

    def __init__(self, fd: int, path: bytes) -> None:
        self.fd = fd
        self.path = path
        self.names = sorted(os.listdir(fd), reverse=True)


def _attribute(fd: int, key: str) -> bytes | None:
    try:
        return os.getxattr(fd, key)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.EPERM):
            return None
        raise


def _attributes(fd: int) -> dict[str, bytes] | None:
    """The attributes that travel with a file."""
    try:
        keys = [key for key in os.listxattr(fd) if key.startswith(_KEPT_ATTRIBUTES) and not key.startswith("user.overlay.")]
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return None
        raise
    found = {key: value for key in keys if (value := _attribute(fd, key)) is not None}
    return found or None
