"""Files of control groups that go away while they are used, as scopes of systemd's do when their last process has ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from carrack.runtime import cgroups
from carrack.runtime.cgroups.directories import read_file, write_file


@pytest.fixture
def group() -> Iterator[Path]:
    layout = cgroups.detect()
    root = Path(layout.unified if layout.version == 2 else "/sys/fs/cgroup/pids")
    path = root / f"carrack-test-{os.getpid()}"
    path.mkdir()
    yield path
    if path.exists():
        path.rmdir()


@pytest.mark.parametrize("use", [read_file, lambda path: write_file(path, "0")], ids=["read", "written"])
def test_a_group_that_is_removed_while_its_file_is_open_is_not_there(
    group: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[[str], object]
) -> None:
    opened = os.open

    def open_and_lose(path: str, flags: int) -> int:
        fd = opened(path, flags)
        group.rmdir()
        return fd

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", open_and_lose)
        with pytest.raises(FileNotFoundError):
            use(f"{group}/cgroup.procs")
