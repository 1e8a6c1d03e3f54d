"""A yard with a source tree, a base and an upper directory: what a COPY step works on."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from carrack.oci.mount import Mount
from carrack.shim import messages as m
from carrack.shim.workers import run_job


def bind(path: Path) -> tuple[Mount, ...]:
    return (Mount("bind", str(path), options=("rbind", "ro")),)


class Yard:
    """Directories `context`, `base`, `upper`, and the jobs that go between them."""

    def __init__(self, zygote_socket: str, root: Path) -> None:
        self.zygote_socket = zygote_socket
        self.root = root
        self.context = root / "context"
        self.base = root / "base"
        self.upper = root / "upper"
        for path in (self.context, self.base, self.upper, root / "work"):
            path.mkdir()
            path.chmod(0o755)

    def write(self, *names: str, into: Path | None = None) -> None:
        """Files whose content is their own name; a trailing slash makes a directory."""
        for name in names:
            path = (into or self.context) / name
            if name.endswith("/"):
                path.mkdir(parents=True, exist_ok=True)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(name)

    @property
    def target(self) -> tuple[Mount, ...]:
        """Once: a volatile overlay does not give its directories to a second one."""
        shutil.rmtree(self.root / "work")
        (self.root / "work").mkdir()
        options = (f"upperdir={self.upper}", f"workdir={self.root}/work", "volatile")
        return (Mount("overlay", "overlay", "", options, (str(self.base),)),)

    def copy(self, source: str | Sequence[str | m.CopyInline], destination: str, **options: object) -> m.WorkerDone:
        """COPY from the context onto the base; options of a source and of the job alike."""
        of_source = {key: options.pop(key) for key in ("unpack", "keep_owner", "wildcards", "required") if key in options}
        given = [source] if isinstance(source, str) else source
        sources = tuple(each if isinstance(each, m.CopyInline) else m.CopySource(each, **of_source) for each in given)  # type: ignore[arg-type]
        job = m.CopyFiles(self.target, (bind(self.context),), sources, destination, **options)  # type: ignore[arg-type]
        return run_job(self.zygote_socket, job, ())

    def checksum(self, source: str, tree: Path | None = None, **options: object) -> str:
        job = m.Checksum(bind(tree or self.context), m.CopySource(source), **options)  # type: ignore[arg-type]
        return run_job(self.zygote_socket, job, ()).checksum

    def listing(self) -> dict[str, str]:
        """What the upper directory holds: path → content, ``-> target`` of a link, ``/`` of a directory."""
        return tree_of(self.upper)

    def mode(self, name: str) -> int:
        return stat.S_IMODE((self.upper / name).lstat().st_mode)

    def owner(self, name: str) -> tuple[int, int]:
        status = (self.upper / name).lstat()
        return status.st_uid, status.st_gid


def tree_of(root: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for directory, directories, files in os.walk(root):
        for name in directories + files:
            path = Path(directory, name)
            relative = str(path.relative_to(root))
            status = path.lstat()
            if stat.S_ISLNK(status.st_mode):
                found[relative] = f"-> {path.readlink()}"
            elif stat.S_ISDIR(status.st_mode):
                found[relative] = "/"
            elif stat.S_ISREG(status.st_mode):
                found[relative] = path.read_text(errors="replace")
            else:
                found[relative] = f"device {status.st_rdev}"
    return found
