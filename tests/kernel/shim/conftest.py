"""One zygote for the whole folder; each test's containers are gone after it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kernel.shim.harness import Harness


@pytest.fixture(scope="package")
def house() -> Iterator[Harness]:
    if os.geteuid():
        pytest.skip("needs root")
    harness = Harness()
    try:
        yield harness
    finally:
        harness.close()


@pytest.fixture
def harness(house: Harness) -> Iterator[Harness]:
    yield house
    house.destroy_containers()
