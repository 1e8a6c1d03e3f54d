"""The half-furnished container as init sees it: the root by descriptor, paths opened below it, places made for mounts.

Every path of a spec is resolved by openat2 with RESOLVE_IN_ROOT from `root_fd`, and what is mounted or made goes onto the held
descriptor: a link in the image, or one made meanwhile in a shared volume, leads nowhere outside (CVE-2021-30465, CVE-2024-45310).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from carrack.kernel import mount, paths
from carrack.runtime.failure import InitFailed

_PATH_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_MOST_LINKS = 64


class Room:
    """What init carries from step to step."""

    def __init__(self, join_cgroup: Callable[[], None], receive_mounts: Callable[[], list[int]]) -> None:
        """`join_cgroup` and `receive_mounts` wait for what the parent prepares meanwhile."""
        self.join_cgroup = join_cgroup
        self._receive_mounts = receive_mounts
        self.root_fd = -1
        """The container's root, once received."""
        self.held: list[int] = []
        """Detached mounts taken in the host's namespace, by their number in the plan."""
        self.attached_at = "/"
        """Where in the host's tree the root was attached."""
        self.warnings: list[str] = []
        self.console_fd = -1
        """The pty's master, to be sent to the parent."""
        self.slave_fd = -1
        self.mask_fd = -1
        """The first empty read-only directory used as a mask; the others are clones of it."""
        self.proc_fd = -1
        """A detached procfs of the container's pid namespace: nothing can be mounted over what is below it (CVE-2025-52881)."""

    def receive_root(self) -> None:
        """Take the mounts over that the parent took in the host's namespace."""
        self.root_fd, *self.held = self._receive_mounts()

    def open(self, path: str, flags: int = os.O_PATH) -> int:
        """Open an existing path of the container."""
        return paths.open_in(self.root_fd, path, flags)

    def proc(self) -> int:
        """The private procfs, made at the first use."""
        if self.proc_fd < 0:
            self.proc_fd = mount.new_file_system("proc", source="proc")
        return self.proc_fd

    def directory(self, path: str, mode: int = 0o755) -> int:
        """Open the directory `path`, making what is missing; links inside are followed inside."""
        try:
            return self.open(path, _PATH_DIRECTORY)
        except FileNotFoundError:
            return self._make(path, mode)

    def file(self, path: str) -> int:
        """Open the file `path`, making an empty one, and its directories, when missing."""
        try:
            return self.open(path)
        except FileNotFoundError:
            pass
        parent, name = self.parent(path)
        try:
            try:
                os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=parent))
            except FileExistsError:
                # a link that points nowhere: make the file it points to
                target = os.readlink(name, dir_fd=parent)
                directory = "/" + os.path.dirname(path.strip("/"))
                return self.file(target if target.startswith("/") else f"{directory}/{target}")
        finally:
            os.close(parent)
        return self.open(path)

    def parent(self, path: str) -> tuple[int, str]:
        """(descriptor of the directory, made when missing; last component)."""
        directory, _, name = path.rstrip("/").rpartition("/")
        if name in ("", ".", ".."):
            raise OSError(errno.EINVAL, "not a name", path)
        return self.directory(directory or "/"), name

    def _make(self, path: str, mode: int) -> int:
        """Walk down, one component at a time, each step resolved by the kernel inside the root."""
        pending = [part for part in path.split("/") if part and part != "."]
        done: list[str] = []
        links = 0
        while pending:
            part = pending.pop(0)
            if part == "..":
                del done[-1:]
                continue
            here = self.open("/".join(done) or "/", _PATH_DIRECTORY)
            try:
                status = _status(here, part)
                if status is None:
                    os.mkdir(part, mode, dir_fd=here)
                elif stat.S_ISLNK(status.st_mode):
                    links += 1
                    if links > _MOST_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                    target = os.readlink(part, dir_fd=here)
                    if target.startswith("/"):
                        done = []
                    pending = [each for each in target.split("/") if each and each != "."] + pending
                    continue
                elif not stat.S_ISDIR(status.st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, "not a directory", path)
            finally:
                os.close(here)
            done.append(part)
        return self.open("/".join(done) or "/", _PATH_DIRECTORY)


def _status(directory_fd: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def require_null(fd: int) -> None:
    """Make sure that `fd` is the null device: another file bound over a masked path would unmask it (CVE-2025-31133)."""
    status = os.fstat(fd)
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != os.makedev(1, 3):
        raise InitFailed("/dev/null inside the container is not the null device")
