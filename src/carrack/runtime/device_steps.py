"""Steps that furnish: directories, device nodes and links, the console. See `steps.py` for what a step is."""

from __future__ import annotations

import errno
import os

from carrack.kernel import mount, paths, terminal
from carrack.runtime.failure import InitFailed, words
from carrack.runtime.room import Room
from carrack.runtime.steps import Step


class MakeDirectory(Step, frozen=True):
    """A directory that must be there; one that is stays as it is."""

    path: str

    def describe(self) -> str:
        return f"directory {self.path}"

    def apply(self, room: Room) -> None:
        try:
            os.close(room.directory(self.path))
        except NotADirectoryError:
            pass  # chdir says it in the words that users know
        except OSError as error:
            raise InitFailed(f'mkdir "{self.path}": {words(error)}') from None


class MakeDevices(Step, frozen=True):
    """Device nodes: (path, mode with type, major, minor, uid, gid), grouped by directory as they come."""

    nodes: tuple[tuple[str, int, int, int, int, int], ...]

    def describe(self) -> str:
        return "devices " + " ".join(node[0] for node in self.nodes)

    def apply(self, room: Room) -> None:
        directory_fd, directory = -1, None
        try:
            for path, mode, major, minor, uid, gid in self.nodes:
                parent, _, name = path.rpartition("/")
                if parent != directory:
                    if directory_fd >= 0:
                        os.close(directory_fd)
                    directory_fd, directory = room.directory(parent or "/"), parent
                try:
                    os.mknod(name, mode, os.makedev(major, minor), dir_fd=directory_fd)
                except FileExistsError:
                    continue
                if uid or gid:
                    os.chown(name, uid, gid, dir_fd=directory_fd, follow_symlinks=False)
        except OSError as error:
            raise InitFailed(f'error creating device nodes: mknod "{path}": {words(error)}') from None
        finally:
            if directory_fd >= 0:
                os.close(directory_fd)


class LinkDevices(Step, frozen=True):
    """The links every /dev has; one that is there stays, except ptmx, which must be this container's."""

    links: tuple[tuple[str, str], ...]
    """(name in /dev, target)."""

    def describe(self) -> str:
        return "links " + " ".join(name for name, _ in self.links)

    def apply(self, room: Room) -> None:
        directory = room.directory("/dev")
        try:
            for name, target in self.links:
                if name == "core" and not os.path.exists("/proc/kcore"):
                    continue  # a kernel without it
                try:
                    os.symlink(target, name, dir_fd=directory)
                except FileExistsError:
                    if name == "ptmx":
                        os.unlink(name, dir_fd=directory)
                        os.symlink(target, name, dir_fd=directory)
        finally:
            os.close(directory)


class OpenConsole(Step, frozen=True):
    """A pty of the container's devpts, its slave bound to /dev/console, its master for the parent."""

    height: int = 0
    width: int = 0
    uid: int = 0

    def describe(self) -> str:
        return "console"

    def apply(self, room: Room) -> None:
        try:
            room.console_fd, room.slave_fd = open_pty(room.root_fd)
            if self.height or self.width:
                terminal.set_size(room.console_fd, self.height, self.width)
            target = room.file("/dev/console")
            try:
                if (
                    paths.file_system_magic(target) == paths.PROC_SUPER_MAGIC
                ):  # a /dev from outside may hold a link (CVE-2025-52565)
                    raise OSError(errno.EXDEV, "/dev/console lies in /proc", "/dev/console")
                fd = mount.clone_tree("", directory_fd=room.slave_fd)
                try:
                    mount.attach(fd, target)
                finally:
                    os.close(fd)
            finally:
                os.close(target)
        except OSError as error:
            raise InitFailed(f"error setting up console: {words(error)}") from None


def open_pty(root_fd: int) -> tuple[int, int]:
    """(master, slave) of the devpts at /dev/pts below `root_fd`. Raises OSError when that is no devpts."""
    resolve = paths.RESOLVE_IN_ROOT | paths.RESOLVE_NO_SYMLINKS
    master = paths.open_in(root_fd, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY, resolve=resolve)
    try:
        if paths.file_system_magic(master) != paths.DEVPTS_SUPER_MAGIC:
            raise OSError(errno.ENODEV, "/dev/pts is not a devpts", "/dev/pts/ptmx")
        return master, terminal.open_slave(master)
    except OSError:
        os.close(master)
        raise
