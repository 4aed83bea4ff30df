"""Metrics and positions as training loops give them: taken as they are meant, or refused alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from manager_helpers import new_manager, new_session
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.errors import ConfigError, UnsavableError


def plain_manager(folder: Path) -> CheckpointManager:
    """A quiet manager of one small model."""
    return CheckpointManager(CheckpointConfig(str(folder), progress=False), nn.Linear(2, 2))


@pytest.mark.parametrize("bad", [object(), {"deep": [object()]}, lambda: 1.0])
def test_a_metric_that_cannot_be_saved_spoils_no_later_save(tmp_path: Path, bad: object) -> None:
    """It is refused by name, and leaves no trace in the history that later checkpoints carry."""
    manager = plain_manager(tmp_path)
    with pytest.raises(UnsavableError, match=r"metrics\.odd"):
        manager.save(0, 1, {"val_loss": 1.0, "odd": bad})
    assert manager.save(0, 1, {"val_loss": 1.0}) is not None
    assert manager.load()["metrics_history"] == [
        {"epoch": 0, "global_step": 1, "metrics": {"val_loss": 1.0}}
    ]


def test_metrics_that_change_afterwards_do_not_change_the_past(tmp_path: Path) -> None:
    """The history holds what was given then, tensors and lists included."""
    manager = plain_manager(tmp_path)
    losses, counts = [1.0], torch.ones(2)
    manager.save(0, 1, {"losses": losses, "counts": counts})
    losses.append(2.0)
    counts.add_(1)
    manager.save(0, 2, {})
    (first, _) = manager.load()["metrics_history"]
    assert first["metrics"]["losses"] == [1.0]
    assert torch.equal(first["metrics"]["counts"], torch.ones(2))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (True, 1.0),
        (np.bool_(True), 1.0),
        (torch.tensor(False), 0.0),
        (np.float32(0.5), 0.5),
        (torch.tensor([2.5]), 2.5),
        (10**400, None),
        (1 + 2j, None),
        ("0.5", None),
    ],
)
def test_what_is_one_number_is_ranked_as_one(
    tmp_path: Path, value: object, number: float | None
) -> None:
    """Booleans, NumPy and torch scalars count; what no float can hold is kept but not ranked."""
    manager = plain_manager(tmp_path)
    manager.save(0, 1, {"metric": value})
    (info,) = manager.checkpoints()
    assert info.metrics.get("metric") == number


@pytest.mark.parametrize("step", [np.int64(7), torch.tensor(7), 7])
def test_whole_numbers_of_any_kind_are_steps(tmp_path: Path, step: Any) -> None:
    """NumPy and torch integers name the checkpoint and stand in the manifest as plain ones."""
    path = plain_manager(tmp_path).save(np.int32(1), step)
    assert path is not None
    manifest = json.loads((path / "manifest.json").read_text())
    assert (manifest["epoch"], manifest["global_step"]) == (1, 7)


@pytest.mark.parametrize("bad", [1.0, "1", None, -1, 1 << 60, torch.tensor([1, 2])])
def test_what_is_no_count_is_refused_before_anything_is_written(tmp_path: Path, bad: Any) -> None:
    """The error names the argument; no file is made and the history stays empty."""
    manager = new_manager(tmp_path / "run", new_session())
    with pytest.raises(ConfigError, match="step"):
        manager.save(0, bad, {"val_loss": 1.0})
    with pytest.raises(ConfigError, match="epoch"):
        manager.save(bad, 1, {"val_loss": 1.0})
    assert not (tmp_path / "run").exists()


def test_names_that_are_no_text_are_refused_and_other_strings_are_kept(tmp_path: Path) -> None:
    """Half of a surrogate pair cannot name a metric; as a value it comes back as it was."""
    manager = plain_manager(tmp_path)
    with pytest.raises(UnsavableError, match="surrogate"):
        manager.save(0, 1, {"loss\udc80": 1.0})
    with pytest.raises(UnsavableError, match="surrogate"):
        manager.save(0, 1, {"loss\udc80": "text"})
    path = manager.save(0, 1, {"val_loss": 1.0, "remark": "odd \udc80 byte"})
    assert path is not None
    assert manager.load()["metrics"]["remark"] == "odd \udc80 byte"
    line = json.loads((tmp_path / "history.jsonl").read_text().splitlines()[0])
    assert line["metrics"]["remark"] == "odd \\udc80 byte"


def test_a_command_line_that_is_no_text_does_not_stop_a_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes of an argument that are no text stand escaped in the record."""
    monkeypatch.setattr("sys.argv", ["train.py", "--data=\udce9t\udce9"])
    path = plain_manager(tmp_path).save(0, 1)
    assert path is not None
    record = json.loads((path / "manifest.json").read_text())
    assert record["provenance"]["command"] == ["train.py", "--data=\\udce9t\\udce9"]
