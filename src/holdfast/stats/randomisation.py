"""Approximate randomisation: may the two systems' outputs as well be exchanged?

Under the null hypothesis each example's two outputs could have come from either system. The p-value
is the share of exchanges that part the scores at least as far as observed. Noreen 1989; for
translation Riezler and Maxwell 2005 (W05-0908).

Where this differs from common tools: an exchange that ties with the observed difference counts as
at least as extreme (it is what the definition says, and without it identical systems come out as
"significantly different"), and with few differing examples every exchange is tried.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from holdfast.stats._aggregates import FloatArray
from holdfast.stats._resampling import DEFAULT_SEED, check_count, check_seed, random_swaps
from holdfast.stats.records import RandomisationTest
from holdfast.stats.sufficient import (
    SufficientStatistics,
    differing_examples,
    require_comparable,
    tie_tolerance,
    without_rounding,
)

DEFAULT_TRIALS = 10_000
EXACT_EXAMPLES_MAX = 16


def approximate_randomisation(
    baseline: SufficientStatistics,
    candidate: SufficientStatistics,
    *,
    trials: int = DEFAULT_TRIALS,
    seed: int = DEFAULT_SEED,
) -> RandomisationTest:
    """Two-sided p-value of the difference between two systems on the same examples.

    With R trials p = (1 + #{|d*| >= |d|}) / (1 + R), never below 1 / (1 + R). If at most 16
    examples differ, all exchanges are enumerated instead and p is exact. Only examples that differ
    are exchanged: the cost is proportional to their number.

    Raises ConfigError if the two are not comparable, or for unusable `trials` or `seed`.
    """
    require_comparable({"baseline": baseline, "candidate": candidate})
    check_count("trials", trials, least=1)
    check_seed(seed)
    differing = differing_examples(baseline, candidate)
    tolerance = tie_tolerance(baseline, candidate)
    delta = without_rounding(candidate.score - baseline.score, tolerance)
    threshold = abs(delta) - tolerance
    if differing.size <= EXACT_EXAMPLES_MAX:
        tried = 1 << differing.size
        extreme = _count_extreme(
            baseline, candidate, differing, _all_swaps(differing.size), threshold
        )
        return RandomisationTest(delta, extreme / tried, differing.size, True, tried, None)
    swaps = random_swaps(differing.size, trials, seed)
    extreme = _count_extreme(baseline, candidate, differing, swaps, threshold)
    p_value = (1 + extreme) / (1 + trials)
    return RandomisationTest(delta, p_value, differing.size, False, trials, seed)


def _count_extreme(
    baseline: SufficientStatistics,
    candidate: SufficientStatistics,
    differing: np.typing.NDArray[np.intp],
    swaps: Iterable[FloatArray],
    threshold: float,
) -> int:
    """How many exchanges part the two scores by at least the threshold."""
    gain = candidate.values[differing] - baseline.values[differing]
    baseline_sums, candidate_sums = baseline.values.sum(axis=0), candidate.values.sum(axis=0)
    extreme = 0
    for swap in swaps:
        moved = swap @ gain
        exchanged_baseline = baseline.scores_of(baseline_sums + moved)
        exchanged_candidate = candidate.scores_of(candidate_sums - moved)
        deltas = np.abs(exchanged_candidate - exchanged_baseline)
        extreme += int(np.count_nonzero(deltas >= threshold))
    return extreme


def _all_swaps(examples: int) -> Iterable[FloatArray]:
    """Every way to exchange or keep each example: one array [2**examples, examples]."""
    choices = np.arange(1 << examples, dtype=np.int64)[:, None]
    yield ((choices >> np.arange(examples)) & 1).astype(np.float64)
