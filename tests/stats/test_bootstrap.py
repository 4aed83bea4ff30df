"""Bootstrap intervals and the paired bootstrap: against enumeration, sacrebleu and simulation."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import _bootstrap_resample

from holdfast.stats import (
    SufficientStatistics,
    bleu,
    corpus_bleu,
    corpus_chrf,
    estimate,
    mean_scores,
    paired_bootstrap,
    resample_scores,
)
from holdfast.stats._aggregates import FloatArray
from holdfast.stats._resampling import bootstrap_counts
from holdfast.stats.records import IntervalMethod


def sentences(count: int, seed: int) -> list[str]:
    """Made-up sentences of 3 to 12 words."""
    dice = random.Random(seed)
    return [" ".join(dice.choices("abcdefgh", k=dice.randint(3, 12))) for _ in range(count)]


def garbled(lines: list[str], share: float, seed: int) -> list[str]:
    """The lines with a share of their words replaced."""
    dice = random.Random(seed)
    return [
        " ".join(
            dice.choice("abcdefgh") if dice.random() < share else word for word in line.split()
        )
        for line in lines
    ]


REFERENCES = sentences(60, seed=0)
GOOD = garbled(REFERENCES, 0.2, seed=1)
POOR = garbled(REFERENCES, 0.3, seed=2)


def all_resamples(examples: int) -> FloatArray:
    """Every ordered resample of the examples as counts: [examples ** examples, examples]."""
    draws = itertools.product(range(examples), repeat=examples)
    return np.array([np.bincount(draw, minlength=examples) for draw in draws], dtype=np.float64)


def test_the_resampling_distribution_is_that_of_full_enumeration() -> None:
    """For 5 examples the share of each resampled score is that among all 5**5 resamples."""
    system = mean_scores([0.0, 0.0, 0.0, 1.0, 1.0])
    exact = all_resamples(5) @ system.values[:, 0] / 5
    drawn = resample_scores([system], resamples=40_000)[0]
    for score in np.unique(exact):
        expected = np.isclose(exact, score).mean()
        # Four standard deviations of a share over 40,000 draws are at most 0.01.
        assert np.isclose(drawn, score).mean() == pytest.approx(expected, abs=0.01)


def test_p_not_better_agrees_with_full_enumeration() -> None:
    """P(delta <= 0) over all 6**6 resamples, ties counting as not better."""
    baseline = mean_scores([0.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    candidate = mean_scores([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    gains = (candidate.values - baseline.values)[:, 0]
    exact = (all_resamples(6) @ gains <= 0).mean()
    result = paired_bootstrap(baseline, candidate, resamples=40_000)
    assert result.p_not_better == pytest.approx(exact, abs=0.01)


def test_the_interval_of_bleu_agrees_with_full_enumeration() -> None:
    """The percentile interval over all 5**5 resamples of five sentences."""
    system = corpus_bleu(POOR[:5], REFERENCES[:5])
    exact = np.quantile(system.scores_of(all_resamples(5) @ system.values), [0.025, 0.975])
    interval = estimate(system, resamples=40_000).interval
    # The resampled scores are coarse: a point is the width of one step near the ends.
    assert [interval.low, interval.high] == pytest.approx(list(exact), abs=1.0)


@pytest.mark.parametrize("metric", ["bleu", "chrf"])
def test_the_resamples_are_those_of_sacrebleu(metric: str) -> None:
    """With seed 12345, sacrebleu's default, every resampled score is sacrebleu's.

    1e-4 points: sacrebleu sums in float32.
    """
    theirs = BLEU() if metric == "bleu" else CHRF()
    extract = corpus_bleu if metric == "bleu" else corpus_chrf
    rows = theirs._extract_corpus_statistics(GOOD, [REFERENCES])
    _, scores = _bootstrap_resample(rows, theirs, 300)
    ours = resample_scores([extract(GOOD, REFERENCES)], resamples=300, seed=12345)[0]
    assert ours == pytest.approx([score.score for score in scores], abs=1e-4)


def test_the_interval_agrees_with_that_of_sacrebleu() -> None:
    """Half the width of our 95 % interval is the ± that sacrebleu prints."""
    theirs = BLEU().corpus_score(GOOD, [REFERENCES], n_bootstrap=1000)
    interval = estimate(corpus_bleu(GOOD, REFERENCES), resamples=1000).interval
    assert (interval.high - interval.low) / 2 == pytest.approx(theirs._ci, rel=0.02)


def test_both_systems_see_the_same_resamples() -> None:
    """A candidate that is one point better on every example is so in every resample."""
    scores = np.random.default_rng(3).normal(size=50)
    result = paired_bootstrap(mean_scores(scores), mean_scores(scores + 1.0), resamples=200)
    assert result.delta == pytest.approx(1.0)
    assert result.interval.low == pytest.approx(1.0)
    assert result.interval.high == pytest.approx(1.0)
    assert result.p_not_better == 1 / 201


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_each_systems_own_interval_comes_along(method: IntervalMethod) -> None:
    """The paired bootstrap reports for each system what `estimate` reports for it alone."""
    a, b = corpus_bleu(POOR, REFERENCES), corpus_bleu(GOOD, REFERENCES)
    result = paired_bootstrap(a, b, method=method, resamples=200)
    assert result.baseline_interval == estimate(a, method=method, resamples=200).interval
    assert result.candidate_interval == estimate(b, method=method, resamples=200).interval


def test_identical_outputs_are_never_better() -> None:
    """The difference of a system to itself is zero without error, and p is 1."""
    system = corpus_bleu(GOOD, REFERENCES)
    result = paired_bootstrap(system, corpus_bleu(GOOD, REFERENCES), resamples=200)
    assert (result.delta, result.standard_error, result.p_not_better) == (0.0, 0.0, 1.0)
    assert (result.interval.low, result.interval.high) == (0.0, 0.0)


def test_rounding_is_not_a_difference() -> None:
    """Sums of the same numbers in another representation tie, however large the numbers are."""
    scores = np.random.default_rng(4).normal(size=100)
    a = mean_scores(scores + 1e6)
    b = mean_scores(scores + 1e6 * (1 + 2e-16))
    result = paired_bootstrap(a, b, resamples=100)
    assert (result.delta, result.p_not_better) == (0.0, 1.0)


def test_lower_may_be_better() -> None:
    """For a loss the candidate with the lower score is the better one."""
    losses = np.random.default_rng(5).normal(2.0, 0.1, size=50)
    baseline = mean_scores(losses, higher_is_better=False)
    candidate = mean_scores(losses - 0.5, higher_is_better=False)
    result = paired_bootstrap(baseline, candidate, resamples=200)
    assert result.delta == pytest.approx(-0.5)
    assert result.p_not_better == 1 / 201


def test_one_seed_one_answer() -> None:
    """The same seed gives the same result to the last bit; another seed another one."""
    a, b = corpus_bleu(POOR, REFERENCES), corpus_bleu(GOOD, REFERENCES)
    first = paired_bootstrap(a, b, resamples=200, seed=7)
    assert paired_bootstrap(a, b, resamples=200, seed=7) == first
    assert paired_bootstrap(a, b, resamples=200, seed=8).interval != first.interval


def test_resamples_do_not_depend_on_how_they_are_cut_into_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bounded memory changes no figure: pieces of one resample are the whole drawn at once."""
    whole = np.concatenate(list(bootstrap_counts(33, 20, seed=1)))
    monkeypatch.setattr("holdfast.stats._resampling.CHUNK_VALUES", 1)
    pieces = list(bootstrap_counts(33, 20, seed=1))
    assert len(pieces) == 20
    assert np.array_equal(np.concatenate(pieces), whole)


def test_a_system_scores_the_same_alone_and_in_company() -> None:
    """The resampled scores of a system do not depend on what it is compared with."""
    metric = bleu(REFERENCES)
    a, b = metric.statistics(GOOD), metric.statistics(POOR)
    together = resample_scores([a, b], resamples=100)
    assert np.array_equal(together[0], resample_scores([a], resamples=100)[0])
    assert np.array_equal(together[1], resample_scores([b], resamples=100)[0])


def test_bca_equals_its_formula_on_a_case_worked_by_hand() -> None:
    """A symmetric statistic has no bias and no acceleration: BCa is the percentile interval."""
    system = mean_scores([-2.0, -1.0, 0.0, 1.0, 2.0] * 8)
    plain = estimate(system, resamples=4000).interval
    bca = estimate(system, resamples=4000, method="bca").interval
    assert (bca.low, bca.high) == pytest.approx((plain.low, plain.high), abs=0.03)


def coverage(
    population: SufficientStatistics,
    truth: float,
    method: IntervalMethod,
    *,
    examples: int,
    simulations: int = 500,
) -> float:
    """The share of test sets drawn from a population whose 95 % interval holds its score."""
    dice = np.random.default_rng(11)
    hits = 0
    for seed in range(simulations):
        rows = population.values[dice.integers(0, population.examples, examples)]
        sample = SufficientStatistics(rows, population.aggregate, population.signature)
        interval = estimate(sample, method=method, resamples=400, seed=seed).interval
        hits += interval.low <= truth <= interval.high
    return hits / simulations


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_the_interval_of_bleu_covers_as_often_as_it_says(method: IntervalMethod) -> None:
    """95 % intervals of corpus BLEU on 120 sentences cover the population's score.

    Tolerance 3 points: three standard deviations of a share near 0.95 over 500 simulations.
    """
    references = sentences(2000, seed=20)
    population = corpus_bleu(garbled(references, 0.25, seed=21), references)
    share = coverage(population, population.score, method, examples=120)
    assert share == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_the_interval_of_a_paired_difference_covers_as_often_as_it_says(
    method: IntervalMethod,
) -> None:
    """95 % intervals of a difference of accuracies on 150 examples; tolerance as above."""
    dice = np.random.default_rng(30)
    hits, simulations = 0, 500
    for seed in range(simulations):
        a = dice.random(150) < 0.6
        b = np.where(dice.random(150) < 0.2, dice.random(150) < 0.9, a)
        truth = 0.2 * (0.9 - 0.6)
        result = paired_bootstrap(
            mean_scores(a), mean_scores(b), method=method, resamples=400, seed=seed
        )
        hits += result.interval.low <= truth <= result.interval.high
    assert hits / simulations == pytest.approx(0.95, abs=0.03)


def test_bca_covers_a_skewed_score_better() -> None:
    """On 40 heavy-tailed scores percentile intervals miss too often, BCa ones less so."""
    skewed = np.random.default_rng(40).lognormal(sigma=1.0, size=20_000)
    population = mean_scores(skewed)
    plain = coverage(population, population.score, "percentile", examples=40)
    bca = coverage(population, population.score, "bca", examples=40)
    assert plain < bca
    assert bca > 0.88
