"""How a worker shuts itself in before it touches an untrusted tree: that tree is all there is, and nothing more can be gained."""

from __future__ import annotations

import os
from collections.abc import Callable

from carrack.kernel import capabilities, mount, process
from carrack.runtime.capabilities import NUMBERS

_FILES = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP")
_OVERLAY_ATTRIBUTES = "CAP_SYS_ADMIN"
"""`trusted.*` attributes, overlayfs' opaque mark among them, ask for it."""
_HIGHEST_CAPABILITY = 63


def detached(directory_fd: int) -> int:
    """A detached mount of a directory of the host, as a descriptor from which ``..`` leads nowhere. Before `shut_in`."""
    tree = mount.clone_tree("", directory_fd=directory_fd)
    mount.set_attributes(tree, propagation=mount.MS_PRIVATE)
    return tree


def shut_in(tree_fd: int, *, overlay_attributes: bool = False, furnish: Callable[[], None] | None = None) -> int:
    """Make the detached mount `tree_fd` this process's whole file system; returns a readable descriptor of its root.

    `tree_fd` is closed. The mount namespace is new, the old root is gone from it, privileges that files do not need are dropped
    for good; before that, `furnish` may attach more mounts below the new root. Raises OSError.
    """
    process.unshare(process.CLONE_NEWNS)
    mount.set_attributes(mount.AT_FDCWD, "/", propagation=mount.MS_PRIVATE, recursive=True)
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    mount.attach(tree_fd, here)
    os.close(here)
    os.fchdir(tree_fd)
    os.close(tree_fd)
    mount.pivot_root(".", ".")
    mount.unmount(".", mount.MNT_DETACH)
    os.chdir("/")
    if furnish is not None:
        furnish()
    _drop_privileges((*_FILES, _OVERLAY_ATTRIBUTES) if overlay_attributes else _FILES)
    return os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _drop_privileges(kept: tuple[str, ...]) -> None:
    numbers = {NUMBERS[name] for name in kept}
    for number in range(_HIGHEST_CAPABILITY + 1):
        if number not in numbers and process.bounding_has(number):
            process.drop_from_bounding(number)
    mask = sum(1 << number for number in numbers)
    held = capabilities.get()[1]
    capabilities.set(mask & held, mask & held, 0)
    process.set_no_new_privileges()
