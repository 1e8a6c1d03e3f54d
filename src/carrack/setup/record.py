"""What an installation has put on the machine, written down before it is done, so that an uninstall finds every piece."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from carrack.setup.places import RECORD


@dataclass(slots=True)
class Record:
    """Files, links and folders by path; what else was made."""

    files: list[str] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)
    packages: list[str] = field(default_factory=list)
    """Of Debian, that were not there before."""
    group: bool = False
    changes: int = 0
    """In this run."""

    @classmethod
    def read(cls) -> Record:
        """The one on disk; an empty one when nothing is installed."""
        try:
            found = json.loads(RECORD.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return cls()
        return cls(**{**found, "changes": 0})

    def save(self) -> None:
        """Write the record, whole or not at all."""
        RECORD.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        scratch = RECORD.with_suffix(".new")
        document = {name: value for name, value in asdict(self).items() if name != "changes"}
        scratch.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        scratch.replace(RECORD)

    def put_file(self, path: Path, content: str) -> None:
        """Write a file unless it says that already."""
        self.note_file(path)
        if path.is_file() and not path.is_symlink() and path.read_text(encoding="utf-8", errors="replace") == content:
            return
        scratch = path.with_name(f".{path.name}.carrack-new")
        scratch.write_text(content, encoding="utf-8")
        scratch.chmod(0o644)
        scratch.replace(path)
        self.changes += 1

    def put_link(self, path: Path, target: Path) -> None:
        """Point a link at a target in one step, unless it points there already."""
        self.note_file(path)
        if path.is_symlink() and os.readlink(path) == str(target):
            return
        scratch = path.with_name(f".{path.name}.carrack-new")
        scratch.unlink(missing_ok=True)
        scratch.symlink_to(target)
        scratch.replace(path)
        self.changes += 1

    def note_file(self, path: Path) -> None:
        """Write down that this path will be ours, and the folders above it that are not there yet."""
        missing = []
        parent = path.parent
        while not parent.exists():
            missing.append(str(parent))
            parent = parent.parent
        new = [each for each in missing if each not in self.directories]
        if str(path) not in self.files or new:
            self.directories += new
            if str(path) not in self.files:
                self.files.append(str(path))
            self.save()
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)

    def remove_all(self) -> None:
        """Take away every file, then the folders that were not there before and are empty now."""
        for name in self.files:
            Path(name).unlink(missing_ok=True)
        for name in sorted(self.directories, key=len, reverse=True):
            try:
                Path(name).rmdir()
            except OSError:
                pass  # somebody else keeps something there
