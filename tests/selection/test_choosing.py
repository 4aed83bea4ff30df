"""Choosing checkpoints of a run, and the original call that did so by loading them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from selection_helpers import damage, save_run
from torch import nn

from holdfast import ModelSelector
from holdfast.errors import (
    CheckpointNotFoundError,
    ConfigError,
    HoldfastWarning,
    LoadError,
    PolicyError,
)
from holdfast.selection import last_k, spaced, top_k

METRICS = [
    {"val_loss": 3.0, "val_bleu": 10.0},
    {"val_loss": 1.0, "val_bleu": 29.0},
    {"val_loss": 2.0, "val_bleu": 31.0},
    {"val_loss": 1.0, "val_bleu": 30.0},
    {"val_loss": math.nan},
]


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Five checkpoints, ten steps apart."""
    return save_run(tmp_path / "run", nn.Linear(2, 2), 5, metrics=METRICS)


def test_the_original_call_ranks_by_manifests_alone(paths: list[Path]) -> None:
    """Weights are not even looked at; what cannot be ranked is reported."""
    for path in paths:
        (path / "model.safetensors").unlink()
    with pytest.warns(HoldfastWarning, match=r"step00000040: val_loss is nan"):
        assert ModelSelector.select_top_k_by_metric(paths, k=2) == [paths[3], paths[1]]
    with pytest.warns(HoldfastWarning, match="val_bleu is missing"):
        chosen = ModelSelector().select_top_k_by_metric(
            [str(path) for path in paths], metric_name="val_bleu", mode="max", k=9
        )
    assert chosen == [paths[i] for i in (2, 3, 1, 0)]


def test_original_files_are_ranked_by_the_metrics_inside(tmp_path: Path, paths: list[Path]) -> None:
    """`.pt` files and folders may be mixed; numbers may be tensors or NumPy's."""
    for name, value in (("a", 0.5), ("b", torch.tensor(2.5))):
        content = {"model_state_dict": {}, "metrics": {"val_loss": value}, "global_step": 1}
        torch.save(content, tmp_path / f"{name}.pt")
    chosen = ModelSelector.select_top_k_by_metric(
        [paths[2], tmp_path / "a.pt", tmp_path / "b.pt"], k=3
    )
    assert chosen == [tmp_path / "a.pt", paths[2], tmp_path / "b.pt"]


def test_the_original_call_refuses_what_cannot_work(tmp_path: Path, paths: list[Path]) -> None:
    """A metric nobody has, a wrong direction, nothing to choose from, damage, a wrong path."""
    select = ModelSelector.select_top_k_by_metric
    with pytest.raises(PolicyError, match="val_loss"):
        select(paths, metric_name="accuracy", mode="max")
    with pytest.raises(PolicyError):
        select(paths, mode="lowest")
    with pytest.raises(ConfigError):
        select([])
    with pytest.raises(ConfigError):
        select(paths, k=0)
    with pytest.raises(CheckpointNotFoundError):
        select([tmp_path / "gone"])
    damage(paths[0], "manifest.json")
    with pytest.raises(LoadError):
        select(paths)


def test_choosing_from_a_run(tmp_path: Path, paths: list[Path]) -> None:
    """The last, the best within bounds, evenly spaced ones."""
    run = tmp_path / "run"
    assert last_k(run, 2) == paths[3:]
    assert last_k(run, 99) == paths
    assert top_k(run, "val_loss", "min", 1, subject_to=["val_bleu >= 30"]) == [paths[3]]
    assert spaced(run, 3, 20) == [paths[0], paths[2], paths[4]]
    assert spaced(run, 2, 15) == [paths[2], paths[4]]
    assert spaced(run, 2, 1000) == [paths[4]]


def test_choosing_what_is_not_there_is_an_error(tmp_path: Path, paths: list[Path]) -> None:
    """An empty run, no one within the bounds, counts that are no counts."""
    run = tmp_path / "run"
    assert paths
    with pytest.raises(CheckpointNotFoundError):
        last_k(tmp_path / "empty", 3)
    with pytest.raises(PolicyError, match="No checkpoint qualifies"):
        top_k(run, "val_loss", "min", 1, subject_to=["val_bleu > 99"])
    with pytest.raises(ConfigError):
        last_k(run, 0)
    with pytest.raises(ConfigError):
        spaced(run, 1, 0)
