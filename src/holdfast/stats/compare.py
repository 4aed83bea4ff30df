"""One candidate or several against a baseline: both tests, corrected for trying several."""

from __future__ import annotations

from collections.abc import Mapping

from holdfast.errors import ConfigError
from holdfast.stats._resampling import (
    DEFAULT_CONFIDENCE,
    DEFAULT_RESAMPLES,
    DEFAULT_SEED,
    resample_scores,
)
from holdfast.stats.bootstrap import check_interval_options, paired_from_scores
from holdfast.stats.multiple import holm
from holdfast.stats.randomisation import DEFAULT_TRIALS, approximate_randomisation
from holdfast.stats.records import Comparison, IntervalMethod
from holdfast.stats.sufficient import SufficientStatistics, require_comparable


def compare(
    baseline: SufficientStatistics,
    candidate: SufficientStatistics,
    *,
    confidence: float = DEFAULT_CONFIDENCE,
    method: IntervalMethod = "percentile",
    resamples: int = DEFAULT_RESAMPLES,
    trials: int = DEFAULT_TRIALS,
    seed: int = DEFAULT_SEED,
) -> Comparison:
    """Compare one candidate with a baseline; see `compare_to_baseline`."""
    systems = {"baseline": baseline, "candidate": candidate}
    return compare_to_baseline(
        systems,
        "baseline",
        confidence=confidence,
        method=method,
        resamples=resamples,
        trials=trials,
        seed=seed,
    )["candidate"]


def compare_to_baseline(
    systems: Mapping[str, SufficientStatistics],
    baseline: str,
    *,
    confidence: float = DEFAULT_CONFIDENCE,
    method: IntervalMethod = "percentile",
    resamples: int = DEFAULT_RESAMPLES,
    trials: int = DEFAULT_TRIALS,
    seed: int = DEFAULT_SEED,
) -> dict[str, Comparison]:
    """Compare every other system with the baseline, by name and in the order given.

    Each gets the paired bootstrap's interval, drawn once for all, and the randomisation test's
    p-value with Holm's correction for the number of systems. Comparing with a baseline that was
    itself picked as the best on this test set flatters it: use `best_of` to ask which is best.

    Raises ConfigError if the baseline is not among the systems, if they are not comparable, and as
    `paired_bootstrap` and `approximate_randomisation` do.
    """
    if baseline not in systems:
        raise ConfigError(
            f"The baseline {baseline!r} is not among the systems",
            fix=f"Use one of {', '.join(systems) or '(there are none)'}.",
        )
    require_comparable(systems)
    check_interval_options(confidence, method, resamples)
    base = systems[baseline]
    names = [name for name in systems if name != baseline]
    scores = resample_scores(
        [base, *(systems[name] for name in names)], resamples=resamples, seed=seed
    )
    tests = [
        approximate_randomisation(base, systems[name], trials=trials, seed=seed) for name in names
    ]
    adjusted = holm([test.p_value for test in tests])
    return {
        name: Comparison(
            baseline=baseline,
            candidate=name,
            baseline_score=base.score,
            candidate_score=systems[name].score,
            higher_is_better=base.higher_is_better,
            examples=base.examples,
            signature=base.signature,
            bootstrap=paired_from_scores(
                base, systems[name], scores[0], row, confidence=confidence, method=method, seed=seed
            ),
            randomisation=test,
            p_adjusted=p_adjusted,
            comparisons=len(names),
        )
        for name, row, test, p_adjusted in zip(names, scores[1:], tests, adjusted, strict=True)
    }
