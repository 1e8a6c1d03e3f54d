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
        self._lock = threading.Condition()
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

    def settle(self, timeout_seconds: float) -> bool:
        """Wait until what was thrown away is removed; False when that takes longer. The rest is the next daemon's."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._emptying, timeout_seconds)

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
                    self._lock.notify_all()
                    return
                self._more = False
            try:
                self._empty()
            except (OSError, SystemFailure) as error:  # it stays for the next daemon
                log.warning("cannot empty the trash: %s", error)

    def _empty(self) -> None:
        """Remove what is here. Only this object's own thread does: two walkers of one tree trip over each other."""
        root_fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in os.listdir(root_fd):
                remove_tree(root_fd, name)
        finally:
            os.close(root_fd)
