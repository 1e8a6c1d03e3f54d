"""The folder where directories wait for their removal.

Taking something away is one rename, atomic and quick whatever its size; the slow part happens behind it, in a thread of its own,
and what a killed daemon left in the trash is removed by the next.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from carrack.archive.removal import remove_tree
from carrack.errors import SystemFailure

log = logging.getLogger("carrack.snapshots")


class Trash:
    """A directory on the same file system as everything that is thrown into it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._emptying = False
        self._more = False
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.listdir(root):
            self._empty_behind()

    def throw(self, path: Path) -> None:
        """Make `path` vanish at once. A missing path is no error. Raises SystemFailure."""
        try:
            path.rename(self._root / os.urandom(8).hex())
        except FileNotFoundError:
            return
        except OSError as error:
            raise SystemFailure(f"cannot remove {path}: {error.strerror}") from error
        self._empty_behind()

    def empty(self) -> None:
        """Remove what was thrown away so far. Safe beside `throw` and beside another `empty`."""
        try:
            root_fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
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

    def _empty_behind(self) -> None:
        """Have a thread empty the trash; one at a time, and once more for what comes while it works."""
        with self._lock:
            self._more = True
            if self._emptying:
                return
            self._emptying = True
        threading.Thread(target=self._work, name="trash", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._more:
                    self._emptying = False
                    return
                self._more = False
            try:
                self.empty()
            except (OSError, SystemFailure) as error:  # it stays for the next daemon
                log.warning("cannot empty the trash: %s", error)
