"""Sufficient statistics: what is accepted, what is refused, and what may be compared."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from holdfast.errors import ConfigError
from holdfast.stats import (
    SufficientStatistics,
    best_of,
    compare,
    compare_to_baseline,
    estimate,
    mean_scores,
    require_comparable,
)
from holdfast.stats._aggregates import FloatArray, WeightedMean


def test_the_score_of_mean_scores_is_their_mean() -> None:
    """Any per-example score becomes a system whose score is the mean."""
    system = mean_scores([1.0, 0.0, 1.0, 1.0], name="accuracy")
    assert (system.score, system.examples) == (0.75, 4)


def test_weights_make_a_weighted_mean() -> None:
    """Token counts as weights turn sentence losses into a loss per token."""
    assert mean_scores([2.0, 5.0], weights=[1, 3]).score == pytest.approx(17 / 4)


def test_the_values_are_a_read_only_copy() -> None:
    """Later changes of the caller's array change no result."""
    values = np.array([[1.0, 1.0], [3.0, 1.0]])
    system = SufficientStatistics(values, WeightedMean(), "mine")
    values[0, 0] = 100.0
    assert system.score == 2.0
    with pytest.raises(ValueError, match="read-only"):
        system.values[0, 0] = 1.0


@pytest.mark.parametrize(
    ("values", "weights", "message"),
    [
        ([], None, "at least one"),
        ([[1.0, 2.0]], None, r"shape \[1, 2\]"),
        ([1.0, float("nan"), 3.0], None, "Example 1 is .*nan.* 1 of 3"),
        ([1.0, float("inf")], None, "Example 1"),
        (["x", "y"], None, "not an array of numbers"),
        ([1.0, 2.0], [1.0], "2 scores but 1 weights"),
        ([1.0, 2.0], [1.0, 0.0], "weight of example 1 is 0.0"),
        ([1.0, 2.0], [1.0, float("nan")], "Example 1"),
    ],
)
def test_scores_that_cannot_be_averaged_are_refused(
    values: Any, weights: Any, message: str
) -> None:
    """Empty, NaN, infinite, ragged and weightless scores each get their own error."""
    with pytest.raises(ConfigError, match=message):
        mean_scores(values, weights=weights)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (mean_scores([1.0, 2.0]), mean_scores([1.0]), "2 examples and b has 1"),
        (mean_scores([1.0], name="loss"), mean_scores([1.0], name="bleu"), "scored differently"),
        (
            mean_scores([1.0]),
            mean_scores([1.0], higher_is_better=False),
            "disagree on whether a higher score is better",
        ),
        (
            mean_scores([1.0], test_set="digest-1"),
            mean_scores([1.0], test_set="digest-2"),
            "different references",
        ),
    ],
)
def test_incomparable_systems_are_refused(
    a: SufficientStatistics, b: SufficientStatistics, message: str
) -> None:
    """Systems of different length, metric, direction or test set are never compared."""
    with pytest.raises(ConfigError, match=message):
        require_comparable({"a": a, "b": b})


def test_a_test_set_may_be_unknown() -> None:
    """A system that does not know its test set is taken at its word."""
    require_comparable({"a": mean_scores([1.0]), "b": mean_scores([2.0], test_set="digest")})


def test_no_systems_are_refused() -> None:
    """Ranking nothing is an error, not an empty answer."""
    with pytest.raises(ConfigError, match="no systems"):
        best_of({})


def test_a_baseline_that_is_not_there_is_refused() -> None:
    """The error lists the names that are."""
    with pytest.raises(ConfigError, match="Use one of a"):
        compare_to_baseline({"a": mean_scores([1.0, 2.0])}, "b")


@pytest.mark.parametrize(
    "options",
    [
        {"resamples": 39},
        {"resamples": 0},
        {"resamples": 100.0},
        {"confidence": 1.0},
        {"confidence": 0.999},
        {"method": "normal"},
        {"seed": -1},
        {"seed": True},
    ],
    ids=str,
)
def test_options_no_interval_can_be_made_with_are_refused(options: dict[str, Any]) -> None:
    """Each of the options is checked before any work is done."""
    with pytest.raises(ConfigError, match="What to do: Use"):
        estimate(mean_scores([1.0, 2.0, 3.0]), **{"resamples": 100, **options})


def test_one_example_has_no_interval() -> None:
    """A single example says nothing about variation, and an interval of width zero would lie."""
    with pytest.raises(ConfigError, match="one example"):
        estimate(mean_scores([1.0]))


def test_an_aggregate_that_is_not_vectorised_is_refused() -> None:
    """A wrong shape is caught when the statistics are made, not in the middle of a test."""

    def whole(sums: FloatArray) -> FloatArray:
        return np.asarray(sums.sum())

    with pytest.raises(ConfigError, match="shape"):
        SufficientStatistics(np.ones((3, 2)), whole, "mine")


def test_an_aggregate_that_returns_nan_is_refused() -> None:
    """A score that some resample leaves undefined is an error, never a silent NaN interval."""

    def rate(sums: FloatArray) -> FloatArray:
        with np.errstate(invalid="ignore"):
            return np.asarray(sums[..., 0] / sums[..., 1])

    system = SufficientStatistics(np.array([[1.0, 1.0], [0.0, 0.0]]), rate, "precision")
    with pytest.raises(ConfigError, match="not finite"):
        estimate(system)


def test_a_corpus_score_of_ones_own() -> None:
    """Any function of sums works: here the F1 score of true positives, predictions and targets."""

    def f1(sums: FloatArray) -> FloatArray:
        return np.asarray(2 * sums[..., 0] / (sums[..., 1] + sums[..., 2]))

    rows = np.array([[1, 1, 1], [1, 2, 1], [0, 1, 1], [1, 1, 2]] * 10)
    system = SufficientStatistics(rows, f1, "f1")
    assert system.score == pytest.approx(0.6)
    interval = estimate(system, resamples=200).interval
    assert interval.low < 0.6 < interval.high


def test_results_are_plain_json() -> None:
    """to_dict() of every record survives strict JSON unchanged."""
    systems = {"a": mean_scores([1.0, 0.0, 1.0]), "b": mean_scores([1.0, 1.0, 1.0])}
    for record in (
        estimate(systems["a"], resamples=100),
        compare(systems["a"], systems["b"], resamples=100),
        best_of(systems, resamples=100),
    ):
        tree = record.to_dict()
        assert json.loads(json.dumps(tree, allow_nan=False)) == tree


def test_stats_need_neither_torch_nor_sacrebleu() -> None:
    """Importing the package loads neither: a laptop can compare scores."""
    script = "import sys, holdfast.stats; print(sorted({'torch', 'sacrebleu'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
