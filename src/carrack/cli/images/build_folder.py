"""A build's folder as the daemon mirrors it: a manifest of everything in it, and a tar of the files that the daemon lacks.

The manifest's form is the daemon's (docs/build.md, "The context travels once"): for each entry ``kind mode size mtime ctime``, the
path, a link's target, each ended by NUL.
"""

from __future__ import annotations

import os
import stat
import tarfile

from carrack.cli.failure import CommandFailure
from carrack.cli.files import os_error_text
from carrack.errors import CarrackError
from carrack.path_patterns import PathRules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_GATHERED_BYTES = 1 << 18
_BLOCK = 512
IGNORE = ".dockerignore"


class FolderEntry:
    """What travels: `facts` are the manifest's words."""

    __slots__ = ("facts", "mode", "mtime", "name", "size")

    def __init__(self, name: str, facts: str, status: os.stat_result) -> None:
        self.name = name
        self.facts = facts
        self.mode = status.st_mode
        self.size = status.st_size
        self.mtime = int(status.st_mtime)


class BuildFolder:
    """A folder without what its ignore file names. Raises CommandFailure."""

    def __init__(self, path: str, ignore_file: str = "", keep: Sequence[str] = ()) -> None:
        """`ignore_file` is the one that counts; "": none. What is to be kept travels whatever that says."""
        self.path = path
        self.ignore_text = _read_ignore(ignore_file) if ignore_file else ""
        self._rules = _rules(self.ignore_text, ignore_file)
        for name in keep:
            if self._rules.excludes(name):
                self._rules.add(f"!{name}")
        self.entries: list[FolderEntry] = []
        self._parts: list[bytes] = []
        self._brought_back: set[str] = set()
        self._walk("", PathRules.NONE, [])

    @property
    def manifest(self) -> bytes:
        return b"".join(self._parts)

    @property
    def key(self) -> str:
        """Whose folder this is: the same for the next build of it with the same rules."""
        import hashlib

        host = os.uname().nodename
        return hashlib.sha256(f"{host}\0{self.path}\0{self.ignore_text}".encode("utf-8", "surrogateescape")).hexdigest()

    def tar(self, numbers: list[int]) -> Iterator[bytes]:
        """The entries of these numbers as a tar, small files gathered. A file that changed meanwhile is cut or filled up."""
        gathered: list[bytes] = []
        size = 0
        for number in numbers:
            for piece in self._member(self.entries[number]):
                gathered.append(piece)
                size += len(piece)
                if size >= _GATHERED_BYTES:
                    yield b"".join(gathered)
                    gathered.clear()
                    size = 0
        yield b"".join((*gathered, bytes(2 * _BLOCK)))

    def whole_tar(self, without: str = "") -> Iterator[bytes]:
        """Everything, without the entry of one name, as the classic build API takes it."""
        return self.tar([number for number, entry in enumerate(self.entries) if entry.name != without])

    def size_of(self, numbers: list[int]) -> int:
        """How many bytes of content travel."""
        return sum(self.entries[number].size for number in numbers)

    def _walk(self, inside: str, inherited: int, pending: list[tuple[str, os.stat_result]]) -> None:
        """`pending` are folders that are left out themselves, and travel only with what an exception brings back."""
        place = os.path.join(self.path, inside) if inside else self.path
        try:
            with os.scandir(place) as found:
                names = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            raise CommandFailure(f"error checking context: {os_error_text(error)}") from None
        rules = self._rules
        for entry in names:
            name = f"{inside}/{entry.name}" if inside else entry.name
            verdict, left_out = inherited, False
            if rules:
                verdict = rules.judge(name, inherited)
                left_out = rules.leaves_out(verdict)
            is_folder = entry.is_dir(follow_symlinks=False)
            if left_out and not (is_folder and rules.may_hold(name)):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if left_out:
                self._walk(name, verdict, [*pending, (name, status)])
                continue
            for folder in pending:
                if folder[0] not in self._brought_back:
                    self._brought_back.add(folder[0])
                    self._add(*folder)
            self._add(name, status)
            if is_folder:
                self._walk(name, verdict, [])  # it travels, and so need not wait for what is in it

    def _add(self, name: str, status: os.stat_result) -> None:
        mode = status.st_mode
        target = ""
        if stat.S_ISREG(mode):
            kind = "f"
        elif stat.S_ISDIR(mode):
            kind = "d"
        elif stat.S_ISLNK(mode):
            kind, target = "l", os.readlink(os.path.join(self.path, name))
        elif stat.S_ISSOCK(mode):
            return  # it belongs to a process, and has no form in an archive
        else:
            kind = "o"
        size = status.st_size if kind == "f" else 0
        changed = status.st_ctime_ns if kind == "f" else 0
        facts = f"{kind} {mode & 0o7777:o} {size} {status.st_mtime_ns} {changed}"
        self.entries.append(FolderEntry(name, facts, status))
        self._parts.append(f"{facts}\0{name}\0{target}\0".encode("utf-8", "surrogateescape"))

    def _member(self, entry: FolderEntry) -> Iterator[bytes]:
        if not stat.S_ISREG(entry.mode):
            yield _header_by_tarfile(os.path.join(self.path, entry.name), entry)
            return
        try:
            fd = os.open(os.path.join(self.path, entry.name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise CommandFailure(os_error_text(error)) from None
        left = entry.size
        try:
            yield _header(entry, _attributes(fd))
            while left:
                piece = os.read(fd, min(_GATHERED_BYTES, left)) or bytes(min(_GATHERED_BYTES, left))
                left -= len(piece)
                yield piece
        finally:
            os.close(fd)
        if entry.size % _BLOCK:
            yield bytes(-entry.size % _BLOCK)


def ignore_file_of(folder: str, dockerfile: str) -> str:
    """The ignore file that counts: the Dockerfile's own beside it, then the folder's, else none."""
    for path in (f"{dockerfile}{IGNORE}" if dockerfile else "", os.path.join(folder, IGNORE)):
        if path and os.path.isfile(path):
            return path
    return ""


def _read_ignore(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as content:
            return content.read()
    except OSError as error:
        raise CommandFailure(f"open {path}: {(error.strerror or '').lower()}") from None


def _rules(text: str, path: str) -> PathRules:
    rules = PathRules()
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        pattern = line.strip()
        if not pattern or line.startswith("#"):
            continue
        try:
            rules.add(pattern)
        except CarrackError as error:
            raise CommandFailure(f"error checking context: {path}:{number}: {error.message}") from None
    return rules


def _attributes(fd: int) -> dict[str, str]:
    """The extended attributes that travel, as a tar has them: the file's capabilities, and those that are the user's own."""
    if _listxattr is None:
        return {}
    try:
        names = [name for name in _listxattr(fd) if name == "security.capability" or name.startswith("user.")]
        return {f"SCHILY.xattr.{name}": os.getxattr(fd, name).decode("utf-8", "surrogateescape") for name in names}
    except OSError:
        return {}  # a file system without any


_listxattr = getattr(os, "listxattr", None)


def _header(entry: FolderEntry, attributes: dict[str, str]) -> bytes:
    """A plain file's header; the standard library writes those that need more than a plain one, at ten times the cost."""
    name = entry.name.encode("utf-8", "surrogateescape")
    if attributes or len(name) > 100 or entry.size >= 1 << 33 or not 0 <= entry.mtime < 1 << 33 or not name.isascii():
        described = tarfile.TarInfo(entry.name)
        described.pax_headers = attributes
        described.size, described.mode, described.mtime = entry.size, entry.mode & 0o7777, entry.mtime
        return described.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    facts = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (entry.mode & 0o7777, 0, 0, entry.size, entry.mtime)
    head = name.ljust(100, b"\0") + facts
    tail = b"0".ljust(101, b"\0") + b"ustar\x0000"
    total = sum(head) + sum(tail) + 8 * 32
    return (head + b"%06o\0 " % total + tail).ljust(_BLOCK, b"\0")


def _header_by_tarfile(path: str, entry: FolderEntry) -> bytes:
    from carrack.cli.archives import tar_pieces

    return next(tar_pieces([(path, entry.name)], adjust=_own_by_root))


def _own_by_root(entry: tarfile.TarInfo) -> None:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
