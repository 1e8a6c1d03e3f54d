"""Extraction of an archive into a directory that nothing in the archive can lead out of.

Every step of every path is opened by its own descriptor with O_NOFOLLOW; the descriptors of directories are kept, so that a file
costs one open, not one per component. A name that goes up is refused; an absolute one means the target's root, as Docker has it.
A symbolic link that this archive made is followed only when it stands in the middle of a later name, step by step, inside the
target, and only to a directory that is there: what leads out, or nowhere, is refused.

Whiteouts (image-spec `layer.md`) become overlayfs' own form: ``.wh.name`` a character device 0:0, ``.wh..wh..opq`` the attribute
`trusted.overlay.opaque`. Device nodes are made (they do nothing without a container's leave) and never opened.

The caller is the only one who writes below the target, has umask 0 and is single-threaded or does not care for its umask;
`layer.unpack_layer` is that caller.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable

from carrack.archive import header
from carrack.archive.header import Entry, invalid, shown
from carrack.archive.index import Index
from carrack.archive.reader import TarReader
from carrack.archive.removal import remove_tree
from carrack.errors import InvalidParameter, SystemFailure

OPAQUE = "trusted.overlay.opaque"
REDIRECT = "trusted.overlay.redirect"
METACOPY = "trusted.overlay.metacopy"
WHITEOUT_PREFIX = b".wh."
OPAQUE_MARKER = b".wh..wh..opq"
_AUFS_PREFIX = b".wh..wh."  # other records of aufs, meaningless to anyone else

_KEPT_DIRECTORIES = 512
_OPENED_LIMIT = 256
"""How many directories one entry may open; together with those kept, less than the descriptors a process has by default."""
_LINKS_LIMIT = 40  # as path_resolution(7)
_DEPTH_LIMIT = 256
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTRIBUTES = ("user.", "security.capability", "system.posix_acl_", "trusted.")
_OVERLAY_ATTRIBUTES = ("trusted.overlay.", "user.overlay.")

_NOT_THE_ARCHIVES_FAULT = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EPERM)
)


class Extractor:
    """Puts entries into a target directory; `finish` sets what must come last. Closes what it opened in `close`."""

    def __init__(
        self,
        target_fd: int,
        *,
        whiteouts: bool = True,
        limit_entries: int = 0,
        inside: bytes = b"",
        keep_kinds: bool = False,
        owner: tuple[int, int] | None = None,
        index: Index | None = None,
        only: set[bytes] | None = None,
    ) -> None:
        """`target_fd` stays the caller's. Without `whiteouts`, names that begin with ``.wh.`` are ordinary.

        `inside`: the directory below the target that the archive's names begin at; links may lead out of it, not out of the
        target. `keep_kinds` refuses to replace a directory by something else, or the reverse. Everything is given to `owner`.
        `index` gets the digests of the files. `only` are the paths that may come, each once: they are taken out as they come.
        """
        self._root_fd = target_fd
        self._inside = inside + b"/" if inside else b""
        self._keep_kinds = keep_kinds
        self._owner = owner
        self._index = index
        self._only = only
        self._whiteouts = whiteouts
        self._limit_entries = limit_entries
        self._fds: dict[bytes, int] = {b"": target_fd}
        self._opened = 0
        self._directories: dict[bytes, tuple[int, int]] = {}
        """path → (mode, mtime): set at the end, because what is made inside would change them."""
        self._hidden: set[bytes] = set()
        """Whiteouts made so far: a directory that takes the place of one hides what is below it."""
        self.entries = 0
        self.size_bytes = 0
        """The content of all files, as Docker counts a layer's size."""
        self._make: dict[bytes, Callable[[int, bytes, bytes, Entry], None]] = {
            header.HARD_LINK: self._hard_link,
            header.SYMBOLIC_LINK: self._symbolic_link,
            header.CHARACTER_DEVICE: self._device,
            header.BLOCK_DEVICE: self._device,
            header.FIFO: self._fifo,
        }

    def extract(self, reader: TarReader) -> None:
        """Put in everything that an archive holds. Raises InvalidParameter, DataCorrupt, SystemFailure."""
        try:
            while (entry := reader.next()) is not None:
                self._put(entry, reader)
            self._finish()
        finally:
            self._close()

    def _put(self, entry: Entry, reader: TarReader) -> None:
        self.entries += 1
        if self._limit_entries and self.entries > self._limit_entries:
            raise InvalidParameter(f"archive has more than {self._limit_entries} entries")
        if self._opened:
            self._let_go()
        if self._only is not None:
            try:
                self._only.remove(self._normal(entry, entry.name))
            except KeyError:
                raise invalid(entry.name, "not announced") from None
        name = entry.name
        if name[:2] == b"./":
            name = name[2:]
        if name[-1:] == b"/":
            name = name.rstrip(b"/")
        if self._inside:
            name = self._inside + (self._normal(entry, name) if name != b"." else b"")
            if name == self._inside:
                return  # where an archive is put into what is there, that stays as it is
        if self._owner is not None:
            entry.uid, entry.gid = self._owner
        parent, _, base = name.rpartition(b"/")
        try:
            parent_fd = self._fds.get(parent)
            if parent_fd is None or base in (b"", b".", b".."):
                path = self._normal(entry, name)
                if not path:
                    self._root(entry)
                    return
                parent, _, base = path.rpartition(b"/")
                parent_fd, parent = self._parent(entry, parent)
            if self._keep_kinds:
                self._refuse_other_kind(parent_fd, parent, base, entry)
            if self._whiteouts and base[:4] == WHITEOUT_PREFIX:
                self._whiteout(parent_fd, parent, base, entry)
            elif entry.type == header.REGULAR:
                self._file(parent_fd, parent, base, entry, reader)
            elif entry.type == header.DIRECTORY:
                self._directory(parent_fd, parent, base, entry)
            else:
                self._special(parent_fd, parent, base, entry)
        except OSError as error:
            if error.errno in _NOT_THE_ARCHIVES_FAULT:
                raise SystemFailure(f"cannot extract {shown(entry.name)}: {error.strerror}") from error
            raise invalid(entry.name, (error.strerror or "").lower()) from error

    def _refuse_other_kind(self, parent_fd: int, parent: bytes, base: bytes, entry: Entry) -> None:
        try:
            is_directory = stat.S_ISDIR(os.stat(base, dir_fd=parent_fd, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return
        if is_directory != (entry.type == header.DIRECTORY):
            kinds = ("directory", "non-directory") if is_directory else ("non-directory", "directory")
            path, root = shown(b"/" + parent + b"/" + base if parent else b"/" + base), shown(b"/" + self._inside.rstrip(b"/"))
            raise InvalidParameter(f'cannot overwrite {kinds[0]} "{path}" with {kinds[1]} "{root}"')

    # ── kinds of entries ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _file(self, parent_fd: int, parent: bytes, base: bytes, entry: Entry, reader: TarReader) -> None:
        try:
            fd = os.open(base, _CREATE, entry.mode, dir_fd=parent_fd)
        except FileExistsError:
            self._clear(parent_fd, parent, base)
            fd = os.open(base, _CREATE, entry.mode, dir_fd=parent_fd)
        try:
            if entry.sparse is not None:
                self._write_sparse(fd, entry, reader)
            elif self._index is not None and entry.xattrs is None:
                self._write_indexed(fd, path_of(parent, base), entry, reader, self._index)
            else:
                whole = reader.whole()
                if whole is None:
                    for piece in reader.content():
                        _write(fd, piece)
                elif whole:
                    _write(fd, whole)
            if entry.uid or entry.gid:
                os.fchown(fd, entry.uid, entry.gid)
            if entry.mode & 0o6000:
                os.fchmod(fd, entry.mode)  # chown and write take these bits away
            if entry.xattrs is not None:
                _set_attributes(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)
        self.size_bytes += entry.real_size

    def _directory(self, parent_fd: int, parent: bytes, base: bytes, entry: Entry) -> None:
        path = path_of(parent, base)
        replaces_whiteout = path in self._hidden
        try:
            os.mkdir(base, 0o700, dir_fd=parent_fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(base, dir_fd=parent_fd, follow_symlinks=False).st_mode):
                self._clear(parent_fd, parent, base)
                os.mkdir(base, 0o700, dir_fd=parent_fd)
        fd = self._fds.get(path)
        if fd is None:
            fd = os.open(base, _OPEN_DIRECTORY, dir_fd=parent_fd)
            self._keep(path, fd)
        os.fchown(fd, entry.uid, entry.gid)
        if entry.xattrs is not None:
            _set_attributes(fd, entry)
        if replaces_whiteout:
            os.setxattr(fd, OPAQUE, b"y")
            self._hidden.discard(path)
        self._directories[path] = (entry.mode, entry.mtime_ns)

    def _root(self, entry: Entry) -> None:
        """The entry ``./``: the target's own owner, mode and time."""
        if entry.type != header.DIRECTORY:
            raise invalid(entry.name, "the root of an archive must be a directory")
        os.fchown(self._root_fd, entry.uid, entry.gid)
        if entry.xattrs is not None:
            _set_attributes(self._root_fd, entry)
        self._directories[b""] = (entry.mode, entry.mtime_ns)

    def _special(self, parent_fd: int, parent: bytes, base: bytes, entry: Entry) -> None:
        make = self._make.get(entry.type)
        if make is None:
            raise invalid(entry.name, f"unhandled tar header type {entry.type[0]}")
        try:
            make(parent_fd, parent, base, entry)
        except FileExistsError:
            self._clear(parent_fd, parent, base)
            make(parent_fd, parent, base, entry)
        if entry.type == header.HARD_LINK:
            return  # owner, mode and time are the first name's
        os.chown(base, entry.uid, entry.gid, dir_fd=parent_fd, follow_symlinks=False)
        if entry.type != header.SYMBOLIC_LINK and entry.mode & 0o6000:
            os.chmod(base, entry.mode, dir_fd=parent_fd)  # just made by us, and no link
        os.utime(base, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent_fd, follow_symlinks=False)

    def _symbolic_link(self, parent_fd: int, parent: bytes, base: bytes, entry: Entry) -> None:
        if not entry.link:
            raise invalid(entry.name, "symbolic link without a target")
        os.symlink(entry.link, base, dir_fd=parent_fd)

    def _hard_link(self, parent_fd: int, parent: bytes, base: bytes, entry: Entry) -> None:
        target = self._inside + self._normal(entry, entry.link)
        target_parent, _, target_base = target.rpartition(b"/")
        if not target_base:
            raise invalid(entry.name, f"invalid hardlink to {shown(entry.link)}")
        path = path_of(parent, base)
        if target == path:
            raise invalid(entry.name, "hard link to itself")
        try:
            source_fd, _ = self._parent(entry, target_parent, create=False)
            os.link(target_base, base, src_dir_fd=source_fd, dst_dir_fd=parent_fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise invalid(entry.name, f"invalid hardlink to {shown(entry.link)}, which is not in this archive") from error

    def _device(self, parent_fd: int, parent: bytes, base: bytes, entry: Entry) -> None:
        major, minor = entry.device_major, entry.device_minor
        if not 0 <= major < 1 << 12 or not 0 <= minor < 1 << 20:
            raise invalid(entry.name, f"impossible device {major}:{minor}")
        kind = stat.S_IFCHR if entry.type == header.CHARACTER_DEVICE else stat.S_IFBLK
        os.mknod(base, kind | entry.mode, os.makedev(major, minor), dir_fd=parent_fd)

    def _fifo(self, parent_fd: int, parent: bytes, base: bytes, entry: Entry) -> None:
        os.mkfifo(base, entry.mode, dir_fd=parent_fd)

    def _whiteout(self, parent_fd: int, parent: bytes, base: bytes, entry: Entry) -> None:
        if base == OPAQUE_MARKER:
            os.setxattr(parent_fd, OPAQUE, b"y")
            return
        if base[: len(_AUFS_PREFIX)] == _AUFS_PREFIX:
            return
        hidden = base[len(WHITEOUT_PREFIX) :]
        if hidden in (b"", b".", b".."):
            raise invalid(entry.name, "whiteout of nothing")
        path = parent + b"/" + hidden if parent else hidden
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent_fd)
            self._hidden.add(path)
        except FileExistsError:
            # This layer has the name, too. A whiteout speaks of the layers below: a file hides them by itself, a directory
            # must be told to.
            if stat.S_ISDIR(os.stat(hidden, dir_fd=parent_fd, follow_symlinks=False).st_mode):
                fd = os.open(hidden, _OPEN_DIRECTORY, dir_fd=parent_fd)
                try:
                    os.setxattr(fd, OPAQUE, b"y")
                finally:
                    os.close(fd)

    @staticmethod
    def _write_indexed(fd: int, path: bytes, entry: Entry, reader: TarReader, index: Index) -> None:
        digest = hashlib.sha256()
        for piece in reader.content():
            _write(fd, piece)
            digest.update(piece)
        index.set(path, entry.real_size, digest.hexdigest().encode())

    def _write_sparse(self, fd: int, entry: Entry, reader: TarReader) -> None:
        pieces = iter(entry.sparse or ())
        position = end = 0
        for view in reader.content():
            while view:
                if position == end:
                    position, length = next(pieces)
                    end = position + length
                part = view[: end - position]
                os.lseek(fd, position, os.SEEK_SET)
                _write(fd, part)
                position += len(part)
                view = view[len(part) :]
        os.ftruncate(fd, entry.real_size)

    # ── paths ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

    @staticmethod
    def _normal(entry: Entry, name: bytes) -> bytes:
        """A name without empty and ``.`` components; empty for the root. Refuses to go up."""
        components = [part for part in name.split(b"/") if part not in (b"", b".")]
        if b".." in components:
            if name is not entry.name and entry.type == header.HARD_LINK:
                raise invalid(entry.name, f"invalid hardlink to {shown(entry.link)}, outside of the archive's root")
            raise invalid(entry.name, "outside of the archive's root")
        if len(components) > _DEPTH_LIMIT:
            raise invalid(entry.name, "too deep")
        return b"/".join(components)

    def _parent(self, entry: Entry, path: bytes, *, create: bool = True) -> tuple[int, bytes]:
        """The descriptor of a directory, and its path once links are resolved. Makes what is missing, with mode 0755."""
        fd = self._fds.get(path)
        if fd is not None:
            return fd, path
        waiting = path.split(b"/")[::-1]
        here = b""
        links = 0
        while waiting:
            part = waiting.pop()
            if part == b"..":
                if not here:
                    raise invalid(entry.name, "goes through a symbolic link that leads out of the archive's root")
                here = here.rpartition(b"/")[0]
                continue
            path = here + b"/" + part if here else part
            if path in self._fds:
                here = path
                continue
            fd = self._fd(here)
            try:
                self._keep(path, os.open(part, _OPEN_DIRECTORY, dir_fd=fd))
            except FileNotFoundError:
                if links:
                    raise invalid(entry.name, "goes through a symbolic link that leads nowhere in this archive") from None
                if not create:
                    raise
                os.mkdir(part, 0o755, dir_fd=fd)
                self._keep(path, os.open(part, _OPEN_DIRECTORY, dir_fd=fd))
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                target = self._link_target(fd, part)
                if target is None:
                    if not create:
                        raise
                    self._replace_by_directory(fd, here, part, path)
                    here = path
                    continue
                links += 1
                if target[:1] == b"/":
                    here = b""
                waiting += self._steps(entry, target, links, len(waiting))
                continue
            here = path
        return self._fd(here), here

    @staticmethod
    def _steps(entry: Entry, target: bytes, links: int, waiting: int) -> list[bytes]:
        """Where a link leads, the last step first. Refuses a circle, and a way that grows without end."""
        steps = [step for step in target.split(b"/") if step not in (b"", b".")][::-1]
        if links > _LINKS_LIMIT:
            raise invalid(entry.name, "too many levels of symbolic links")
        if len(steps) + waiting > _DEPTH_LIMIT:
            raise invalid(entry.name, "too deep")
        return steps

    @staticmethod
    def _link_target(fd: int, name: bytes) -> bytes | None:
        try:
            return os.readlink(name, dir_fd=fd)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise

    def _replace_by_directory(self, fd: int, parent: bytes, base: bytes, path: bytes) -> None:
        """A file, a device or a whiteout where a directory must be: the later entry wins."""
        self._clear(fd, parent, base)
        os.mkdir(base, 0o755, dir_fd=fd)
        new = os.open(base, _OPEN_DIRECTORY, dir_fd=fd)
        self._keep(path, new)
        if path in self._hidden:
            os.setxattr(new, OPAQUE, b"y")
            self._hidden.discard(path)

    def _fd(self, path: bytes) -> int:
        """The descriptor of a directory whose path has no links, opened again when it was let go."""
        fd = self._fds.get(path)
        if fd is not None:
            return fd
        parent, _, base = path.rpartition(b"/")
        fd = os.open(base, _OPEN_DIRECTORY, dir_fd=self._fd(parent))
        self._keep(path, fd)
        return fd

    def _keep(self, path: bytes, fd: int) -> None:
        self._fds[path] = fd
        self._opened += 1
        if self._opened > _OPENED_LIMIT:
            raise invalid(path, "too deep")

    def _let_go(self) -> None:
        """Between two entries: close the older half of the kept directories when they have become many."""
        self._opened = 0
        if len(self._fds) > _KEPT_DIRECTORIES:
            for path in list(self._fds)[1 : _KEPT_DIRECTORIES // 2]:  # the root is first, and stays
                os.close(self._fds.pop(path))

    def _clear(self, parent_fd: int, parent: bytes, base: bytes) -> None:
        """Remove what an earlier entry put under a name that a later one wants; the later wins, as everywhere in tar."""
        remove_tree(parent_fd, os.fsdecode(base))
        path = path_of(parent, base)
        below = path + b"/"
        if self._index is not None:
            self._index.forget_below(path)
        for kept in [key for key in self._fds if key == path or key.startswith(below)]:
            os.close(self._fds.pop(kept))
        for made in [key for key in self._directories if key == path or key.startswith(below)]:
            del self._directories[made]

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _finish(self) -> None:
        """Give directories their modes and times, the deepest first."""
        for path in sorted(self._directories, reverse=True):
            self._let_go()
            mode, mtime_ns = self._directories[path]
            fd = self._fd(path)
            os.fchmod(fd, mode)
            os.utime(fd, ns=(mtime_ns, mtime_ns))

    def _close(self) -> None:
        for path, fd in self._fds.items():
            if path:
                os.close(fd)
        self._fds = {b"": self._root_fd}


def path_of(parent: bytes, base: bytes) -> bytes:
    """A name's path from the root, whose own path is empty."""
    return parent + b"/" + base if parent else base


def _write(fd: int, view: memoryview) -> None:
    written = os.write(fd, view)
    while written < len(view):
        view = view[written:]
        written = os.write(fd, view)


def _set_attributes(fd: int, entry: Entry) -> None:
    """Set the extended attributes that may come from outside; overlayfs' own would tell it to look elsewhere."""
    for key, value in (entry.xattrs or {}).items():
        if not key.startswith(_ATTRIBUTES) or key.startswith(_OVERLAY_ATTRIBUTES):
            continue
        try:
            os.setxattr(fd, key, value)
        except OSError as error:
            # A file system without this kind of attribute: as Docker, go on without.
            if error.errno not in (errno.ENOTSUP, errno.EPERM) or key == "security.capability":
                raise
