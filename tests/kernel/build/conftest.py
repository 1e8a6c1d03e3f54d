"""One zygote for the folder's tests, and trees to copy between."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrack.shim.zygote_process import dismiss_zygote, spawn_zygote
from tests.kernel.build.trees import Yard


@pytest.fixture(scope="package")
def zygote_socket() -> Iterator[str]:
    if os.geteuid():
        pytest.skip("needs root")
    root = Path(tempfile.mkdtemp(prefix="build-", dir="/tmp"))
    (root / "shims").mkdir()
    zygote = spawn_zygote(str(root))
    try:
        yield zygote.socket_path
    finally:
        dismiss_zygote(zygote.socket_path)
        shutil.rmtree(root)


@pytest.fixture
def yard(zygote_socket: str, tmp_path: Path) -> Yard:
    return Yard(zygote_socket, tmp_path)
