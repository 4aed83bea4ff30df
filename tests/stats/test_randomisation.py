"""Approximate randomisation: against brute force, at the known failures of peers, and its error."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

from holdfast.errors import ConfigError
from holdfast.stats import SufficientStatistics, approximate_randomisation, corpus_bleu, mean_scores
from holdfast.stats._resampling import random_swaps

DICE = random.Random(0)
REFERENCES = [" ".join(DICE.choices("abcdefgh", k=DICE.randint(4, 12))) for _ in range(40)]


def damaged(examples: list[int]) -> list[str]:
    """The references, with one sentence spoilt in the same way at each of the examples."""
    spoilt = set(examples)
    return [
        "x " + line.split(" ", 1)[1] if place in spoilt else line
        for place, line in enumerate(REFERENCES)
    ]


def brute_force(a: SufficientStatistics, b: SufficientStatistics) -> float:
    """The share of all 2**n exchanges, over every example, that part the scores as far."""

    def gap(swap: tuple[int, ...]) -> float:
        chosen = np.array(swap, dtype=bool)[:, None]
        first = np.where(chosen, b.values, a.values).sum(axis=0)
        second = np.where(chosen, a.values, b.values).sum(axis=0)
        return abs(float(a.aggregate(second) - a.aggregate(first)))

    observed = gap((0,) * a.examples)
    gaps = [gap(swap) for swap in itertools.product((0, 1), repeat=a.examples)]
    return sum(value >= observed - 1e-9 for value in gaps) / len(gaps)


def sacrebleu_p_value(baseline: Sequence[str], candidate: Sequence[str], trials: int) -> float:
    """The p-value of sacrebleu's own approximate randomisation of BLEU."""
    test = PairedTest(
        [("a", baseline), ("b", candidate)], {"BLEU": BLEU()}, [REFERENCES], "ar", n_samples=trials
    )
    _, scores = test()
    result = scores["BLEU"][1]
    assert not isinstance(result, str)
    assert result.p_value is not None
    return result.p_value


def test_identical_outputs_are_not_different() -> None:
    """A system compared with itself has p = 1; sacrebleu's test reports about 1 / trials."""
    outputs = damaged([1, 2, 3])
    a, b = corpus_bleu(outputs, REFERENCES), corpus_bleu(list(outputs), REFERENCES)
    result = approximate_randomisation(a, b)
    assert (result.p_value, result.differing, result.delta) == (1.0, 0, 0.0)
    assert sacrebleu_p_value(outputs, list(outputs), trials=200) < 0.05


@pytest.mark.parametrize(
    ("differing", "expected"), [(1, 1.0), (2, 0.5), (3, 0.25), (4, 0.125), (16, 2**-15)]
)
def test_a_few_differences_have_the_exact_p_value(differing: int, expected: float) -> None:
    """m sentences all better in one system: only keeping or exchanging all is as extreme.

    sacrebleu's test reports about 1 / trials for each of these.
    """
    a = corpus_bleu(damaged(list(range(differing))), REFERENCES)
    result = approximate_randomisation(a, corpus_bleu(REFERENCES, REFERENCES))
    assert (result.p_value, result.differing, result.exact) == (expected, differing, True)
    assert (result.trials, result.seed) == (2**differing, None)


@pytest.mark.parametrize("seed", range(6))
def test_exact_enumeration_of_bleu_agrees_with_brute_force(seed: int) -> None:
    """Nine sentences of two systems, some equal: every exchange of every sentence tried."""
    dice = random.Random(seed)
    references = REFERENCES[:9]

    def output() -> list[str]:
        return [
            " ".join(word if dice.random() < 0.8 else "x" for word in line.split())
            for line in references
        ]

    a, b = corpus_bleu(output(), references), corpus_bleu(output(), references)
    assert approximate_randomisation(a, b).p_value == brute_force(a, b)


@pytest.mark.parametrize("seed", range(6))
def test_exact_enumeration_of_means_agrees_with_brute_force(seed: int) -> None:
    """Scores with many equal differences, where ties decide and rounding would miscount them."""
    dice = np.random.default_rng(seed)
    a = mean_scores(dice.integers(0, 4, size=10) / 10)
    b = mean_scores(dice.integers(0, 4, size=10) / 10 + 0.1)
    assert approximate_randomisation(a, b).p_value == brute_force(a, b)


def test_sampling_agrees_with_the_exact_p_value() -> None:
    """Twenty examples, beyond enumeration: the sign test's closed form within sampling error."""
    gains = np.array([1.0] * 14 + [-1.0] * 6)
    result = approximate_randomisation(mean_scores(np.zeros(20)), mean_scores(gains), trials=20_000)
    flips = np.array([bin(bits).count("1") for bits in range(1 << 16)])
    two_sided = np.convolve(np.bincount(flips) / 2**16, np.array([1, 4, 6, 4, 1]) / 16)
    exact = two_sided[14:].sum() + two_sided[:7].sum()
    assert not result.exact
    # Four standard deviations of a share near 0.12 over 20,000 trials.
    assert result.p_value == pytest.approx(exact, abs=0.01)


def test_sampling_agrees_with_sacrebleu_where_sacrebleu_is_right() -> None:
    """Many differing sentences and no ties: both tests estimate the same p-value."""
    dice = random.Random(9)

    def output(share: float) -> list[str]:
        return [
            " ".join(word if dice.random() > share else "x" for word in line.split())
            for line in REFERENCES
        ]

    first, second = output(0.20), output(0.26)
    a, b = corpus_bleu(first, REFERENCES), corpus_bleu(second, REFERENCES)
    result = approximate_randomisation(a, b)
    assert 0.02 < result.p_value < 0.98
    # Four standard deviations of the share over 2,000 trials are at most 0.045.
    assert result.p_value == pytest.approx(sacrebleu_p_value(first, second, trials=2000), abs=0.045)


def test_p_is_never_zero() -> None:
    """However clear the difference, R trials support no p below 1 / (1 + R)."""
    result = approximate_randomisation(
        mean_scores(np.zeros(100)), mean_scores(np.ones(100)), trials=99
    )
    assert result.p_value == 0.01


def test_equal_scores_from_different_outputs_are_not_different() -> None:
    """Gains and losses that cancel give p = 1, whatever the rounding of the sums."""
    a = mean_scores([0.1, 0.2, 0.3, 0.4])
    b = mean_scores([0.2, 0.1, 0.4, 0.3])
    result = approximate_randomisation(a, b)
    assert (result.delta, result.p_value, result.differing) == (0.0, 1.0, 4)


def test_examples_that_do_not_differ_change_nothing() -> None:
    """A thousand more examples on which both agree leave the p-value of a mean as it was."""
    dice = np.random.default_rng(2)
    a, b = dice.normal(size=30), dice.normal(0.3, size=30)
    same = dice.normal(size=1000)
    few = approximate_randomisation(mean_scores(a), mean_scores(b), trials=500)
    many = approximate_randomisation(
        mean_scores(np.concatenate([a, same])), mean_scores(np.concatenate([b, same])), trials=500
    )
    assert (many.p_value, many.differing) == (few.p_value, 30)


def test_the_order_of_the_two_systems_does_not_matter() -> None:
    """Exchanging baseline and candidate turns the sign and keeps the exact p-value."""
    dice = np.random.default_rng(3)
    a, b = mean_scores(dice.normal(size=12)), mean_scores(dice.normal(size=12))
    there, back = approximate_randomisation(a, b), approximate_randomisation(b, a)
    assert (there.p_value, there.delta) == (back.p_value, -back.delta)


def test_one_seed_one_p_value() -> None:
    """The same seed gives the same p-value; other seeds differ within sampling error."""
    dice = np.random.default_rng(4)
    a, b = mean_scores(dice.normal(size=60)), mean_scores(dice.normal(0.2, size=60))
    first = approximate_randomisation(a, b, trials=2000, seed=1)
    assert approximate_randomisation(a, b, trials=2000, seed=1) == first
    other = approximate_randomisation(a, b, trials=2000, seed=2)
    assert other.p_value != first.p_value
    assert other.p_value == pytest.approx(first.p_value, abs=0.06)


def test_swaps_do_not_depend_on_how_they_are_cut_into_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bounded memory changes no figure, and each swap is a fair coin."""
    whole = np.concatenate(list(random_swaps(70, 400, seed=1)))
    monkeypatch.setattr("holdfast.stats._resampling.CHUNK_VALUES", 1)
    assert np.array_equal(np.concatenate(list(random_swaps(70, 400, seed=1))), whole)
    assert set(np.unique(whole)) == {0.0, 1.0}
    assert whole.mean() == pytest.approx(0.5, abs=0.012)


def test_equal_systems_are_called_different_no_more_often_than_the_level() -> None:
    """Under the null hypothesis p <= 0.05 in at most 5 % of test sets.

    Tolerance 2.5 points: three standard deviations of a share of 0.05 over 700 simulations.
    """
    dice = np.random.default_rng(5)
    simulations, rejected = 700, 0
    for seed in range(simulations):
        a = mean_scores(dice.random(80) < 0.7)
        b = mean_scores(dice.random(80) < 0.7)
        rejected += approximate_randomisation(a, b, trials=300, seed=seed).p_value <= 0.05
    assert rejected / simulations <= 0.05 + 0.025


@pytest.mark.parametrize("trials", [0, -1, 10.0])
def test_unusable_trials_are_refused(trials: int) -> None:
    """The number of trials is a whole number above zero."""
    with pytest.raises(ConfigError, match="trials"):
        approximate_randomisation(mean_scores([1.0]), mean_scores([2.0]), trials=trials)
