"""The contract of `registry.storage.Storage`, run by every store."""

from __future__ import annotations

from pathlib import Path

import pytest

from carrack.registry.storage import Storage
from carrack.registry.storage.filesystem import FilesystemStorage
from carrack.registry.storage.memory import MemoryStorage
from tests.contract.registry.storage_contract import StorageContract


class TestFilesystem(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return FilesystemStorage(str(tmp_path))


class TestMemory(StorageContract):
    @pytest.fixture
    def storage(self) -> Storage:
        return MemoryStorage()
