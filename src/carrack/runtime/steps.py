"""The steps that furnish a container, as frozen values: each says what it is and knows how to do itself inside a `Room`.

They run in init, in its own mount namespace, before the root is entered; nothing of them outlives that namespace, so none needs
an undo. What does need one (cgroup, process, descriptors) is the affair of `create.py`.
"""

from __future__ import annotations

import os
import stat

import msgspec

from carrack.kernel import loopback, mount, paths, process
from carrack.runtime.failure import InitFailed, words
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
    """The host name in the container's UTS namespace."""

    name: str

    def describe(self) -> str:
        return f"hostname {self.name}"

    def apply(self, room: Room) -> None:
        process.set_hostname(self.name)


class SetDomainname(Step, frozen=True):
    """The domain name in the container's UTS namespace."""

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


def _propagation_name(propagation: int, recursive: bool) -> str:
    names = {mount.MS_SHARED: "shared", mount.MS_SLAVE: "slave", mount.MS_PRIVATE: "private", mount.MS_UNBINDABLE: "unbindable"}
    return ("r" if recursive else "") + names.get(propagation, str(propagation))
