"""A range of EMA lengths from one finished run, each evaluated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from posthoc_runs import finished_run, walk
from torch import Tensor

from holdfast import sweep_ema
from holdfast.errors import ConfigError
from holdfast.stats import SufficientStatistics, mean_scores

LENGTHS = [0.05, 0.10, 0.15, 0.20]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 32 snapshots."""
    folder = tmp_path_factory.mktemp("run")
    finished_run(folder, walk(320), saves=32)
    return folder


def per_example(state: dict[str, Tensor]) -> SufficientStatistics:
    """Squared distance of the weight from each of 200 noisy copies of a point on the way."""
    noise = torch.randn(200, 6, generator=torch.Generator().manual_seed(3))
    losses = (walk(320)[270] + 0.5 * noise - state["weight"]).square().sum(1)
    return mean_scores(losses.numpy(), name="loss", higher_is_better=False)


def test_each_length_has_a_score_an_interval_and_its_place(run: Path) -> None:
    """One best, a tie set, and a table, JSON and columns to plot of the same numbers."""
    sweep = sweep_ema(run, per_example, LENGTHS, together=3)
    assert [point.sigma_rel for point in sweep.points] == LENGTHS
    assert all(p.low is not None and p.high is not None for p in sweep.points)
    assert sweep.best.score == min(point.score for point in sweep.points)
    assert sweep.best.tied
    assert not all(point.tied for point in sweep.points)
    assert sum("best" in line for line in str(sweep).splitlines()) >= 1
    record = json.loads(sweep.to_json())
    assert [row["score"] for row in record["points"]] == sweep.plot_data()["y"]
    assert record["comparison"]["best"] == f"{sweep.best.sigma_rel:g}"


def test_how_many_are_held_at_once_changes_nothing(run: Path) -> None:
    """One by one or together, the scores are equal bit for bit."""
    alone = sweep_ema(run, per_example, LENGTHS, together=1)
    assert alone.plot_data() == sweep_ema(run, per_example, LENGTHS, together=4).plot_data()


def test_plain_scores_give_a_best_without_intervals(run: Path) -> None:
    """In the direction that was said; NaN never wins, it is refused."""
    sweep = sweep_ema(
        run, lambda state: float(state["weight"].sum()), LENGTHS, higher_is_better=False
    )
    assert sweep.comparison is None
    assert sweep.best.score == min(np.array(sweep.plot_data()["y"], dtype=float))
    with pytest.raises(ConfigError, match="NaN"):
        sweep_ema(run, lambda state: float("nan"), LENGTHS)


def test_lengths_beyond_what_the_snapshots_allow_are_refused_before_reading(run: Path) -> None:
    """With the predicted error of each."""
    with pytest.raises(ConfigError, match="predicted profile error"):
        sweep_ema(run, per_example, [0.005, 0.1])
    with pytest.raises(ConfigError, match="no lengths"):
        sweep_ema(run, per_example, [])
