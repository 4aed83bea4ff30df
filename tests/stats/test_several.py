"""Several candidates: Holm's correction, comparisons with a baseline, the best and its luck."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConfigError
from holdfast.stats import (
    SufficientStatistics,
    best_of,
    compare,
    compare_to_baseline,
    expected_maximum,
    holm,
    mean_scores,
    paired_bootstrap,
)

SCORES = np.random.default_rng(0).normal(size=200)


def shifted(by: float, noise: float = 0.5, seed: int = 1) -> SufficientStatistics:
    """The common scores, shifted, with noise of the system's own."""
    return mean_scores(SCORES + by + noise * np.random.default_rng(seed).normal(size=200))


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([0.5, 0.9, 0.4], [1.0, 1.0, 1.0]),
        ([0.0, 1.0], [0.0, 1.0]),
        ([0.01, 0.011, 0.9], [0.03, 0.03, 0.9]),
    ],
)
def test_holm_against_a_table_worked_by_hand(p_values: list[float], adjusted: list[float]) -> None:
    """Each p-value times the number not smaller, never below an earlier one, at most one."""
    assert holm(p_values) == pytest.approx(adjusted)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_stepping_down_rejects(p_values: list[float]) -> None:
    """Adjusted p-values at or below 0.05 are those the step-down procedure itself rejects."""
    rejected = set()
    for step, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[place] * (len(p_values) - step) > 0.05:
            break
        rejected.add(place)
    assert {place for place, p in enumerate(holm(p_values)) if p <= 0.05} == rejected


@pytest.mark.parametrize("bad", [float("nan"), -0.1, 1.1])
def test_holm_refuses_what_is_not_a_p_value(bad: float) -> None:
    """NaN and values outside 0 to 1 are named by their place."""
    with pytest.raises(ConfigError, match="number 1"):
        holm([0.5, bad])


def test_a_comparison_holds_both_tests() -> None:
    """The interval, the one-sided bootstrap share and the randomisation p-value in one record."""
    result = compare(shifted(0.0, seed=1), shifted(0.3, seed=2), resamples=400, trials=1000)
    assert result.bootstrap == paired_bootstrap(
        shifted(0.0, seed=1), shifted(0.3, seed=2), resamples=400
    )
    assert result.delta == result.bootstrap.delta == pytest.approx(0.3, abs=0.15)
    assert result.p_value == result.p_adjusted < 0.01
    assert result.verdict() == "better"


@pytest.mark.parametrize(
    ("shift", "higher_is_better", "verdict"),
    [
        (0.4, True, "better"),
        (-0.4, True, "worse"),
        (0.4, False, "worse"),
        (-0.4, False, "better"),
        (0.0, True, "no evidence of a difference"),
    ],
)
def test_the_verdict_follows_direction_and_evidence(
    shift: float, higher_is_better: bool, verdict: str
) -> None:
    """Better and worse follow the metric's direction, and silence is an answer."""
    own = 0.5 * np.random.default_rng(3).normal(size=200)
    baseline = mean_scores(SCORES, higher_is_better=higher_is_better)
    candidate = mean_scores(SCORES + shift + own - own.mean(), higher_is_better=higher_is_better)
    assert compare(baseline, candidate, resamples=100, trials=500).verdict() == verdict


def test_comparisons_with_a_baseline_are_corrected_together() -> None:
    """Every other system is compared, in the order given, and Holm's factor counts them all."""
    systems = {"last": shifted(0.0), "a": shifted(0.08, seed=2), "b": shifted(0.4, seed=3)}
    results = compare_to_baseline(systems, "last", resamples=200, trials=999)
    assert list(results) == ["a", "b"]
    assert [result.comparisons for result in results.values()] == [2, 2]
    assert [results[name].p_adjusted for name in results] == holm(
        [results[name].p_value for name in results]
    )
    assert results["b"].p_adjusted == 2 * results["b"].p_value


def test_a_lone_baseline_has_no_comparisons() -> None:
    """One system and nothing to compare is an empty answer, not an error."""
    assert compare_to_baseline({"last": shifted(0.0)}, "last", resamples=100) == {}


def test_the_best_is_ranked_first() -> None:
    """Standings run from best to worst with their difference to the best."""
    systems = {"a": shifted(0.0), "b": shifted(0.5, seed=2), "c": shifted(0.2, seed=3)}
    result = best_of(systems)
    assert result.best == "b"
    assert [standing.name for standing in result.standings] == ["b", "c", "a"]
    assert [standing.delta_to_best for standing in result.standings] == pytest.approx(
        [0.0, systems["c"].score - systems["b"].score, systems["a"].score - systems["b"].score]
    )
    assert sum(standing.p_best for standing in result.standings) == pytest.approx(1.0)
    assert result.tie_set == ("b",)


def test_the_best_of_losses_is_the_lowest() -> None:
    """For a lower-is-better score the lowest wins and shrinking raises it."""
    losses = {
        name: mean_scores(-system.values[:, 0], name="loss", higher_is_better=False)
        for name, system in {"a": shifted(0.0), "b": shifted(0.05, seed=2)}.items()
    }
    mirrored = {name: mean_scores(-system.values[:, 0]) for name, system in losses.items()}
    down, up = best_of(losses, resamples=300), best_of(mirrored, resamples=300)
    assert (down.best, down.tie_set) == (up.best, up.tie_set)
    assert down.luck == pytest.approx(up.luck)
    assert down.shrunk_score == pytest.approx(-up.shrunk_score)
    assert down.shrunk_score > down.best_score


def test_identical_candidates_share_everything() -> None:
    """Three equal systems: the first is named, each has a third, all tie, and luck is nil."""
    result = best_of({name: shifted(0.0) for name in "abc"}, resamples=200)
    assert (result.best, result.tie_set) == ("a", ("a", "b", "c"))
    assert [standing.p_best for standing in result.standings] == pytest.approx([1 / 3] * 3)
    assert result.luck == pytest.approx(0.0, abs=1e-3)
    assert result.within_one_standard_error == ("a", "b", "c")


def test_a_lone_candidate_wins_without_luck() -> None:
    """Best of one is not a choice."""
    result = best_of({"only": shifted(0.0)}, resamples=200)
    assert (result.luck, result.shrunk_score) == (0.0, result.best_score)
    assert (result.standings[0].p_best, result.tie_set) == (1.0, ("only",))


@pytest.mark.parametrize(("differing", "tied"), [(1, True), (4, True), (8, False)])
def test_few_differing_examples_cannot_separate(differing: int, tied: bool) -> None:
    """All differences point one way, but 2**-4 > 0.05: four of them prove nothing."""
    better = SCORES.copy()
    better[:differing] += 1.0
    result = best_of({"a": mean_scores(SCORES), "b": mean_scores(better)})
    assert result.best == "b"
    assert ("a" in result.tie_set) is tied


def test_p_best_agrees_with_the_normal_case() -> None:
    """Two candidates whose difference is z standard errors: P(best) is the normal tail."""
    own = np.random.default_rng(6).normal(size=200)
    own -= own.mean()
    gap = own.std() / np.sqrt(200)
    result = best_of(
        {"a": mean_scores(SCORES), "b": mean_scores(SCORES + own + gap)}, resamples=20_000
    )
    assert result.standings[0].p_best == pytest.approx(0.8413, abs=0.015)


def test_the_tie_set_holds_the_truly_best_as_often_as_it_says() -> None:
    """Five equally good systems: each, so also the truly best, is in the 95 % tie set.

    The share over 300 test sets may fall short of 0.95 by three standard deviations, 0.038.
    """
    dice = np.random.default_rng(8)
    held, simulations = 0, 300
    for seed in range(simulations):
        systems = {str(k): mean_scores(dice.normal(size=100)) for k in range(5)}
        held += "0" in best_of(systems, resamples=200, seed=seed).tie_set
    assert held / simulations >= 0.95 - 0.038


def test_luck_is_found_but_not_overstated() -> None:
    """Best of ten truly equal systems: the winner's score is inflated, shrinking takes most back.

    The truth is 0; the mean inflation over test sets is 1.54 standard errors.
    """
    dice = np.random.default_rng(9)
    raw, shrunk = [], []
    for seed in range(150):
        systems = {str(k): mean_scores(dice.normal(size=100)) for k in range(10)}
        result = best_of(systems, resamples=200, seed=seed)
        raw.append(result.best_score)
        shrunk.append(result.shrunk_score)
    assert np.mean(raw) == pytest.approx(1.54 / 10, abs=0.02)
    assert 0.0 < np.mean(shrunk) < 0.45 * np.mean(raw)


def test_the_luck_of_a_clear_winner_is_nil() -> None:
    """A winner far ahead was not picked by luck."""
    result = best_of({"a": shifted(0.0), "b": shifted(3.0, seed=2)}, resamples=300)
    assert result.luck == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("k", "expected"),
    [(1, 0.0), (2, np.pi**-0.5), (3, 1.5 * np.pi**-0.5), (10, 1.53875), (50, 2.24907)],
)
def test_the_expected_maximum_of_equal_systems(k: int, expected: float) -> None:
    """Known order statistics of the normal distribution; closed forms for two and three."""
    assert expected_maximum(k) == pytest.approx(expected, abs=1e-5)


def test_one_seed_one_ranking() -> None:
    """The same seed gives the same record to the last bit."""
    systems = {"a": shifted(0.0), "b": shifted(0.05, seed=2)}
    assert best_of(systems, resamples=100, seed=3) == best_of(systems, resamples=100, seed=3)
