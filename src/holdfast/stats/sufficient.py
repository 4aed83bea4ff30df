"""What a paired test needs to know of a system: one row of summable statistics per test example.

A score that is a function of sums over examples (a mean, corpus BLEU, chrF, token accuracy,
perplexity) can be recomputed for any resample of the test set from those sums alone. The rows are
extracted once and serve every test against every other system.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, overload

import numpy as np
import numpy.typing as npt

from holdfast.errors import ConfigError
from holdfast.stats._aggregates import FloatArray, WeightedMean

_SUM_ROUNDING = 1e-12
_SCORE_ROUNDING = 1e-15


class Aggregate(Protocol):
    """Maps summed statistics, float64 [..., n_stats], to scores, float64 [...].

    It must be vectorised over the leading axes, and comparable by ==: two systems are compared only
    if their aggregates are equal.
    """

    def __call__(self, sums: FloatArray, /) -> FloatArray:
        """Scores of the sums, one for each leading index."""


@dataclass(frozen=True, slots=True, eq=False)
class SufficientStatistics:
    """One system on one test set.

    values: [n_examples, n_stats], finite; kept as a read-only float64 copy. aggregate: from sums
    over examples to the score. signature: how the score was computed (metric, tokenisation,
    version); higher_is_better: its direction; test_set: a digest of what was scored against, ""
    when unknown. Systems are comparable only if all of these agree (an unknown test set agrees with
    any) and they have the same number of examples.

    Raises ConfigError for values that are empty, not two-dimensional, or not finite.
    """

    values: FloatArray
    aggregate: Aggregate
    signature: str
    higher_is_better: bool = True
    test_set: str = ""

    def __post_init__(self) -> None:
        values = _floats(self.values, "statistics")
        if values.ndim != 2 or 0 in values.shape:
            raise ConfigError(
                f"The statistics have shape {list(values.shape)}, "
                "expected [n_examples, n_stats] with at least one of each",
                where=self.signature,
                fix="Pass one row of statistics for each example of the test set.",
            )
        _refuse_non_finite(values, self.signature)
        values.setflags(write=False)
        object.__setattr__(self, "values", values)
        self.scores_of(values.sum(axis=0, keepdims=True))

    @property
    def examples(self) -> int:
        """The number of test examples."""
        return int(self.values.shape[0])

    @property
    def score(self) -> float:
        """The score on the whole test set."""
        return float(self.scores_of(self.values.sum(axis=0, keepdims=True))[0])

    @property
    def orientation(self) -> float:
        """+1.0 if higher is better, otherwise -1.0."""
        return 1.0 if self.higher_is_better else -1.0

    def scores_of(self, sums: FloatArray) -> FloatArray:
        """Scores [rows] of summed statistics [rows, n_stats].

        Raises ConfigError if the aggregate returns another shape or a value that is not finite.
        """
        scores = np.asarray(self.aggregate(sums), dtype=np.float64)
        if scores.shape != sums.shape[:-1]:
            raise ConfigError(
                f"The aggregate made scores of shape {list(scores.shape)} "
                f"from sums of shape {list(sums.shape)}",
                where=self.signature,
                fix="Write it for the last axis only: [..., n_stats] -> [...].",
            )
        if not np.isfinite(scores).all():
            raise ConfigError(
                "The aggregate returned a score that is not finite",
                where=self.signature,
                fix="Give sums that some resamples leave empty a defined score.",
            )
        return scores


def mean_scores(
    values: Sequence[float] | npt.ArrayLike,
    *,
    weights: Sequence[float] | npt.ArrayLike | None = None,
    name: str = "mean",
    higher_is_better: bool = True,
    test_set: str = "",
) -> SufficientStatistics:
    """Statistics of any task that scores each example on its own: the score is their mean.

    values: [n_examples], for instance 0/1 correctness, COMET segment scores, losses. weights:
    [n_examples], above zero; for instance target tokens, which makes a per-token loss of sentence
    means. name: becomes the signature, so that unlike scores are never compared.

    Raises ConfigError for empty, non-finite or mismatched input.
    """
    scores = _vector(values, f"scores named {name}")
    weighing = np.ones_like(scores)
    if weights is not None:
        weighing = _vector(weights, f"weights of {name}")
        if weighing.shape != scores.shape:
            raise ConfigError(
                f"There are {scores.size} scores but {weighing.size} weights",
                where=name,
                fix="Give each example one score and one weight.",
            )
        _refuse_non_finite(weighing[:, None], f"weights of {name}")
        if not (weighing > 0).all():
            example = int(np.argmin(weighing > 0))
            raise ConfigError(
                f"The weight of example {example} is {weighing[example]}, not above zero",
                where=name,
                fix="Leave examples without weight out of every system's scores.",
            )
    _refuse_non_finite(scores[:, None], name)
    return SufficientStatistics(
        values=np.stack([scores * weighing, weighing], axis=1),
        aggregate=WeightedMean(),
        signature=f"{name}|mean" if weights is None else f"{name}|weighted mean",
        higher_is_better=higher_is_better,
        test_set=test_set,
    )


def require_comparable(systems: Mapping[str, SufficientStatistics]) -> None:
    """Refuse systems whose scores do not mean the same thing.

    Raises ConfigError if there is none, or if two differ in signature, aggregate, direction,
    number of examples, or test set where both know theirs.
    """
    if not systems:
        raise ConfigError("There are no systems to compare", fix="Pass at least one.")
    names = list(systems)
    first = systems[names[0]]
    for name in names[1:]:
        _require_same(names[0], first, name, systems[name])
    sets = {system.test_set: name for name, system in systems.items() if system.test_set}
    if len(sets) > 1:
        digests = ", ".join(f"{name}: {digest}" for digest, name in sets.items())
        raise ConfigError(
            f"The systems were scored against different references ({digests})",
            fix="Score every system on the same test set, in the same order.",
        )


def differing_examples(a: SufficientStatistics, b: SufficientStatistics) -> npt.NDArray[np.intp]:
    """Indices of the examples whose statistics differ: all that a paired test can learn from."""
    return np.flatnonzero((a.values != b.values).any(axis=1))


def tie_tolerance(*systems: SufficientStatistics) -> float:
    """Score differences up to this many points are rounding, not differences.

    The most that any system's score moves when its sums are off by 1e-12 of the sum of absolute
    values: more than float64 summation in any order loses on test sets of realistic size.
    """
    return 2.0 * max(_rounding(system) for system in systems)


@overload
def without_rounding(difference: float, tolerance: float) -> float: ...
@overload
def without_rounding(difference: FloatArray, tolerance: float) -> FloatArray: ...
def without_rounding(difference: float | FloatArray, tolerance: float) -> float | FloatArray:
    """Differences of scores, with those within the tolerance set to 0.0."""
    if isinstance(difference, float):
        return 0.0 if abs(difference) <= tolerance else difference
    return np.where(np.abs(difference) <= tolerance, 0.0, difference)


def _rounding(system: SufficientStatistics) -> float:
    sums = system.values.sum(axis=0)
    nudged = sums + np.diag(_SUM_ROUNDING * np.abs(system.values).sum(axis=0))
    moved = np.abs(np.asarray(system.aggregate(nudged)) - system.score)
    return float(moved[np.isfinite(moved)].sum()) + _SCORE_ROUNDING * abs(system.score)


def _require_same(
    name_a: str, a: SufficientStatistics, name_b: str, b: SufficientStatistics
) -> None:
    if a.signature != b.signature or a.aggregate != b.aggregate:
        raise ConfigError(
            f"{name_a} and {name_b} were scored differently: "
            f"{a.signature} ({a.aggregate}) against {b.signature} ({b.aggregate})",
            fix="Score both with the same metric, settings and library version.",
        )
    if a.higher_is_better != b.higher_is_better:
        raise ConfigError(
            f"{name_a} and {name_b} disagree on whether a higher score is better",
            where=a.signature,
            fix="Give both the same higher_is_better.",
        )
    if a.examples != b.examples:
        raise ConfigError(
            f"{name_a} has {a.examples} examples and {name_b} has {b.examples}",
            where=a.signature,
            fix="A paired test needs both on the same test set, in the same order.",
        )


def _vector(values: object, what: str) -> FloatArray:
    vector = _floats(values, what)
    if vector.ndim != 1 or vector.size == 0:
        raise ConfigError(
            f"The {what} have shape {list(vector.shape)}, expected [n_examples] with at least one",
            fix="Pass one number for each example of the test set.",
        )
    return vector


def _floats(values: object, what: str) -> FloatArray:
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"The {what} are not an array of numbers: {error}",
            fix="Pass real numbers, the same count for each example.",
        ) from error


def _refuse_non_finite(values: FloatArray, where: str) -> None:
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        example = int(np.argmin(finite))
        raise ConfigError(
            f"Example {example} is {values[example].tolist()}, and {int((~finite).sum())} "
            f"of {len(values)} examples are not finite",
            where=where,
            fix="Find out why the evaluation returned NaN or infinity; "
            "leaving the example out must be done for every system alike.",
        )
