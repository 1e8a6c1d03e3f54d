"""One COPY or ADD, done inside the tree it changes.

The process is confined to the destination: its root is the stage so far with the new layer on top, so that every link there is
followed as a program of the container would follow it, and leads nowhere else. Sources are descriptors of other trees, read through
`selection`. What exists is joined, not replaced: files win over files and links, a directory keeps what it holds.

Source: the Dockerfile reference, "COPY" and "ADD"; where it is silent, BuildKit's behaviour.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Sequence

from carrack.archive.compression import CHUNK_BYTES, Decompressed
from carrack.archive.copying import copy_attributes, copy_content
from carrack.archive.extract import Extractor
from carrack.archive.file_mode import ModeChange, parse_mode
from carrack.archive.header import BLOCK, ZEROS, parse
from carrack.archive.reader import TarReader
from carrack.errors import CarrackError, InvalidParameter
from carrack.path_patterns import PathRules
from carrack.runtime import users
from carrack.shim.messages import CopyFiles, CopyInline, CopySource, WorkerDone
from carrack.shim.selection import Chosen, SourceTree

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def copy_files(job: CopyFiles, trees: Sequence[int]) -> WorkerDone:
    """Do what `job` says in the tree that is this process's root. Raises NotFound, InvalidParameter, OSError."""
    os.umask(0)
    copier = _Copier(job)
    sources = [SourceTree(fd) for fd in trees]
    for source in job.sources:
        if isinstance(source, CopyInline):
            copier.inline(source)
        else:
            copier.copy(source, sources[source.tree])
    copier.finish()
    return WorkerDone(size_bytes=copier.size_bytes, entries=copier.entries)


class _Copier:
    def __init__(self, job: CopyFiles) -> None:
        self._job = job
        self._owner = _owner(job.owner) if job.owner else None
        self._mode: ModeChange | None = parse_mode(job.mode) if job.mode else None
        self._rules = PathRules(job.excludes)
        self._made_ns = job.made_seconds * 1_000_000_000 if job.made_seconds >= 0 else time.time_ns()
        self._links: dict[tuple[int, int], str] = {}
        """Files with several names → where the first was put."""
        self._made: list[str] = []
        """Directories that no source has; they get their time at the end."""
        self._keep_owner = False
        self.entries = 0
        self.size_bytes = 0

    # ── sources ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def copy(self, source: CopySource, tree: SourceTree) -> None:
        self._keep_owner = source.keep_owner
        self._links.clear()
        if self._job.parents:
            for chosen in tree.choose_with_parents(source.path, required=source.required):
                self._with_parents(chosen, tree)
            return
        for chosen in tree.choose(source.path, wildcards=source.wildcards, required=source.required):
            if not stat.S_ISDIR(chosen.status.st_mode):
                if self._rules.excludes(chosen.name):
                    continue
                if source.unpack and self._unpacked(chosen, tree):
                    continue
                self._one_file(chosen, tree)
            else:
                self._content(chosen, tree, self._directory(self._destination()))

    def inline(self, source: CopyInline) -> None:
        """A heredoc: a file that the Dockerfile itself holds."""
        path = self._file_place(source.name)
        parent_fd, name = self._parent(path)
        try:
            self._make_room(parent_fd, name, path)
            fd = os.open(name, _CREATE, 0o644, dir_fd=parent_fd)
            try:
                written = 0
                while written < len(source.content):
                    written += os.write(fd, source.content[written:])
                os.fchown(fd, *(self._owner or (0, 0)))
                os.fchmod(fd, self._changed_mode(0o644, is_directory=False))
                os.utime(fd, ns=(self._made_ns, self._made_ns))
            finally:
                os.close(fd)
        finally:
            os.close(parent_fd)
        self._count(len(source.content))

    def finish(self) -> None:
        """Give the directories that were made their time, which what was put into them had changed."""
        for path in self._made:
            os.utime(path, ns=(self._made_ns, self._made_ns))

    def _one_file(self, chosen: Chosen, tree: SourceTree) -> None:
        path = self._file_place(chosen.name)
        parent_fd, name = self._parent(path)
        try:
            self._node(chosen.status, parent_fd, name, path, chosen_in=tree, source_path=chosen.path)
        finally:
            os.close(parent_fd)

    def _with_parents(self, chosen: Chosen, tree: SourceTree) -> None:
        below = "/".join((*chosen.parents[-1:], chosen.name))
        if self._rules.excludes(below):
            return
        path = self._directory(self._destination())
        if not chosen.name:
            self._content(chosen, tree, path)
            return
        for parent in chosen.parents:
            self._parent_directory(f"{path.rstrip('/')}/{parent}", f"/{chosen.pivot}/{parent}", tree)
        place = f"{path.rstrip('/')}/{below}"
        if stat.S_ISDIR(chosen.status.st_mode):
            self._parent_directory(place, chosen.path, tree)
            self._content(chosen, tree, place, above=below)
            return
        parent_fd, name = self._parent(place)
        try:
            self._node(chosen.status, parent_fd, name, place, chosen_in=tree, source_path=chosen.path)
        finally:
            os.close(parent_fd)

    def _parent_directory(self, path: str, source_path: str, tree: SourceTree) -> None:
        """A directory that travels for what is in it: made like its source, left alone where it exists."""
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise InvalidParameter(f"cannot copy to non-directory: {path}") from None
            return
        self._count(0)
        source, target = tree.open(source_path, os.O_RDONLY | os.O_DIRECTORY), os.open(path, _DIRECTORY)
        try:
            self._facts(os.fstat(source), source, target)
        finally:
            os.close(source)
            os.close(target)

    # ── trees ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _content(self, chosen: Chosen, tree: SourceTree, path: str, above: str = "") -> None:
        """Everything in a directory, into the directory at `path`."""
        targets = [os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        try:
            for found in tree.walk(chosen, self._rules, above):
                if found.leaves:
                    target = targets.pop()
                    try:
                        source = os.open(found.name, _DIRECTORY, dir_fd=found.fd)
                        try:
                            self._facts(found.status, source, target)
                        finally:
                            os.close(source)
                    finally:
                        os.close(target)
                elif stat.S_ISDIR(found.status.st_mode):
                    targets.append(self._subdirectory(targets[-1], found.name, f"{path}/{found.relative}"))
                else:
                    place = f"{path}/{found.relative}"
                    self._node(found.status, targets[-1], found.name, place, source_fd=found.fd, source_path=found.name)
        finally:
            for fd in targets:
                os.close(fd)

    def _subdirectory(self, parent_fd: int, name: str, path: str) -> int:
        try:
            os.mkdir(name, 0o700, dir_fd=parent_fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
                raise InvalidParameter(f"cannot copy to non-directory: {path}") from None
        self._count(0)
        return os.open(name, _DIRECTORY, dir_fd=parent_fd)

    def _node(
        self,
        status: os.stat_result,
        parent_fd: int,
        name: str,
        path: str,
        *,
        source_path: str,
        source_fd: int = -1,
        chosen_in: SourceTree | None = None,
    ) -> None:
        """One entry that is no directory, in the place of whatever has its name."""
        several = status.st_nlink > 1 and stat.S_ISREG(status.st_mode)
        if several and (first := self._links.get((status.st_dev, status.st_ino))) is not None:
            self._make_room(parent_fd, name, path)
            os.link(first, name, dst_dir_fd=parent_fd, follow_symlinks=False)
            self._count(0)
            return
        if stat.S_ISREG(status.st_mode):
            source = (
                chosen_in.open(source_path, _READ & ~os.O_NOFOLLOW) if chosen_in else os.open(source_path, _READ, dir_fd=source_fd)
            )
            try:
                mode = self._changed_mode(stat.S_IMODE(status.st_mode), is_directory=False)
                try:
                    target = os.open(name, _CREATE, mode, dir_fd=parent_fd)
                except FileExistsError:
                    self._make_room(parent_fd, name, path)
                    target = os.open(name, _CREATE, mode, dir_fd=parent_fd)
                try:
                    copy_content(source, target, status.st_size)
                    self._facts(status, source, target, made_with=mode)
                finally:
                    os.close(target)
            finally:
                os.close(source)
            if several:
                self._links[status.st_dev, status.st_ino] = path
            self._count(status.st_size)
            return
        self._make_room(parent_fd, name, path)
        owner = self._owner_of(status)
        if stat.S_ISLNK(status.st_mode):
            link = _read_link(source_path, source_fd, chosen_in)
            os.symlink(link, name, dir_fd=parent_fd)
            os.chown(name, *owner, dir_fd=parent_fd, follow_symlinks=False)
        else:
            os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=parent_fd)
            os.chown(name, *owner, dir_fd=parent_fd, follow_symlinks=False)
            os.chmod(name, self._changed_mode(stat.S_IMODE(status.st_mode), is_directory=False), dir_fd=parent_fd)
        os.utime(name, ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=parent_fd, follow_symlinks=False)
        self._count(0)

    def _facts(self, status: os.stat_result, source: int, target: int, made_with: int = -1) -> None:
        """Owner first: a change of it clears set-uid bits and file capabilities. What we made with this mode is root's."""
        owner = self._owner_of(status)
        if made_with < 0 or owner != (0, 0):
            os.fchown(target, *owner)
        copy_attributes(source, target)
        if made_with < 0 or made_with & 0o7000:
            os.fchmod(target, self._changed_mode(stat.S_IMODE(status.st_mode), is_directory=stat.S_ISDIR(status.st_mode)))
        os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))

    # ── places ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _destination(self) -> str:
        """Where the destination is, links in it followed; it need not exist."""
        return os.path.realpath(self._job.destination)

    def _file_place(self, name: str) -> str:
        """Where a file of this name goes: into the destination when that is a directory or written like one, else onto it."""
        path = self._destination()
        if self._job.destination.endswith(("/", "/.")):
            self._directory(path)
        try:
            is_directory = stat.S_ISDIR(os.stat(path).st_mode)
        except FileNotFoundError:
            is_directory = False
        except NotADirectoryError:
            raise InvalidParameter(f"cannot copy to {self._job.destination}: not a directory") from None
        if is_directory:
            return f"{path.rstrip('/')}/{name}"
        self._directory(os.path.dirname(path))
        return path

    def _directory(self, path: str) -> str:
        """Make a directory and what is missing above it, mode 0755, and give its path back."""
        missing: list[str] = []
        at = path
        while True:
            try:
                if not stat.S_ISDIR(os.stat(at).st_mode):
                    raise InvalidParameter(f"cannot copy to non-directory: {at}")
                break
            except FileNotFoundError:
                missing.append(at)
                at = os.path.dirname(at)
            except NotADirectoryError:
                at = os.path.dirname(at)
        for each in reversed(missing):
            os.mkdir(each, 0o755)
            os.chown(each, *(self._owner or (0, 0)))
            self._made.append(each)
            self._count(0)
        return path

    @staticmethod
    def _parent(path: str) -> tuple[int, str]:
        """(the descriptor of the directory that holds `path`, the last name)."""
        parent, _, name = path.rpartition("/")
        return os.open(parent or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), name

    @staticmethod
    def _make_room(parent_fd: int, name: str, path: str) -> None:
        try:
            os.unlink(name, dir_fd=parent_fd)
        except FileNotFoundError:
            pass
        except (IsADirectoryError, PermissionError):
            raise InvalidParameter(f"cannot replace to directory {path} with file") from None

    # ── small things ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _unpacked(self, chosen: Chosen, tree: SourceTree) -> bool:
        """ADD's rule: a tar, compressed or not, is unpacked into the destination. Whether this was one."""
        if not stat.S_ISREG(chosen.status.st_mode):
            return False
        fd = tree.open(chosen.path, _READ & ~os.O_NOFOLLOW)
        try:
            if not _is_archive(fd):
                return False
            os.lseek(fd, 0, os.SEEK_SET)
            target = os.open(self._directory(self._destination()), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                extractor = Extractor(target, whiteouts=False)
                stream = Decompressed(lambda: os.read(fd, CHUNK_BYTES))
                extractor.extract(TarReader(stream.read, self._job.limit_bytes))
            finally:
                os.close(target)
        finally:
            os.close(fd)
        self.entries += extractor.entries
        self.size_bytes += extractor.size_bytes
        return True

    def _owner_of(self, status: os.stat_result) -> tuple[int, int]:
        if self._owner is not None:
            return self._owner
        return (status.st_uid, status.st_gid) if self._keep_owner else (0, 0)

    def _changed_mode(self, mode: int, *, is_directory: bool) -> int:
        return self._mode(mode, is_directory) if self._mode else mode

    def _count(self, size_bytes: int) -> None:
        self.entries += 1
        self.size_bytes += size_bytes


def _owner(wish: str) -> tuple[int, int]:
    """`user[:group]` in numbers, by the passwd and group files of the tree we are in. A lone uid is its gid, too."""
    user, _, group = wish.partition(":")
    uid = users.parse_id(user)
    if uid is not None and not group:
        return uid, uid
    if uid is not None:
        gid = users.parse_id(group)
        return uid, users.resolve_group(group, _account_file("/etc/group")) if gid is None else gid
    account = users.resolve(wish, _account_file("/etc/passwd"), _account_file("/etc/group") if group else b"")
    return account.uid, account.gid


def _account_file(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            return b""
        raise
    try:
        return os.read(fd, users.LARGEST_FILE) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)


def _read_link(path: str, directory_fd: int, tree: SourceTree | None) -> str:
    if tree is None:
        return os.readlink(path, dir_fd=directory_fd)
    fd = tree.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        return os.readlink("", dir_fd=fd)
    finally:
        os.close(fd)


def _is_archive(fd: int) -> bool:
    """Whether a file, once decompressed, begins with a tar header."""
    try:
        stream = Decompressed(lambda: os.read(fd, CHUNK_BYTES))
        head = b""
        while len(head) < BLOCK and (piece := stream.read()):
            head += piece
        if len(head) < BLOCK or head[:BLOCK] == ZEROS:
            return False
        parse(head[:BLOCK])
    except CarrackError:
        return False
    return True
