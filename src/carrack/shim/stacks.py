"""What a stack of layers shows, for a worker that only looks."""

from __future__ import annotations

import os

from carrack.kernel import mount
from carrack.oci.mount import Mount
from carrack.runtime import rootfs

_UPPER = "upperdir="
_UPPER_ONLY = (_UPPER, "workdir=")
LOOK_ONLY = mount.ATTR_RDONLY | mount.ATTR_NODEV | mount.ATTR_NOEXEC | mount.ATTR_NOSUID


def take_tree(mounts: tuple[Mount, ...]) -> int:
    """What a stack of layers shows, as a detached mount that nothing can be changed through; no mount is an empty tree."""
    if not mounts:
        return mount.new_file_system("tmpfs", attributes=LOOK_ONLY)
    root, kept = rootfs.take_root(tuple(_read_only(each) for each in mounts))
    os.close(kept)
    mount.set_attributes(root, add=LOOK_ONLY)
    return root


def _read_only(wanted: Mount) -> Mount:
    """An overlay without an upper directory, its own put on top of the layers: two overlays never share one (law 6).

    One layer alone is no overlay (the kernel wants two without an upper directory): it is shown as it is.
    """
    upper = tuple(each.removeprefix(_UPPER) for each in wanted.options if each.startswith(_UPPER))
    if wanted.type != "overlay":
        return wanted
    layers = upper + wanted.lower
    if len(layers) == 1:
        return Mount("bind", layers[0], wanted.target, ("bind",))
    options = tuple(each for each in wanted.options if not each.startswith(_UPPER_ONLY))
    return Mount(wanted.type, wanted.source, wanted.target, options, layers)
