"""Where contexts lie on disk: `contexts/<slot>/{tree,index,manifest,key}`, kept after a build for the next that sends the same.

A slot is one build's at a time. Its key says what it holds: the digest of a tar, or whose folder it mirrors. A slot without a key
is half-made or used up: it goes with its build, or at the next start. What is kept has one ceiling; what was used least recently
goes first.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from carrack.errors import NotFound, SystemFailure
from carrack.kernel.placement import spread_children
from carrack.oci.mount import Mount

KEPT_BYTES = 4 << 30
"""The most that contexts may take between builds."""
_KEPT_SLOTS = 64


class Slot:
    """One directory for a context."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = path / "tree"
        self.index = path / "index"
        self.manifest = path / "manifest"
        self.key = ""
        self.size_bytes = 0

    @property
    def mount(self) -> Mount:
        """The tree, to be looked at."""
        return Mount("bind", str(self.tree), options=("rbind", "ro"))

    def settle(self, key: str, size_bytes: int) -> None:
        """Write down what the slot holds, once it does."""
        temporary = self.path / "key.new"
        temporary.write_text(f"{size_bytes} {key}", encoding="utf-8")
        temporary.rename(self.path / "key")
        self.key, self.size_bytes = key, size_bytes

    def unsettle(self) -> None:
        """From now on the slot holds nothing that anybody may rely on."""
        (self.path / "key").unlink(missing_ok=True)
        self.key = ""


class Slots:
    """The slots of a data-root. Safe from any thread."""

    def __init__(self, root: Path, throw: Callable[[Path], None], kept_bytes: int = KEPT_BYTES) -> None:
        """`throw` takes a directory away at once, and removes it behind our back."""
        self._root = root
        self._throw = throw
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._idle: list[Slot] = []
        """The least recently used first."""
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        spread_children(root)
        self._look_around()

    def take(self, key: str) -> Slot | None:
        """The slot that holds `key` and that nobody uses; it is then the caller's."""
        with self._lock:
            for slot in self._idle:
                if slot.key == key:
                    self._idle.remove(slot)
                    return slot
        return None

    def new(self) -> Slot:
        """A new empty slot. Raises SystemFailure."""
        slot = Slot(self._root / os.urandom(8).hex())
        try:
            slot.path.mkdir(mode=0o700)
            slot.tree.mkdir(mode=0o755)
            slot.tree.chmod(0o755)
            slot.index.touch(mode=0o600)
        except OSError as error:
            raise SystemFailure(f"cannot make {slot.path}: {error.strerror}") from error
        return slot

    def give_back(self, slot: Slot) -> None:
        """End the use of a slot: one that holds something is kept, another goes."""
        if not slot.key:
            self._throw(slot.path)
            return
        with self._lock:
            twins = [each for each in self._idle if each.key == slot.key]
            self._idle = [each for each in self._idle if each not in twins]
            self._idle.append(slot)
            doomed = twins
            while self._idle and (self._taken() > self._kept_bytes or len(self._idle) > _KEPT_SLOTS):
                doomed.append(self._idle.pop(0))
        for each in doomed:
            self._throw(each.path)

    def prune(self) -> int:
        """Throw away everything that no build uses. Returns the bytes."""
        with self._lock:
            doomed, self._idle = self._idle, []
        for slot in doomed:
            self._throw(slot.path)
        return sum(slot.size_bytes for slot in doomed)

    @property
    def idle_bytes(self) -> int:
        """What is kept between builds."""
        with self._lock:
            return self._taken()

    def scratch_file(self) -> int:
        """A file without a name on the same file system."""
        return os.open(self._root, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def scratch_copy(self, fill: Callable[[int], object]) -> int | None:
        """A scratch file that `fill` has written, to be read from its beginning; None when that raises NotFound."""
        fd = self.scratch_file()
        try:
            fill(fd)
            os.lseek(fd, 0, os.SEEK_SET)
        except NotFound:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _taken(self) -> int:
        return sum(slot.size_bytes for slot in self._idle)

    def _look_around(self) -> None:
        """Find what an earlier daemon left; what it left unfinished goes."""
        found: list[tuple[float, Slot]] = []
        for path in self._root.iterdir():
            slot = Slot(path)
            try:
                size, _, slot.key = (path / "key").read_text(encoding="utf-8").partition(" ")
                slot.size_bytes = int(size)
                found.append(((path / "key").stat().st_mtime, slot))
            except (OSError, ValueError):
                self._throw(path)
        self._idle = [slot for _, slot in sorted(found, key=lambda each: each[0])]
