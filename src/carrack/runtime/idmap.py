"""Mounts whose files' owners are shifted into a user namespace (`MOUNT_ATTR_IDMAP`, mount_setattr(2)), and overlays made of them.

What lies on disk stays as it is: a layer that root owns is shared by every container, whatever its user namespace, and what the
namespace's root writes is root's on disk.
"""

from __future__ import annotations

import errno
import os
import signal

from carrack.kernel import capabilities, mount, process
from carrack.oci.mount import Mount
from carrack.oci.runtime_spec import IDMapping
from carrack.runtime.creation import write_maps
from carrack.runtime.mount_helper import mount_from
from carrack.runtime.mount_options import MountOptions


def shift(mount_fd: int, user_namespace_fd: int, *, recursive: bool = False) -> None:
    """Map a detached mount into a user namespace. Raises OSError (EINVAL: its file system cannot)."""
    try:
        mount.set_attributes(mount_fd, add=mount.ATTR_IDMAP, user_namespace_fd=user_namespace_fd, recursive=recursive)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        reason = "this kernel cannot id-map mounts of this file system, which --userns-remap needs (ext4, xfs and btrfs it can)"
        raise OSError(errno.EINVAL, reason, error.filename) from None


def namespace(uids: tuple[IDMapping, ...], gids: tuple[IDMapping, ...]) -> int:
    """A user namespace with these maps and nobody in it, as a descriptor. Single-threaded callers. Raises InitFailed, OSError."""
    pid, pidfd = process.fork_into(process.CLONE_NEWUSER)
    if pid == 0:
        while True:
            signal.pause()
    try:
        write_maps(pid, uids, gids)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        process.send_signal(pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)


def overlay(wanted: Mount, options: MountOptions, user_namespace_fd: int) -> int:
    """An overlay of shifted layers, detached. Raises OSError.

    The kernel (5.19) wants each layer on a mount that somebody can see: a helper mounts them in a namespace of its own, by short
    names, so that the option string stays short however many there are, and hands the overlay back.
    """
    return mount_from(lambda: _shifted_overlay(wanted, options, user_namespace_fd), "idmapped overlay")


def _shifted_overlay(wanted: Mount, options: MountOptions, user_namespace_fd: int) -> int:
    data = dict(option.partition("=")[::2] for option in options.data)
    upper, work = data.pop("upperdir", ""), data.pop("workdir", "")
    sources = [*wanted.lower, *([os.path.dirname(upper)] if upper else [])]
    shifted = [mount.clone_tree(source) for source in sources]
    for fd in shifted:
        shift(fd, user_namespace_fd)
    _make_files_for(os.fstat(shifted[-1]), bounded=options.bounded)
    room = mount.new_file_system("tmpfs", ("mode=700",), 0, "tmpfs")
    mount.attach(room, mount.AT_FDCWD, "/")
    os.chdir(room)
    os.mkdir("m")
    for number, fd in enumerate(shifted):
        os.mkdir(str(number))
        mount.attach(fd, room, str(number))
    words = ["lowerdir=" + ":".join(str(number) for number in range(len(wanted.lower)))]
    if upper:
        top = len(wanted.lower)
        words += [f"upperdir={top}/{os.path.basename(upper)}", f"workdir={top}/{os.path.basename(work)}"]
    words += [f"{key}={value}" if value else key for key, value in data.items()]
    mount.mount(wanted.source or "overlay", "m", "overlay", 0, ",".join(words))
    made = mount.clone_tree("m")
    if options.attributes:
        mount.set_attributes(made, add=options.attributes)
    return made


def _make_files_for(home: os.stat_result, *, bounded: bool) -> None:
    """Work with files as the namespace's root, whom the shifted directory of root's belongs to: the overlay keeps these
    credentials, and an upper layer takes no file of somebody without a number there. All other power stays."""
    _, permitted, inheritable = capabilities.get()
    process.set_file_owner(home.st_uid, home.st_gid)
    capabilities.set(permitted & ~(capabilities.SYS_RESOURCE if bounded else 0), permitted, inheritable)
