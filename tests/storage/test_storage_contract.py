"""Every storage of ours keeps the contract."""

from pathlib import Path

import pytest

from holdfast.storage import LocalRun, MemoryRun
from holdfast.testing.storage_contract import StorageContract


class TestLocalRun(StorageContract):
    """A local folder keeps the contract."""

    @pytest.fixture
    def run(self, tmp_path: Path) -> LocalRun:
        """A run whose folder does not exist yet."""
        return LocalRun(tmp_path / "runs" / "one")


class TestMemoryRun(StorageContract):
    """The test double keeps the contract."""

    @pytest.fixture
    def run(self) -> MemoryRun:
        """An empty run with room for a mebibyte."""
        return MemoryRun(capacity_bytes=1 << 20)
