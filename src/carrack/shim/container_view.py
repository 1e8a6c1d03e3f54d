"""Shutting a worker in a container: its root and its volumes become all there is, and then every path means what it means inside.

Whatever the container does meanwhile with links, renames and mounts happens inside of what the worker has, so it cannot lead out
(CVE-2018-15664, CVE-2019-10152, CVE-2021-41089). The kernel's own file systems (/proc, /sys, /dev) are not part of the view, and
magic links in a /proc that somebody bound into the container are never followed.
"""

from __future__ import annotations

import errno
import os
import stat

from carrack.errors import Unavailable
from carrack.kernel import mount, paths, process
from carrack.runtime import rootfs
from carrack.runtime.mount_options import MountOptions
from carrack.runtime.room import Room
from carrack.shim.confinement import shut_in
from carrack.shim.messages import View
from carrack.shim.stacks import LOOK_ONLY, take_tree

_NO_DEVICES = mount.ATTR_NODEV | mount.ATTR_NOEXEC | mount.ATTR_NOSUID
_Taken = list[tuple[int, str]]


def enter(view: View, fds: list[int], *, writes: bool) -> int:
    """Shut this process in; returns a descriptor of the root. The view's descriptors are taken off `fds` and closed.

    Without `writes` nothing can be changed through it. Raises OSError; Unavailable when the container has ended meanwhile.
    """
    pidfd = -1
    if view.rootfs:
        root, taken = _of_one_at_rest(view, writes=writes)
    else:
        pidfd = fds.pop(0)
        try:
            root, taken = _of_a_running_one(view, pidfd)
        except BaseException:
            os.close(pidfd)
            raise
    mount.set_attributes(root, propagation=mount.MS_PRIVATE)
    mount.set_attributes(root, add=_NO_DEVICES if writes else LOOK_ONLY)
    for (fd, _), wanted in zip(taken, view.mounts, strict=True):
        if fd >= 0:
            mount.set_attributes(fd, propagation=mount.MS_PRIVATE, recursive=True)
            read_only = 0 if writes and wanted.writable else mount.ATTR_RDONLY
            mount.set_attributes(fd, add=_NO_DEVICES | read_only, recursive=True)

    def furnish() -> None:
        _attach(taken, makes_places=writes and bool(view.rootfs))
        if view.read_only and writes:
            mount.set_attributes(mount.AT_FDCWD, "/", add=mount.ATTR_RDONLY)
        if pidfd >= 0:
            _become_its_root(pidfd)
            os.close(pidfd)

    return shut_in(root, furnish=furnish)


def _of_a_running_one(view: View, pidfd: int) -> tuple[int, _Taken]:
    """The root as the container has it, and what stands at the places of its mounts: taken from inside its own namespace."""
    try:
        process.setns(pidfd, process.CLONE_NEWNS)
    except ProcessLookupError:
        raise Unavailable("the container has just ended") from None
    inside = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    tree = mount.clone_tree("/")
    taken: _Taken = []
    for each in view.mounts:
        taken.append((_clone_below(inside, each.destination), each.destination))
    os.close(inside)
    return tree, taken


def _become_its_root(pidfd: int) -> None:
    """Where the container has a user namespace, be root there: owners then have the numbers that they have inside."""
    try:
        process.setns(pidfd, process.CLONE_NEWUSER)
    except ProcessLookupError:
        raise Unavailable("the container has just ended") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # it is in ours
            raise
        return
    os.setgroups(())
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _clone_below(root_fd: int, path: str) -> int:
    """A clone of what is at a path of the container; -1 when it has taken it away."""
    try:
        place = paths.open_in(root_fd, path, os.O_PATH)
    except OSError:
        return -1
    try:
        return mount.clone_tree("", directory_fd=place, recursive=True)
    finally:
        os.close(place)


def _of_one_at_rest(view: View, *, writes: bool) -> tuple[int, _Taken]:
    if writes:
        root, kept = rootfs.take_root(view.rootfs)
        os.close(kept)
    else:
        root = take_tree(view.rootfs)
    taken: _Taken = []
    for each in view.mounts:
        try:
            source = rootfs.take_bind(each.source, MountOptions(bind=True, recursive=True))
        except FileNotFoundError:
            taken.append((-1, each.destination))  # a bind whose source has gone is the next start's trouble
            continue
        if each.beneath:
            whole, source = source, _clone_below(source, each.beneath)
            os.close(whole)
        taken.append((source, each.destination))
    return root, taken


def _attach(taken: _Taken, *, makes_places: bool) -> None:
    """Put the mounts in their places below the new root, made where they are missing and may be made."""
    room = Room(lambda: None, list)
    room.root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for fd, destination in taken:
        if fd < 0:
            continue
        try:
            if not makes_places:
                place = room.open(destination)
            elif stat.S_ISDIR(os.fstat(fd).st_mode):
                place = room.directory(destination)
            else:
                place = room.file(destination)
            mount.attach(fd, place)
            os.close(place)
        except (FileNotFoundError, NotADirectoryError):
            pass  # no such place: what is asked for cannot be below it
        os.close(fd)
    os.close(room.root_fd)
