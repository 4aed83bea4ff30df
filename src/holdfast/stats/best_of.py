"""Which of K candidates is best, which might be, and how lucky the winner was.

The tie set is a confidence set for the truly best candidate. Testing everything against the winner
would not give one, as the winner was picked by the same data. See Hsu 1984, Annals of Statistics
12, and Romano and Wolf 2005, Econometrica 73.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from holdfast.stats._aggregates import FloatArray
from holdfast.stats._resampling import (
    DEFAULT_CONFIDENCE,
    DEFAULT_RESAMPLES,
    DEFAULT_SEED,
    check_count,
    check_share,
    resample_scores,
)
from holdfast.stats.bootstrap import (
    check_interval_options,
    interval_of,
    standard_deviation,
)
from holdfast.stats.records import BestOf, Standing
from holdfast.stats.sufficient import (
    SufficientStatistics,
    differing_examples,
    require_comparable,
    tie_tolerance,
    without_rounding,
)


def best_of(
    systems: Mapping[str, SufficientStatistics],
    *,
    level: float = 0.05,
    confidence: float = DEFAULT_CONFIDENCE,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = DEFAULT_SEED,
) -> BestOf:
    """Rank K candidates on one test set, honestly about having chosen among them.

    Tie set: a candidate is outside it only if its studentised deficit to some other exceeds the
    (1 - level) quantile of the largest such deficit over resamples centred on what was observed. It
    holds the truly best candidate with about 1 - level confidence. Two candidates are never told
    apart by fewer differing examples than log2(1 / level).

    Luck: the mean over resamples of how far the resample's winner exceeds its own average there. It
    is a modest estimate: among candidates that are all truly equal it finds about 1/sqrt(2) of the
    luck, because what is left of their chance differences counts as real. A second split is better.

    Ties in score go to the earlier. Raises ConfigError as `estimate` and `require_comparable` do.
    """
    require_comparable(systems)
    check_share("level", level)
    check_interval_options(confidence, "percentile", resamples)
    candidates = list(systems.values())
    first, tolerance = candidates[0], tie_tolerance(*candidates)
    resampled = resample_scores(candidates, resamples=resamples, seed=seed)
    observed = np.array([system.score for system in candidates])
    sign = first.orientation
    behind = without_rounding(sign * (observed[np.argmax(sign * observed)] - observed), tolerance)
    ranked = np.argsort(behind, kind="stable")
    best = int(ranked[0])
    wins = _wins(sign * resampled, tolerance)
    tied = _tie_set(candidates, sign * observed, sign * resampled, tolerance, level)
    standings = [
        Standing(
            name=name,
            score=float(observed[place]),
            interval=interval_of(resampled[place], float(observed[place]), confidence),
            delta_to_best=without_rounding(float(observed[place] - observed[best]), tolerance),
            standard_error=_paired_error(resampled[place], resampled[best], tolerance),
            p_best=float(wins[place].mean()),
            tied=bool(tied[place]),
        )
        for place, name in enumerate(systems)
    ]
    luck = _luck(wins, sign * resampled)
    return BestOf(
        standings=tuple(standings[place] for place in ranked),
        best=standings[best].name,
        best_score=float(observed[best]),
        luck=luck,
        shrunk_score=float(observed[best] - sign * luck),
        higher_is_better=first.higher_is_better,
        level=level,
        examples=first.examples,
        signature=first.signature,
        resamples=resamples,
        seed=seed,
    )


def expected_maximum(k: int) -> float:
    """Expected maximum of k independent standard normal draws: the luck of best-of-k in sd.

    For choosing among k validations of which only the scores are known: k equally good checkpoints
    whose scores scatter by s around a common value make a winner that looks expected_maximum(k) x s
    too good. 1.16, 1.54, 1.87 and 2.25 for k = 5, 10, 20 and 50.

    Raises ConfigError if k is below 1.
    """
    check_count("k", k, least=1)
    step, reach = 1.0 / 256.0, 9.0
    normal = NormalDist()
    grid = [step * index for index in range(int(reach / step) + 1)]
    heights = [1.0 - normal.cdf(x) ** k - normal.cdf(-x) ** k for x in grid]
    return step * (math.fsum(heights) - 0.5 * (heights[0] + heights[-1]))


def _wins(oriented: FloatArray, tolerance: float) -> FloatArray:
    """Whose resample it is, [K, resamples], columns summing to one; ties share."""
    winning = oriented >= oriented.max(axis=0) - tolerance
    return np.asarray(winning / winning.sum(axis=0), dtype=np.float64)


def _luck(wins: FloatArray, oriented: FloatArray) -> float:
    """Mean excess of a resample's winner over its own average; zero or more but for rounding."""
    excess = oriented - oriented.mean(axis=1, keepdims=True)
    return max(0.0, float((wins * excess).sum(axis=0).mean()))


def _paired_error(scores: FloatArray, best_scores: FloatArray, tolerance: float) -> float:
    return standard_deviation(without_rounding(scores - best_scores, tolerance))


def _tie_set(
    candidates: list[SufficientStatistics],
    observed: FloatArray,
    resampled: FloatArray,
    tolerance: float,
    level: float,
) -> npt.NDArray[np.bool_]:
    """For each candidate, whether it may be the best. Scores are oriented: higher is better."""
    tied = np.ones(len(candidates), dtype=np.bool_)
    for place, candidate in enumerate(candidates):
        rivals = [
            rival
            for rival, other in enumerate(candidates)
            if differing_examples(candidate, other).size >= math.log2(1.0 / level)
        ]
        if rivals and observed[rivals].max() > observed[place] + tolerance:
            deficits = observed[rivals] - observed[place]
            scatter = resampled[rivals] - resampled[place] - deficits[:, None]
            tied[place] = not _exceeds_chance(deficits, scatter, level)
    return tied


def _exceeds_chance(deficits: FloatArray, scatter: FloatArray, level: float) -> bool:
    """Whether the largest deficit, in units of its standard error, is beyond the quantile.

    deficits: [rivals]. scatter: [rivals, resamples], the deficits over resamples less observed.
    """
    errors = scatter.std(axis=1, ddof=1)
    least = 1e-12 * float(np.abs(deficits).max())
    errors = np.maximum(errors, least)
    largest = (scatter / errors[:, None]).max(axis=0)
    critical = float(np.quantile(largest, 1.0 - level, method="higher"))
    return bool((deficits / errors).max() > critical)
