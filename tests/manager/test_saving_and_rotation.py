"""Saving: what is kept, what is best, what is newest, and what a second save of a step means."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from manager_helpers import new_manager, new_session

from holdfast import CheckpointConfig
from holdfast.errors import CheckpointNotFoundError, ConfigError, HoldfastWarning, UnsavableError


def steps(manager_checkpoints: list[object]) -> list[int]:
    """The global steps of a listing."""
    return [info.global_step for info in manager_checkpoints]  # type: ignore[attr-defined]


def test_a_save_returns_the_folder_it_committed(tmp_path: Path) -> None:
    """The path that save returns is a complete checkpoint named by epoch and step."""
    manager = new_manager(tmp_path, new_session())
    path = manager.save(1, 10, {"val_loss": 2.0})
    assert path == tmp_path / "checkpoint_epoch0001_step00000010"
    assert (path / "manifest.json").is_file()
    assert manager.get_latest_checkpoint() == path


def test_rotation_keeps_the_newest_and_every_tracked_best(tmp_path: Path) -> None:
    """The limit counts recent checkpoints; the best of each tracked metric stays beside them."""
    manager = new_manager(tmp_path, new_session(), save_total_limit=2, track={"bleu": "max"})
    losses = [3.0, 1.0, 2.0, 2.5, 2.6, 2.7]
    bleus = [1.0, 2.0, 9.0, 3.0, 4.0, 5.0]
    for step, (loss, bleu) in enumerate(zip(losses, bleus, strict=True)):
        manager.save(0, step, {"val_loss": loss, "bleu": bleu})
    assert steps(manager.checkpoints()) == [1, 2, 4, 5]  # type: ignore[arg-type]
    best_loss, best_bleu = manager.get_best_checkpoint(), manager.get_best_checkpoint("bleu")
    assert best_loss is not None
    assert best_bleu is not None
    assert best_loss.name.endswith("step00000001")
    assert best_bleu.name.endswith("step00000002")
    assert os.readlink(tmp_path / "latest").endswith("step00000005")
    assert os.readlink(tmp_path / "best-bleu").endswith("step00000002")


def test_the_best_survives_a_restart(tmp_path: Path) -> None:
    """A new manager over the same folder knows the best and does not rotate it away."""
    first = new_manager(tmp_path, new_session(), save_total_limit=1)
    first.save(0, 1, {"val_loss": 0.5})
    second = new_manager(tmp_path, new_session(), save_total_limit=1)
    second.resume(verbose=False)
    for step in (2, 3, 4):
        second.save(0, step, {"val_loss": 1.0})
    assert steps(second.checkpoints()) == [1, 4]  # type: ignore[arg-type]
    assert second.best_metric == 0.5


def test_latest_goes_by_step_and_not_by_file_time(tmp_path: Path) -> None:
    """Touching an old checkpoint does not make it the newest."""
    manager = new_manager(tmp_path, new_session())
    old = manager.save(0, 1, {"val_loss": 1.0})
    new = manager.save(0, 2, {"val_loss": 1.0})
    assert old is not None
    os.utime(old / "manifest.json", (2e9, 2e9))
    os.utime(old, (2e9, 2e9))
    assert manager.get_latest_checkpoint() == new


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_a_metric_that_is_no_number_never_wins_and_never_poisons(
    tmp_path: Path, value: float | None
) -> None:
    """Missing, NaN and infinite values are not best, before or after real ones."""
    manager = new_manager(tmp_path, new_session())
    odd = {} if value is None else {"val_loss": value}
    manager.save(0, 1, odd)
    assert manager.get_best_checkpoint() is None
    manager.save(0, 2, {"val_loss": 3.0})
    manager.save(0, 3, odd)
    manager.save(0, 4, {"val_loss": 2.0})
    best = manager.get_best_checkpoint()
    assert best is not None
    assert best.name.endswith("step00000004")
    assert manager.best_metric == 2.0


def test_save_best_only_skips_what_is_not_better_and_remembers_its_metrics(tmp_path: Path) -> None:
    """Only improvements are saved; the history holds every record all the same."""
    manager = new_manager(tmp_path, new_session(), save_best_only=True)
    assert manager.save(0, 1, {"val_loss": 2.0}) is not None
    assert manager.save(0, 2, {"val_loss": 2.0}) is None
    assert manager.save(0, 3, {"val_loss": math.nan}) is None
    assert manager.save(0, 4, {"val_loss": 1.0}) is not None
    history = manager.load()["metrics_history"]
    assert [record["global_step"] for record in history] == [1, 2, 3, 4]
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 4


def test_save_best_only_reports_a_missing_metric(tmp_path: Path) -> None:
    """A misspelt metric is said aloud instead of silently never saving."""
    manager = new_manager(tmp_path, new_session(), save_best_only=True)
    with pytest.warns(HoldfastWarning, match="no number named 'val_loss'.*valid_loss"):
        assert manager.save(0, 1, {"valid_loss": 2.0}) is None


@pytest.mark.parametrize(
    "options",
    [
        {"metric_mode": "minimum"},
        {"save_total_limit": 0},
        {"save_total_limit": True},
        {"track": {"bleu": "up"}},
        {"track": {"a/b": "max"}},
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused(options: dict[str, object]) -> None:
    """A wrong direction, limit or name is an error before anything is trained."""
    with pytest.raises(ConfigError, match="What to do"):
        CheckpointConfig(**options)  # type: ignore[arg-type]


def test_the_same_save_again_is_the_same_checkpoint(tmp_path: Path) -> None:
    """Retrying a save that had committed succeeds and leaves one checkpoint and one record."""
    manager = new_manager(tmp_path, new_session())
    first = manager.save(0, 1, {"val_loss": 1.0})
    assert manager.save(0, 1, {"val_loss": 1.0}) == first
    assert len(manager.checkpoints()) == 1
    assert len(manager.load()["metrics_history"]) == 1


def test_another_save_of_the_same_step_is_a_further_checkpoint(tmp_path: Path) -> None:
    """Other content under the same epoch and step gets a name of its own and counts as newer."""
    session = new_session()
    manager = new_manager(tmp_path, session)
    first = manager.save(0, 1, {"val_loss": 1.0})
    session.step()
    second = manager.save(0, 1, {"val_loss": 1.0})
    assert first is not None
    assert second == first.with_name(first.name + "_2")
    assert manager.get_latest_checkpoint() == second


def test_going_back_opens_a_branch_whose_saves_are_the_newest(tmp_path: Path) -> None:
    """After restoring an older checkpoint, lower steps are newer and rotation spares them."""
    session = new_session()
    manager = new_manager(tmp_path, session, save_total_limit=2)
    paths = [manager.save(0, step, {"val_loss": 1.0 + step}) for step in (10, 20, 30)]
    manager.load(paths[1])
    again = manager.save(0, 21, {"val_loss": 50.0})
    assert manager.get_latest_checkpoint() == again
    manager.save(0, 22, {"val_loss": 50.0})
    assert [i.global_step for i in manager.checkpoints()] == [10, 20, 21, 22]
    assert [parent.global_step for parent in manager.checkpoints()[-1].parents] == [20]


def test_a_fresh_session_in_a_used_folder_is_warned_of_and_counts_as_newer(tmp_path: Path) -> None:
    """Forgetting to resume does not let rotation delete the new session's checkpoints."""
    new_manager(tmp_path, new_session()).save(0, 1000, {"val_loss": 1.0})
    fresh = new_manager(tmp_path, new_session(1), save_total_limit=1)
    with pytest.warns(HoldfastWarning, match="did not resume"):
        path = fresh.save(0, 1, {"val_loss": 2.0})
    assert fresh.get_latest_checkpoint() == path


def test_a_value_that_cannot_be_saved_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    """The error names the value's path, and the run folder holds no trace of the attempt."""
    manager = new_manager(tmp_path, new_session())
    manager.save(0, 1, {"val_loss": 1.0})
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UnsavableError, match=r"extra_state.*hook"):
        manager.save(0, 2, {"val_loss": 1.0}, extra_state={"hook": lambda: None})
    with pytest.raises(UnsavableError, match="sparse"):
        manager.save(0, 2, {"val_loss": 1.0}, extra_state={"s": torch.eye(2).to_sparse()})
    assert sorted(tmp_path.iterdir()) == before
    assert manager.save(0, 2, {"val_loss": 1.0}) is not None


def test_metrics_may_be_tensors_and_other_numbers(tmp_path: Path) -> None:
    """One-element tensors and NumPy numbers are metrics; text beside them is kept."""
    manager = new_manager(tmp_path, new_session())
    manager.save(0, 1, {"val_loss": torch.tensor(1.5), "n": 3, "signature": "BLEU|v2"})
    assert manager.checkpoints()[0].metrics == {"val_loss": 1.5, "n": 3.0}
    assert manager.load()["metrics"] == {"val_loss": 1.5, "n": 3, "signature": "BLEU|v2"}


def test_asking_for_the_best_of_nothing_is_an_error_that_says_so(tmp_path: Path) -> None:
    """load_best without a finite metric names the metric and what to do instead."""
    manager = new_manager(tmp_path, new_session())
    manager.save(0, 1, {})
    with pytest.raises(CheckpointNotFoundError, match="finite value of 'val_loss'"):
        manager.load_best()
    with pytest.raises(FileNotFoundError):
        new_manager(tmp_path / "empty", new_session()).load()
