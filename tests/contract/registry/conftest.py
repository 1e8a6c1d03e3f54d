"""Running registries for the tests of this folder."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.registry.live_registry import Client, LiveRegistry

_numbers = itertools.count()


@pytest.fixture(scope="session")
def shared_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveRegistry]:
    """One open registry for all tests that keep to a repository of their own."""
    registry = LiveRegistry(tmp_path_factory.mktemp("registry") / "root")
    yield registry
    registry.close()


@pytest.fixture
def client(shared_registry: LiveRegistry) -> Client:
    return shared_registry.client


@pytest.fixture
def repo() -> str:
    """A repository name that no other test uses."""
    return f"test/r{next(_numbers)}"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., LiveRegistry]]:
    """Starts registries with the given options; all end with the test."""
    running: list[LiveRegistry] = []

    def start_one(*options: str, root: Path | None = None) -> LiveRegistry:
        running.append(LiveRegistry(root or tmp_path / f"root{len(running)}", *options))
        return running[-1]

    yield start_one
    for registry in running:
        registry.close()
