"""Fixtures of the network tests: see lab.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.network.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A fresh world; the test's thread stands in the machine."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    world = Lab(tmp_path)
    try:
        yield world
    finally:
        world.close()
