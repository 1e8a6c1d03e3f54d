"""A container's mounts put into the maker's own mount namespace, at places that a program beside it (runc, criu) is told.

Nobody outside sees them, and they go with the maker.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat

import msgspec

from carrack.kernel import mount, process
from carrack.oci.runtime_spec import RuntimeSpec, SpecMount
from carrack.runtime import idmap, rootfs
from carrack.runtime.mount_options import SUBPATH, MountOptions, parse


class Staging:
    """The places below one directory. Making one leaves the caller in a mount namespace of its own."""

    def __init__(self, directory: str) -> None:
        """The directory is there, with an empty `rootfs` in it."""
        self._directory = directory
        self._mounted: list[str] = []
        process.unshare(process.CLONE_NEWNS)
        stop_propagation(self.root)

    @property
    def root(self) -> str:
        """Where the root is mounted."""
        return f"{self._directory}/rootfs"

    def put(self, mount_fd: int, place: str) -> None:
        """Attach a detached mount, whose descriptor is closed."""
        target = os.open(place, os.O_PATH | os.O_CLOEXEC)
        try:
            mount.attach(mount_fd, target)
            self._mounted.append(place)
        finally:
            os.close(target)
            os.close(mount_fd)

    def hold_binds(self, spec: RuntimeSpec, users_fd: int) -> RuntimeSpec:
        """The spec with every source a path of this namespace: what lies in another container's mount namespace is brought into
        ours, where the program can bind it; and what is to be shifted is so here, for not every program can."""
        held: list[SpecMount] = []
        for number, wanted in enumerate(spec.mounts):
            ours = parse(wanted.options, wanted.type)
            if wanted.source.startswith("/proc/") or wanted.uid_mappings or ours.subpath or wanted.tree:
                how = MountOptions(bind=True, recursive=ours.recursive, idmap=bool(wanted.uid_mappings), subpath=ours.subpath)
                if wanted.tree is not None:
                    fd = rootfs.take_tree(wanted.tree, how, users_fd if how.idmap else -1)
                else:
                    fd = rootfs.take_bind(wanted.source, how, users_fd if how.idmap else -1)
                place = f"{self._directory}/bind{number}"
                if stat.S_ISDIR(os.fstat(fd).st_mode):
                    os.mkdir(place)
                else:
                    os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
                self.put(fd, place)
                kept = tuple(option for option in wanted.options if not option.startswith(SUBPATH))
                wanted = msgspec.structs.replace(wanted, source=place, options=kept, uid_mappings=(), gid_mappings=(), tree=None)
            held.append(wanted)
        return msgspec.structs.replace(spec, mounts=tuple(held))

    def clear(self) -> None:
        """Unmount everything. May be called twice."""
        for place in reversed(self._mounted):
            mount.unmount(place, mount.MNT_DETACH)
        self._mounted = []


def users_of(spec: RuntimeSpec) -> int:
    """A user namespace with the container's maps; -1 when it has none of its own."""
    linux = spec.linux
    return idmap.namespace(linux.uid_mappings, linux.gid_mappings) if linux is not None and linux.uid_mappings else -1


def stop_propagation(place: str) -> None:
    """What is mounted at `place` stays in this namespace; every other mount keeps its peers, so that shared volumes work.

    Which mount holds the place only the kernel knows: a bind of the same file system looks like any directory.
    """
    above = place
    while not _slave(above) or above == place:
        if above == "/":
            return
        above = posixpath.dirname(above)


def _slave(path: str) -> bool:
    """Whether a mount is rooted at `path`; if so, nothing of it goes out any more."""
    try:
        mount.set_attributes(mount.AT_FDCWD, path, propagation=mount.MS_SLAVE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True
