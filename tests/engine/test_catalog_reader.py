"""A run that is listed again and again: little is read, and nothing that changed is missed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.engine.catalog import CatalogReader, read_catalog
from holdfast.storage import LocalRun
from holdfast.storage.memory import MemoryRun
from holdfast.storage.opened import LocalOpened


class CountingRun(LocalRun):
    """Counts how many checkpoints are opened."""

    opened = 0

    def open(self, name: str) -> LocalOpened:
        """Open one."""
        self.opened += 1
        return super().open(name)


@pytest.fixture
def manager(tmp_path: Path) -> CheckpointManager:
    """A run of three checkpoints."""
    torch.manual_seed(0)
    config = CheckpointConfig(str(tmp_path), progress=False, provenance=False)
    manager = CheckpointManager(config, nn.Linear(2, 2))
    for step in range(3):
        manager.save(0, step, {"val_loss": 1.0 - step / 10})
    return manager


def test_manifests_are_read_once(tmp_path: Path, manager: CheckpointManager) -> None:
    """A second listing opens only what is new."""
    run = CountingRun(tmp_path)
    reader = CatalogReader(run)
    first = reader.read()
    assert (run.opened, len(first.entries)) == (3, 3)
    manager.save(0, 3, {"val_loss": 0.5})
    assert [e.name for e in reader.read().entries] == [e.name for e in read_catalog(run).entries]
    assert run.opened == 4 + 4


def test_what_other_processes_change_is_seen(tmp_path: Path, manager: CheckpointManager) -> None:
    """Metrics and pins that were added, and checkpoints that are gone or damaged."""
    reader = CatalogReader(CountingRun(tmp_path))
    names = [entry.name for entry in reader.read().entries]
    other = CheckpointManager(CheckpointConfig(str(tmp_path), progress=False), nn.Linear(2, 2))
    other.record(names[0], {"test_bleu": 27.5})
    other.pin(names[1], "for the paper")
    found = {info.name: info for info in reader.read().infos}
    assert found[names[0]].metrics["test_bleu"] == 27.5
    assert found[names[1]].pinned == "for the paper"
    LocalRun(tmp_path).discard(names[2])
    (tmp_path / names[0] / "manifest.json").write_bytes(b"{}")
    catalog = reader.read()
    assert [entry.name for entry in catalog.entries] == names[1:2]
    assert [item.name for item in catalog.unreadable] == names[:1]


class LateRun(LocalRun):
    """A place that tells of changes late, as network file systems may."""

    def stamp(self, name: str, file: str) -> object:
        """Always the same."""
        return 0


def test_nothing_is_deleted_on_the_word_of_an_old_listing(
    tmp_path: Path, manager: CheckpointManager
) -> None:
    """What is about to be deleted is read anew, and a pin that came meanwhile is seen."""
    reader = CatalogReader(LateRun(tmp_path))
    before = reader.read()
    assert reader.still(before.entries)
    manager.pin(before.entries[0].name, "just now")
    assert reader.read().infos[0].pinned is None
    assert not reader.still(before.entries)
    assert reader.read().infos[0].pinned == "just now"


def test_a_place_without_stamps_is_read_each_time() -> None:
    """Where nothing tells of changes nothing is remembered."""
    assert CatalogReader(MemoryRun()).read().entries == ()
