"""Comparing a sharded checkpoint with what one process saved, and showing what is in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sharded_runs import save_sharded, session

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.cli.showing import show
from holdfast.compare import compare
from holdfast.engine.save import SaveReceipt
from holdfast.session import LiveObjects


@pytest.fixture(scope="module")
def objects() -> LiveObjects:
    """What was saved."""
    return session()


@pytest.fixture(scope="module")
def folder(objects: LiveObjects, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of three ranks."""
    run = tmp_path_factory.mktemp("run")
    (first, *_) = save_sharded(run, 3, objects)
    assert isinstance(first, SaveReceipt), first
    return run / first.name


def test_the_same_weights_are_the_same_however_many_ranks_saved_them(
    folder: Path, objects: LiveObjects, tmp_path: Path
) -> None:
    """Pieces are put together; a change of one element is found."""
    config = CheckpointConfig(str(tmp_path), progress=False, provenance=False)
    manager = CheckpointManager(config, objects.model, objects.optimizer)
    single = manager.save(0, 1)
    assert single is not None
    found = compare(folder, single, components=["model", "optimizer"])
    assert {tensor.status for tensor in found.tensors if not tensor.same} == set()
    assert compare(folder, folder, components=["model"]).same
    name, parameter = next(iter(objects.model.named_parameters()))
    with torch.no_grad():
        parameter.view(-1)[0] += 1
    changed = manager.save(0, 2)
    assert changed is not None
    different = compare(folder, changed, components=["model"]).different()
    assert [(t.name, t.numbers and t.numbers.changed) for t in different] == [(name, 1)]


def test_a_sharded_checkpoint_is_shown(folder: Path) -> None:
    """Its files and its tensors' pieces are listed."""
    shown = show(folder, ["*"])
    assert shown.tensors
    assert "sharded" in str(shown.as_data()["world"])
    assert shown.as_text()
