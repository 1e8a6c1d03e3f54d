"""What several files of these tests share beside tests/conftest.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.registry.live_registry import LiveRegistry


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The address of a registry that anyone may write to."""
    server = LiveRegistry(tmp_path / "registry")
    yield f"127.0.0.1:{server.ports[0]}"
    server.close()
