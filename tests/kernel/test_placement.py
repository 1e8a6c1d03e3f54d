"""Directories that come and go are spread over the disk."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from carrack.kernel.placement import spread_children


def test_ext4_is_told_and_others_need_nothing(tmp_path: Path) -> None:
    took = spread_children(tmp_path)
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(tmp_path)], capture_output=True, text=True, check=True).stdout.strip()
    assert took is (kind == "ext2/ext3")
    if took:
        flags = subprocess.run(["lsattr", "-d", str(tmp_path)], capture_output=True, text=True, check=True).stdout.split()[0]
        assert "T" in flags
    assert spread_children(tmp_path) is took  # again changes nothing


def test_a_place_that_is_none_is_no_accident(tmp_path: Path) -> None:
    assert not spread_children(tmp_path / "none")
    (tmp_path / "file").touch()
    assert not spread_children(os.fspath(tmp_path / "file"))
