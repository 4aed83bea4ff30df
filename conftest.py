"""Fixtures and reporting for all tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_SHARED_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 1 << 30


@pytest.fixture
def ground() -> Iterator[Path]:
    """An empty folder in memory, where a flush costs nothing; elsewhere if there is no room.

    What is proven there does not depend on the disk: a killed process loses nothing the kernel has,
    and power losses are replayed from a record.
    """
    folder = Path(tempfile.mkdtemp(prefix="holdfast-proof-", dir=_fast_place()))
    yield folder
    shutil.rmtree(folder)


def _fast_place() -> Path | None:
    try:
        room = shutil.disk_usage(_SHARED_MEMORY).free
    except OSError:
        return None
    return _SHARED_MEMORY if room >= _ROOM_BYTES and os.access(_SHARED_MEMORY, os.W_OK) else None


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Takes a line of figures that is to stand at the end of the test run."""
    return lambda line: record_property("figures", line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the lines of figures, those of worker processes included."""
    lines = [
        str(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", None) == "call"
        for key, value in report.user_properties
        if key == "figures"
    ]
    if lines:
        terminalreporter.section("figures")
        for line in sorted(lines):
            terminalreporter.line(line)
