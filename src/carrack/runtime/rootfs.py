"""Mounts of the host taken before a container is born, as detached descriptors: its root, and what is bound into it.

Nothing here shows in any mount namespace: an overlay made with fsopen hangs on its descriptor alone until init attaches it.
"""

from __future__ import annotations

import errno
import os

from carrack.errors import InvalidParameter
from carrack.kernel import capabilities, mount, paths, process
from carrack.oci.mount import Mount
from carrack.oci.runtime_spec import MountTree
from carrack.runtime import idmap
from carrack.runtime.mount_helper import mount_from
from carrack.runtime.mount_options import MountOptions, parse

_LONGEST_OPTIONS = 4000
"""mount(2) takes one page of options."""


def take_root(mounts: tuple[Mount, ...], *, propagation: int = 0, user_namespace_fd: int = -1) -> tuple[int, int]:
    """(the mount for init to attach, the one to keep): two descriptors of one file system.

    The kept one is a detached clone, that workers may clone again; before Linux 6.15 it is the same mount, good for chroot.
    Raises OSError, InvalidParameter.
    """
    if len(mounts) != 1:
        raise InvalidParameter(f"a root file system is one mount, not {len(mounts)}")
    wanted = mounts[0]
    options = parse(wanted.options, wanted.type)
    if options.bind:
        root = take_bind(wanted.source, options._replace(recursive=True), user_namespace_fd)
        mount.set_attributes(root, propagation=propagation or mount.MS_PRIVATE, recursive=True)
    elif wanted.type == "overlay" and options.idmap:
        root = idmap.overlay(wanted, options, user_namespace_fd)
    elif wanted.type == "overlay":
        root = _overlay(wanted, options)
    else:
        root = mount.new_file_system(wanted.type, options.data, options.attributes, wanted.source or wanted.type)
    try:
        return root, mount.clone_tree("", directory_fd=root)
    except OSError as error:
        if error.errno != errno.EINVAL:
            os.close(root)
            raise
        return root, os.dup(root)


def take_bind(source: str, options: MountOptions, user_namespace_fd: int = -1) -> int:
    """A detached clone of the host's tree at `source`, with the attributes and propagation of `options`. Raises OSError.

    With the option `idmap` and a user namespace it is shifted into that.
    """
    fd = _clone_below(source, options) if options.subpath else _clone(source, recursive=options.recursive)
    try:
        if options.idmap and user_namespace_fd >= 0:
            idmap.shift(fd, user_namespace_fd)
        propagations = options.propagations or ((mount.MS_PRIVATE, True),)
        first, first_recursive = propagations[0]
        # one call does for the usual bind what the flags, the propagation and their recursion ask
        mount.set_attributes(fd, propagation=first, recursive=first_recursive)
        if options.attributes or options.cleared:
            mount.set_attributes(fd, add=options.attributes, remove=options.cleared)
        if options.recursive_attributes or options.recursive_cleared:
            mount.set_attributes(fd, add=options.recursive_attributes, remove=options.recursive_cleared, recursive=True)
    except OSError:
        os.close(fd)
        raise
    return fd


def take_tree(tree: MountTree, options: MountOptions, user_namespace_fd: int = -1) -> int:
    """A detached clone of a place inside a stack of directories, reached without leaving the stack. Raises OSError.

    With the option `idmap` and a user namespace the stack is shifted into that.
    """
    shifts = options.idmap and user_namespace_fd >= 0
    if len(tree.lower) == 1 and not tree.upper:
        root = os.open(tree.lower[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    else:
        data = (f"upperdir={tree.upper}", f"workdir={tree.work}", "volatile") if tree.upper else ()
        stack = Mount("overlay", "overlay", options=data, lower=tree.lower)
        parsed = parse(data, "overlay")
        root = idmap.overlay(stack, parsed, user_namespace_fd) if shifts else _overlay(stack, parsed)
        shifts = False
    try:
        fd = _clone_inside(root, tree.path or ".")
    finally:
        os.close(root)
    try:
        if shifts:
            idmap.shift(fd, user_namespace_fd)
        mount.set_attributes(fd, add=options.attributes, propagation=mount.MS_PRIVATE)
    except OSError:
        os.close(fd)
        raise
    return fd


def _clone_inside(root_fd: int, path: str) -> int:
    place = paths.open_in(root_fd, path, os.O_PATH)
    try:
        return mount.clone_tree("", directory_fd=place)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(place)
    return mount_from(lambda: _cloned_where_attached(root_fd, path), path)  # Linux before 6.15


def _cloned_where_attached(root_fd: int, path: str) -> int:
    here = os.open("/", os.O_PATH | os.O_DIRECTORY)
    mount.attach(root_fd, here)
    place = paths.open_in(root_fd, path, os.O_PATH)
    return mount.clone_tree("", directory_fd=place)


def _clone_below(source: str, options: MountOptions) -> int:
    """A clone of what lies at `subpath` in a tree that containers write: the kernel refuses a way out of it (openat2(2))."""
    base = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        resolve = paths.RESOLVE_BENEATH | paths.RESOLVE_NO_MAGICLINKS
        found = paths.open_in(base, options.subpath, os.O_PATH, resolve=resolve)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.ELOOP):
            raise OSError(error.errno, f"subpath {options.subpath!r} leads out of it") from None
        raise OSError(error.errno, f"subpath {options.subpath!r}: {(error.strerror or '').lower()}") from None
    finally:
        os.close(base)
    try:
        return mount.clone_tree("", directory_fd=found, recursive=options.recursive)
    finally:
        os.close(found)


def _clone(source: str, *, recursive: bool) -> int:
    """A detached clone, also of what is mounted in another process's namespace (``/proc/PID/root/…``).

    A tree can only be cloned from inside its own mount namespace, so this (single-threaded) process visits it and comes back.
    """
    parts = source.split("/", 4)
    if parts[:2] != ["", "proc"] or len(parts) < 5 or parts[3] != "root" or not parts[2].isdigit():
        return mount.clone_tree(source, recursive=recursive)
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(f"/proc/{parts[2]}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            process.setns(there, process.CLONE_NEWNS)
        finally:
            os.close(there)
        try:
            return mount.clone_tree(f"/{parts[4]}", recursive=recursive)
        finally:
            process.setns(home, process.CLONE_NEWNS)
    finally:
        os.close(home)


# ── overlay ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _overlay(wanted: Mount, options: MountOptions) -> int:
    if options.bounded:
        return mount_from(lambda: _bounded(wanted, options._replace(bounded=False)), "overlay")
    if not _takes_layers_one_by_one():  # it would fail, and the kernel's log would name each failure
        return _overlay_by_string(wanted, options)
    try:
        return _overlay_by_layer(wanted, options)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return _overlay_by_string(wanted, options)


def _takes_layers_one_by_one() -> bool:
    """Whether this is Linux 6.5 or later, which has `lowerdir+`; a release that cannot be read is tried."""
    major, _, rest = os.uname().release.partition(".")
    minor = rest.partition(".")[0]
    return not (major.isdecimal() and minor.isdecimal()) or (int(major), int(minor)) >= (6, 5)


def _bounded(wanted: Mount, options: MountOptions) -> int:
    """An overlay works on its layers with the credentials of who mounts it, and those must not stand above a quota."""
    effective, permitted, inheritable = capabilities.get()
    capabilities.set(effective & ~capabilities.SYS_RESOURCE, permitted, inheritable)
    return _overlay(wanted, options)


def _overlay_by_layer(wanted: Mount, options: MountOptions) -> int:
    """Linux 6.5 and later. An older kernel takes every key, and says EINVAL only when the file system is to be made."""
    context = mount.open_file_system("overlay")
    try:
        mount.configure(context, "source", wanted.source or "overlay")
        for directory in wanted.lower:
            mount.configure(context, "lowerdir+", directory)
        for option in options.data:
            key, equals, value = option.partition("=")
            mount.configure(context, key, value if equals else None)
        return mount.make_mount(context, options.attributes)
    finally:
        os.close(context)


def _overlay_by_string(wanted: Mount, options: MountOptions) -> int:
    """Older kernels: mount(2) with one string of options, in a mount namespace of a helper's own, the mount handed back."""
    return mount_from(lambda: _mounted_by_string(wanted, options), "overlay")


def _mounted_by_string(wanted: Mount, options: MountOptions) -> int:
    top, lower = shortened(wanted.lower)
    os.chdir(top)
    data = ",".join((f"lowerdir={':'.join(lower)}", *options.data))
    if len(data) > _LONGEST_OPTIONS:
        raise OSError(errno.E2BIG, "too many layers for this kernel", "overlay")
    mount.mount(wanted.source or "overlay", "/", "overlay", 0, data)
    fd = mount.clone_tree("/..")
    mount.set_attributes(fd, add=options.attributes)
    return fd


def shortened(directories: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The deepest common directory, and each path as seen from there."""
    top = os.path.commonpath(directories)
    if top in directories:
        top = os.path.dirname(top)
    return top, tuple(os.path.relpath(directory, top) for directory in directories)
