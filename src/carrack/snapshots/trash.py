"""The folder where directories wait for their removal.

Taking something away is one rename, atomic and quick whatever its size; the slow part happens later, and what a killed daemon
left in the trash is removed by the next.
"""

from __future__ import annotations

import os
from pathlib import Path

from carrack.archive.removal import remove_tree
from carrack.errors import SystemFailure


class Trash:
    """A directory on the same file system as everything that is thrown into it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def throw(self, path: Path) -> None:
        """Make `path` vanish at once. A missing path is no error. Raises SystemFailure."""
        try:
            path.rename(self._root / os.urandom(8).hex())
        except FileNotFoundError:
            pass
        except OSError as error:
            raise SystemFailure(f"cannot remove {path}: {error.strerror}") from error

    def empty(self) -> None:
        """Remove what was thrown away so far. Safe beside `throw` and beside another `empty`."""
        root_fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in os.listdir(root_fd):
                # A private name first: two threads never walk the same tree.
                mine = f"{name}.{os.urandom(4).hex()}"
                try:
                    os.rename(name, mine, src_dir_fd=root_fd, dst_dir_fd=root_fd)
                except FileNotFoundError:
                    continue
                remove_tree(root_fd, mine)
        finally:
            os.close(root_fd)
