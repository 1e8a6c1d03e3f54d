"""The steps that furnish a container, as frozen values: each says what it is and knows how to do itself inside a `Room`.

They run in init, in its own mount namespace, before the root is entered; nothing of them outlives that namespace, so none needs
an undo. What does need one (cgroup, process, descriptors) is the affair of `create.py`.
"""

from __future__ import annotations

import errno
import os
import stat

import msgspec

from carrack.kernel import loopback, mount, paths, process, terminal
from carrack.runtime.cgroups.layout import Hierarchy
from carrack.runtime.copy_up import copy_into
from carrack.runtime.failure import InitFailed, words
from carrack.runtime.mount_options import MountOptions
from carrack.runtime.room import Room, require_null


class Step(msgspec.Struct, frozen=True):
    """One thing to be done in init."""

    def describe(self) -> str:
        """The step in one line, for --debug, traces and tests."""
        return type(self).__name__

    def apply(self, room: Room) -> None:
        """Do it. Raises OSError or InitFailed."""
        raise NotImplementedError


class SetHostname(Step, frozen=True):
    name: str

    def describe(self) -> str:
        return f"hostname {self.name}"

    def apply(self, room: Room) -> None:
        process.set_hostname(self.name)


class SetDomainname(Step, frozen=True):
    name: str

    def describe(self) -> str:
        return f"domainname {self.name}"

    def apply(self, room: Room) -> None:
        process.set_domainname(self.name)


class RaiseLoopback(Step, frozen=True):
    """A network namespace of its own begins with `lo` down."""

    def describe(self) -> str:
        return "lo up"

    def apply(self, room: Room) -> None:
        loopback.up()


class DetachPropagation(Step, frozen=True):
    """Nothing that init mounts reaches the host."""

    propagation: int

    def describe(self) -> str:
        return f"/ {_propagation_name(self.propagation, True)}"

    def apply(self, room: Room) -> None:
        mount.set_attributes(mount.AT_FDCWD, "/", propagation=self.propagation, recursive=True)


class EnterCgroup(Step, frozen=True):
    """Join the cgroup, which the parent makes meanwhile, and then, if so asked, make it the root of a cgroup namespace."""

    namespace: bool = False

    def describe(self) -> str:
        return "join cgroup, unshare cgroup" if self.namespace else "join cgroup"

    def apply(self, room: Room) -> None:
        room.join_cgroup()
        if self.namespace:
            process.unshare(process.CLONE_NEWCGROUP)


class AttachRoot(Step, frozen=True):
    """Put the held root mount into the namespace; the process's own root stays the host's until EnterRoot.

    It goes over `/`, or over its bundle's directory, where hooks of the administrator look for it.
    """

    path: str = "/"

    def describe(self) -> str:
        return f"root attached at {self.path}"

    def apply(self, room: Room) -> None:
        room.receive_root()
        try:
            mount.attach(room.root_fd, mount.AT_FDCWD, self.path)
            room.attached_at = self.path
        except PermissionError:
            # a user namespace's root may not be let through to the bundle
            mount.attach(room.root_fd, mount.AT_FDCWD, "/")


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
            fd = self._new()
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

    def _new(self) -> int:
        return mount.new_file_system(self.type, self.options.data, self.options.attributes, self.source)

    def _attach(self, room: Room, fd: int) -> None:
        target = self._place(room)
        try:
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
                mount.attach(fd, target)
            finally:
                os.close(target)
            _propagate(fd, self.options)
        except OSError as error:
            raise InitFailed(f'error mounting "{self.source}" to rootfs at "{self.target}": {words(error)}') from None


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
    """Version 2 without a cgroup namespace: the container's own directory."""

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


class WriteSysctls(Step, frozen=True):
    """Kernel parameters of the container's namespaces, through a procfs that nothing can be mounted over."""

    values: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        return "sysctl " + " ".join(f"{name}={value}" for name, value in self.values)

    def apply(self, room: Room) -> None:
        proc = room.proc()
        for name, value in self.values:
            try:
                fd = paths.open_in(proc, "sys/" + sysctl_path(name), os.O_WRONLY, resolve=_UNCOVERED)
                try:
                    os.write(fd, value.encode())
                finally:
                    os.close(fd)
            except OSError as error:
                raise InitFailed(f"open sysctl {name} file: {words(error)}") from None


_UNCOVERED = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_XDEV | paths.RESOLVE_NO_SYMLINKS


def sysctl_path(name: str) -> str:
    """``net.ipv4.conf.eth0/1.rp_filter``: as sysctl(8), the first separator used decides which one separates."""
    first = next((letter for letter in name if letter in "./"), ".")
    return name if first == "/" else name.translate({ord("."): "/", ord("/"): "."})


class MaskPaths(Step, frozen=True):
    """Hide paths: a file behind the null device, a directory behind an empty read-only one. A missing path needs none."""

    paths: tuple[str, ...]

    def describe(self) -> str:
        return "mask " + " ".join(self.paths)

    def apply(self, room: Room) -> None:
        null = -1
        try:
            for path in self.paths:
                try:
                    target = room.open(path)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                try:
                    if stat.S_ISDIR(os.fstat(target).st_mode):
                        self._directory(room, target)
                    else:
                        if null < 0:
                            null = _null(room)
                        _clone_onto(null, target)
                except OSError as error:
                    raise InitFailed(f"can't mask path {path!r}: {words(error)}") from None
                finally:
                    os.close(target)
        finally:
            if null >= 0:
                os.close(null)

    def _directory(self, room: Room, target: int) -> None:
        if room.mask_fd < 0:
            room.mask_fd = mount.new_file_system("tmpfs", ("ro",), mount.ATTR_RDONLY, "tmpfs")
            mount.attach(room.mask_fd, target)
        else:
            _clone_onto(room.mask_fd, target)


class ReadonlyPaths(Step, frozen=True):
    """Paths that can be read and no longer written. A missing path needs nothing."""

    paths: tuple[str, ...]

    def describe(self) -> str:
        return "readonly " + " ".join(self.paths)

    def apply(self, room: Room) -> None:
        for path in self.paths:
            try:
                target = room.open(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            try:
                fd = mount.clone_tree("", directory_fd=target, recursive=True)
                try:
                    mount.set_attributes(fd, add=mount.ATTR_RDONLY)
                    mount.attach(fd, target)
                finally:
                    os.close(fd)
            except OSError as error:
                raise InitFailed(f"can't make {path!r} read-only: {words(error)}") from None
            finally:
                os.close(target)


class MakeReadonly(Step, frozen=True):
    """A mount made read-only after its content was furnished: the root, or /dev."""

    target: str

    def describe(self) -> str:
        return f"{self.target} read-only"

    def apply(self, room: Room) -> None:
        fd = room.open(self.target)
        try:
            mount.set_attributes(fd, add=mount.ATTR_RDONLY)
        finally:
            os.close(fd)


class EnterRoot(Step, frozen=True):
    """Make the attached root the root of the namespace and let go of the host's tree."""

    pivot: bool = True
    propagation: int = 0
    recursive: bool = False

    def describe(self) -> str:
        return "pivot_root" if self.pivot else "chroot"

    def apply(self, room: Room) -> None:
        try:
            os.fchdir(room.root_fd)
            if self.pivot:
                mount.pivot_root(".", ".")
                mount.unmount(".", mount.MNT_DETACH)
            else:
                self._move(room.attached_at)
            os.chdir("/")
            if self.propagation:
                mount.set_attributes(mount.AT_FDCWD, "/", propagation=self.propagation, recursive=self.recursive)
        except OSError as error:
            raise InitFailed(f"error jailing process inside rootfs: {words(error)}") from None

    def _move(self, attached: str) -> None:
        """Without pivot_root the host's tree stays below ours: no whole procfs or sysfs of it may, for a new one could be mounted
        on the strength of it (CVE-2019-19921's kin; mount_too_revealing in the kernel)."""
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
            visible = [line.split(" ")[4] for line in lines if line.partition(" - ")[2].split(" ")[0] in ("proc", "sysfs")]
        for path in visible:
            if attached != "/" and (path == attached or path.startswith(attached + "/")):
                continue
            try:
                mount.unmount(path, mount.MNT_DETACH)
            except OSError:
                continue
        if attached != "/":
            mount.mount(".", "/", "", mount.MS_MOVE)
        os.chroot(".")


def _null(room: Room) -> int:
    try:
        fd = room.open("/dev/null")
    except FileNotFoundError:
        raise InitFailed("can't mask paths: the container has no /dev/null") from None
    require_null(fd)
    return fd


def _clone_onto(source_fd: int, target_fd: int) -> None:
    fd = mount.clone_tree("", directory_fd=source_fd)
    try:
        mount.attach(fd, target_fd)
    finally:
        os.close(fd)


def _propagate(fd: int, options: MountOptions) -> None:
    for propagation, recursive in options.propagations:
        mount.set_attributes(fd, propagation=propagation, recursive=recursive)


def _propagation_name(propagation: int, recursive: bool) -> str:
    names = {mount.MS_SHARED: "shared", mount.MS_SLAVE: "slave", mount.MS_PRIVATE: "private", mount.MS_UNBINDABLE: "unbindable"}
    return ("r" if recursive else "") + names.get(propagation, str(propagation))
