"""Mirroring to trackers: what reaches TensorBoard's files, and that no tracker can hurt a save."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from holdfast import CheckpointConfig, CheckpointManager
from holdfast.errors import ConfigError, HoldfastWarning
from holdfast.trackers import MLflowTracker, TensorBoardTracker, TrackerMirror, WandbTracker
from holdfast.values import CheckpointInfo

SELECTION = {
    "schema": "holdfast-select/1",
    "candidates": [{"name": "last", "score": 30.0}, {"name": "average of 3", "score": 31.0}],
    "recommendation": {"name": "average of 3", "reason": "the best score"},
}


def train(folder: Path, mirror: TrackerMirror, losses: list[float], **options: Any) -> None:
    """Save once for each loss, telling the mirror."""
    torch.manual_seed(0)
    config = CheckpointConfig(str(folder), progress=False, **options)
    with CheckpointManager(
        config, nn.Linear(2, 2), on_commit=mirror.on_commit, on_failure=mirror.on_failure
    ) as manager:
        for step, loss in enumerate(losses, start=1):
            manager.save(0, 10 * step, {"val_loss": loss, "lr": 0.1})


class Notebook:
    """A tracker that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def saved(self, path: Path, info: CheckpointInfo, cost: Mapping[str, Any]) -> None:
        """The step, and whether the cost came along."""
        self.told.append(("saved", (info.global_step, "write_seconds" in cost)))

    def best(self, metric: str, path: Path, info: CheckpointInfo) -> None:
        """The metric and step."""
        self.told.append(("best", (metric, info.global_step)))

    def failed(self, path: Path, error: BaseException) -> None:
        """The kind of error."""
        self.told.append(("failed", type(error).__name__))

    def selected(self, selection: Mapping[str, Any]) -> None:
        """Who was chosen."""
        self.told.append(("selected", selection["recommendation"]["name"]))

    def close(self) -> None:
        """That it ended."""
        self.told.append(("closed", None))


class Broken(Notebook):
    """A tracker whose server is away."""

    def saved(self, path: Path, info: CheckpointInfo, cost: Mapping[str, Any]) -> None:
        """Fails."""
        raise ConnectionError("no route to the tracker")


@pytest.mark.parametrize("async_save", [False, True])
def test_saves_and_bests_are_told_in_order(tmp_path: Path, async_save: bool) -> None:
    """Each save once, with its cost; a best when there is a new one, never for NaN."""
    notebook = Notebook()
    with TrackerMirror([notebook]) as mirror:
        train(tmp_path, mirror, [3.0, math.nan, 2.0, 2.5], async_save=async_save)
        mirror.selected(SELECTION)
    assert notebook.told == [
        ("saved", (10, True)),
        ("best", ("val_loss", 10)),
        ("saved", (20, True)),
        ("saved", (30, True)),
        ("best", ("val_loss", 30)),
        ("saved", (40, True)),
        ("selected", "average of 3"),
        ("closed", None),
    ]


def test_a_restart_does_not_make_a_new_best_of_a_worse_one(tmp_path: Path) -> None:
    """The mirror ranks among the checkpoints there are, not among those it has seen."""
    train(tmp_path, TrackerMirror([Notebook()]), [1.0])
    notebook = Notebook()
    mirror = TrackerMirror([notebook])
    config = CheckpointConfig(str(tmp_path), progress=False)
    with CheckpointManager(config, nn.Linear(2, 2), on_commit=mirror.on_commit) as manager:
        manager.resume(verbose=False)
        manager.save(0, 20, {"val_loss": 2.0})
    assert notebook.told == [("saved", (20, True))]


def test_a_tracker_that_fails_costs_a_warning_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its first failure is warned of, others are told all the same, and every save stands."""
    notebook = Notebook()
    mirror = TrackerMirror([Broken(), notebook])
    with pytest.warns(HoldfastWarning, match="no route to the tracker") as warned:
        train(tmp_path, mirror, [3.0, 2.0, 1.0])
    assert len(warned) == 1
    assert [what for what, _ in notebook.told].count("saved") == 3
    assert len(list(tmp_path.glob("checkpoint_*/manifest.json"))) == 3


def test_failed_saves_are_told(tmp_path: Path) -> None:
    """A save that fails reaches the trackers with its error."""
    notebook = Notebook()
    mirror = TrackerMirror([notebook])
    config = CheckpointConfig(str(tmp_path / "run"), progress=False, save_retries=0)
    (tmp_path / "run").write_text("in the way")
    manager = CheckpointManager(config, nn.Linear(2, 2), on_failure=mirror.on_failure)
    mirror.on_failure(tmp_path, OSError("a disk"))
    assert notebook.told == [("failed", "OSError")]
    assert manager.stats.totals()["saves"] == 0


def test_tensorboard_files_hold_every_save_best_and_selection(tmp_path: Path) -> None:
    """What TensorBoard's own reader finds in its files is what was saved."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with TrackerMirror([TensorBoardTracker(tmp_path / "tb")]) as mirror:
        train(tmp_path / "run", mirror, [3.0, math.nan, 2.0])
        mirror.selected(SELECTION)
    found = EventAccumulator(str(tmp_path / "tb"))
    found.Reload()

    def curve(name: str) -> list[tuple[int, float]]:
        return [(event.step, event.value) for event in found.Scalars(name)]

    assert curve("holdfast/val_loss") == [(10, 3.0), (30, 2.0)]
    assert curve("holdfast/best/val_loss") == [(10, 3.0), (30, 2.0)]
    assert [step for step, _ in curve("holdfast/save/write_seconds")] == [10, 20, 30]
    assert curve("holdfast/selection/average of 3") == [(30, 31.0)]
    texts = found.Tensors("holdfast/selected/text_summary")
    assert b"average of 3: the best score" in texts[0].tensor_proto.string_val[0]


class FakeMLflowClient:
    """Takes the calls that `mlflow.MlflowClient` takes; there is no MLflow in this test."""

    def __init__(self, tracking_uri: str | None = None) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((name, *arguments, *options.values()))
            return _Run() if name == "create_run" else None if name.startswith("get_") else "7"

        return call


class _Run:
    class info:
        """What a run says of itself."""

        run_id = "r1"


class FakeWandbRun:
    """Takes the calls that a `wandb` run takes; there is no W&B in this test."""

    def __init__(self) -> None:
        self.logged: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        """An axis."""

    def log(self, values: dict[str, Any]) -> None:
        """A row."""
        self.logged.append(values)

    def finish(self) -> None:
        """The end of a run that was started here."""


def test_mlflow_is_told_by_its_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a fake of its client: metrics at steps, tags for the newest, the best and the chosen."""
    import sys
    import types

    fake = types.ModuleType("mlflow")
    clients: list[FakeMLflowClient] = []

    def make(tracking_uri: str | None = None) -> FakeMLflowClient:
        clients.append(FakeMLflowClient())
        return clients[-1]

    fake.MlflowClient = make  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    with TrackerMirror([MLflowTracker(tracking_uri="file:///nowhere")]) as mirror:
        train(tmp_path, mirror, [3.0, math.inf])
        mirror.selected(SELECTION)
    calls = clients[0].calls
    assert ("log_metric", "r1", "holdfast/val_loss", 3.0, 10) in calls
    assert ("set_tag", "r1", "holdfast.selected", "average of 3: the best score") in calls
    assert not any(value == math.inf for call in calls for value in call)
    assert calls[-1][0] == "set_terminated"
    json.dumps([call for call in calls if call[0] != "log_dict"])


def test_wandb_is_told_by_its_run(tmp_path: Path) -> None:
    """With a fake of its run: rows with the global step as their axis, and a summary."""
    run = FakeWandbRun()
    with TrackerMirror([WandbTracker(run)]) as mirror:
        train(tmp_path, mirror, [3.0, 4.0])
        mirror.selected(SELECTION)
    steps = [row["holdfast/step"] for row in run.logged]
    assert steps == [10, 10, 20]
    assert run.summary["holdfast/best/val_loss/checkpoint"].endswith("step00000010")
    assert run.summary["holdfast/selected"] == "average of 3: the best score"


def test_a_client_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a tracker without its client says what to install; importing holdfast needs none."""
    import sys

    for name in ("mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match="mlflow-skinny"):
        MLflowTracker()
    with pytest.raises(ConfigError, match="wandb"):
        WandbTracker(mode="offline")
    with pytest.raises(ConfigError, match="no tracker"):
        TrackerMirror([])
    with pytest.raises(ConfigError, match="direction"):
        TrackerMirror([Notebook()], track={"loss": "low"})
