"""Steps that mount: new file systems, binds of the host's trees, the cgroups. See `steps.py` for what a step is."""

from __future__ import annotations

import errno
import os
import stat

from carrack.kernel import mount, paths
from carrack.runtime.cgroups.layout import Hierarchy
from carrack.runtime.copy_up import copy_into
from carrack.runtime.failure import InitFailed, words
from carrack.runtime.mount_options import MountOptions
from carrack.runtime.room import Room
from carrack.runtime.steps import Step


class MountFileSystem(Step, frozen=True):
    """A new file system at `target`."""

    target: str
    type: str
    source: str
    options: MountOptions
    require_plain_directory: bool = False
    """/proc and /sys: the image must not redirect them by a link."""

    def describe(self) -> str:
        return f"mount {self.type} at {self.target} ({','.join(self.options.data)})"

    def apply(self, room: Room) -> None:
        try:
            fd = self._new(room)
        except OSError as error:
            raise self._failed(error) from None
        try:
            if self.type == "proc" and room.proc_fd < 0:
                room.proc_fd = os.dup(fd)
            self._attach(room, fd)
        except OSError as error:
            raise self._failed(error) from None
        finally:
            os.close(fd)

    def _new(self, room: Room) -> int:
        data = self.options.data
        if self.type == "tmpfs":
            data = (*_mode_of(room, self.target), *data)  # what was asked for comes later, and counts
        return mount.new_file_system(self.type, data, self.options.attributes, self.source)

    def _attach(self, room: Room, fd: int) -> None:
        target = self._place(room)
        try:
            _refuse_inside_proc(self.target, target, fd)
            if self.options.copy_up:
                copy_into(target, fd)
            mount.attach(fd, target)
        finally:
            os.close(target)
        _propagate(fd, self.options)

    def _place(self, room: Room) -> int:
        if not self.require_plain_directory:
            return room.directory(self.target)
        try:
            resolve = paths.RESOLVE_IN_ROOT | paths.RESOLVE_NO_SYMLINKS
            return paths.open_in(room.root_fd, self.target, os.O_PATH | os.O_DIRECTORY, resolve=resolve)
        except FileNotFoundError:
            return room.directory(self.target)
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            raise InitFailed(f'filesystem "{self.type}" must be mounted on ordinary directory') from None

    def _failed(self, error: OSError) -> InitFailed:
        return InitFailed(f'error mounting "{self.source or self.type}" to rootfs at "{self.target}": {words(error)}')


class MountBind(Step, frozen=True):
    """A clone of a mount of the host, taken before init was born, at `target`."""

    target: str
    source: str
    number: int
    """Its place in `Plan.held`."""
    options: MountOptions

    def describe(self) -> str:
        return f"bind {self.source} at {self.target}"

    def apply(self, room: Room) -> None:
        fd = room.held[self.number]
        try:
            is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
            target = room.directory(self.target) if is_directory else room.file(self.target)
            try:
                _refuse_inside_proc(self.target, target, fd)
                if not is_directory and stat.S_ISDIR(os.fstat(target).st_mode):
                    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))  # move_mount(2) has EINVAL for it
                mount.attach(fd, target)
            finally:
                os.close(target)
            _propagate(fd, self.options)
        except OSError as error:
            raise InitFailed(f'error mounting "{self.source}" to rootfs at "{self.target}": {words(error)}') from None


class MountFile(Step, frozen=True):
    """A read-only file in memory at `target`: it lives in the container's own /dev just long enough to be cloned from there."""

    target: str
    content: bytes
    mode: int
    uid: int
    gid: int

    def describe(self) -> str:
        return f"file of {len(self.content)} bytes at {self.target}"

    def apply(self, room: Room) -> None:
        try:
            directory = room.open("/dev", os.O_RDONLY | os.O_DIRECTORY)
            try:
                if paths.file_system_magic(directory) != paths.TMPFS_MAGIC:
                    raise InitFailed(f'a file at "{self.target}" needs a /dev of the container\'s own')
                self._write(directory)
                try:
                    self._bind(room, directory)
                finally:
                    os.unlink(_PASSING, dir_fd=directory)  # not before: what has no name cannot be mounted
            finally:
                os.close(directory)
        except OSError as error:
            raise InitFailed(f'error mounting a file to rootfs at "{self.target}": {words(error)}') from None

    def _write(self, directory: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(_PASSING, flags, 0o600, dir_fd=directory)
        try:
            view = memoryview(self.content)
            while view:
                view = view[os.write(file, view) :]
            os.fchown(file, self.uid, self.gid)
            os.fchmod(file, self.mode)
        finally:
            os.close(file)

    def _bind(self, room: Room, directory: int) -> None:
        clone = mount.clone_tree(_PASSING, directory_fd=directory, follow=False)
        try:
            mount.set_attributes(clone, add=mount.ATTR_RDONLY | mount.ATTR_NOSUID | mount.ATTR_NODEV)
            target = room.file(self.target)
            try:
                _refuse_inside_proc(self.target, target, clone)
                mount.attach(clone, target)
            finally:
                os.close(target)
        finally:
            os.close(clone)


_PASSING = ".carrack-file"

# Files of procfs that administrators replace, with lxcfs for one; nothing that changes or tells of the host is among them.
_REPLACEABLE = frozenset(
    "/proc/" + name
    for name in (
        "cpuinfo",
        "diskstats",
        "loadavg",
        "meminfo",
        "net/dev",
        "slabinfo",
        "stat",
        "swaps",
        "sys/crypto/fips_enabled",
        "sys/kernel/ns_last_pid",
        "uptime",
    )
)


def _refuse_inside_proc(path: str, target_fd: int, mount_fd: int) -> None:
    """No mount over procfs but a few (CVE-2019-16884, CVE-2023-27561): asked of the opened target, whatever its path looks like."""
    if path == "/proc":
        if paths.file_system_magic(mount_fd) != paths.PROC_SUPER_MAGIC:
            raise InitFailed(f'"{path}" cannot be mounted because it is not of type proc')
    elif path not in _REPLACEABLE and paths.file_system_magic(target_fd) == paths.PROC_SUPER_MAGIC:
        raise InitFailed(f'"{path}" cannot be mounted because it is inside /proc')


class BindCgroups(Step, frozen=True):
    """Version 1: the container's own directory of every hierarchy below `target`, on a small tmpfs.

    With a cgroup namespace the hierarchies are mounted anew, and show the container's directory as their root.
    """

    target: str
    hierarchies: tuple[Hierarchy, ...]
    path: str
    options: MountOptions
    namespaced: bool = False

    def describe(self) -> str:
        return f"cgroups at {self.target}"

    def apply(self, room: Room) -> None:
        flags = mount.ATTR_NOSUID | mount.ATTR_NODEV | mount.ATTR_NOEXEC
        attributes = flags | self.options.attributes
        top = mount.new_file_system("tmpfs", ("mode=755",), flags, "tmpfs")
        try:
            target = room.directory(self.target)
            try:
                mount.attach(top, target)
            finally:
                os.close(target)
            for hierarchy in self.hierarchies:
                self._one(top, hierarchy, attributes)
            for hierarchy in self.hierarchies:
                for name in hierarchy.controllers:
                    if name != hierarchy.label and "=" not in name:
                        os.symlink(hierarchy.label, name, dir_fd=top)
            if self.options.attributes & mount.ATTR_RDONLY:
                mount.set_attributes(top, add=mount.ATTR_RDONLY)
        except OSError as error:
            raise InitFailed(f'error mounting "cgroup" to rootfs at "{self.target}": {words(error)}') from None
        finally:
            os.close(top)

    def _one(self, top: int, hierarchy: Hierarchy, attributes: int) -> None:
        os.mkdir(hierarchy.label, 0o755, dir_fd=top)
        if self.namespaced:
            options = tuple(("name=" + each[5:]) if each.startswith("name=") else each for each in hierarchy.controllers)
            if any(each.startswith("name=") for each in options):
                options = ("none", *options)
            fd = mount.new_file_system("cgroup", options, attributes, "cgroup")
        else:
            fd = mount.clone_tree(hierarchy.mountpoint + self.path)
            mount.set_attributes(fd, add=attributes)
        try:
            mount.attach(fd, top, hierarchy.label)
        finally:
            os.close(fd)


class BindUnified(Step, frozen=True):
    """Version 2 without a cgroup namespace: the hierarchy, or a directory of it."""

    target: str
    source: str
    options: MountOptions

    def describe(self) -> str:
        return f"cgroup at {self.target}"

    def apply(self, room: Room) -> None:
        fd = mount.clone_tree(self.source)
        try:
            mount.set_attributes(fd, add=self.options.attributes)
            target = room.directory(self.target)
            try:
                mount.attach(fd, target)
            finally:
                os.close(target)
        finally:
            os.close(fd)


def _mode_of(room: Room, target: str) -> tuple[str, ...]:
    """A tmpfs has the mode of the directory it covers, as runc has it; tmpfs(5)'s own, 1777, where there is none."""
    try:
        fd = room.open(target, os.O_PATH | os.O_DIRECTORY)
    except OSError:
        return ()
    try:
        return (f"mode={stat.S_IMODE(os.fstat(fd).st_mode):o}",)
    finally:
        os.close(fd)


def _propagate(fd: int, options: MountOptions) -> None:
    for propagation, recursive in options.propagations:
        mount.set_attributes(fd, propagation=propagation, recursive=recursive)
