"""What the tests report: frozen records, each with `to_dict()` for JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

IntervalMethod: TypeAlias = Literal["percentile", "bca"]
Verdict: TypeAlias = Literal["better", "worse", "no evidence of a difference"]


class _Record:
    """A dataclass of plain values and other records."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain dicts, lists, strings and numbers."""
        return {key: _plain(value) for key, value in asdict(self).items()}  # type: ignore[call-overload]


@dataclass(frozen=True, slots=True)
class Interval(_Record):
    """A confidence interval. confidence: nominal coverage, such as 0.95."""

    low: float
    high: float
    confidence: float
    method: IntervalMethod


@dataclass(frozen=True, slots=True)
class Estimate(_Record):
    """One system's score and how far another test set like this one might move it.

    standard_error: standard deviation of the score over resamples.
    """

    score: float
    interval: Interval
    standard_error: float
    examples: int
    signature: str
    resamples: int
    seed: int


@dataclass(frozen=True, slots=True)
class PairedBootstrap(_Record):
    """The difference between two systems over resamples of their common test set.

    delta: candidate minus baseline, in points of the score whichever direction is better.
    interval: of the delta; the two systems' own intervals overlap long before the difference is in
    doubt, so compare by this one. p_not_better: (1 + resamples where the candidate is not better) /
    (1 + resamples), ties counting as not better.
    """

    delta: float
    interval: Interval
    baseline_interval: Interval
    candidate_interval: Interval
    standard_error: float
    p_not_better: float
    resamples: int
    seed: int


@dataclass(frozen=True, slots=True)
class RandomisationTest(_Record):
    """Two-sided test of whether the two systems' outputs might as well be exchanged.

    delta: candidate minus baseline. differing: the number of examples whose statistics differ.
    exact: every one of the 2**differing exchanges was tried, so p_value has no sampling error.
    trials: exchanges tried. seed: None when exact.
    """

    delta: float
    p_value: float
    differing: int
    exact: bool
    trials: int
    seed: int | None


@dataclass(frozen=True, slots=True)
class Comparison(_Record):
    """A candidate against a baseline on one test set.

    p_adjusted: the randomisation test's p-value after Holm's correction for all `comparisons` made
    together; equal to it when there was one.
    """

    baseline: str
    candidate: str
    baseline_score: float
    candidate_score: float
    higher_is_better: bool
    examples: int
    signature: str
    bootstrap: PairedBootstrap
    randomisation: RandomisationTest
    p_adjusted: float
    comparisons: int

    @property
    def delta(self) -> float:
        """Candidate minus baseline, in points of the score."""
        return self.randomisation.delta

    @property
    def p_value(self) -> float:
        """The randomisation test's two-sided p-value, before correction."""
        return self.randomisation.p_value

    def verdict(self, level: float = 0.05) -> Verdict:
        """What may be claimed of the candidate at a significance level, after correction."""
        if self.p_adjusted > level:
            return "no evidence of a difference"
        return "better" if (self.delta > 0) == self.higher_is_better else "worse"


@dataclass(frozen=True, slots=True)
class Standing(_Record):
    """One of K candidates. p_best: the share of resamples in which it wins, split among ties.

    delta_to_best, standard_error: its score minus that of the best, and the paired standard error
    of that difference; both 0.0 for the best itself. tied: it is in the tie set.
    """

    name: str
    score: float
    interval: Interval
    delta_to_best: float
    standard_error: float
    p_best: float
    tied: bool


@dataclass(frozen=True, slots=True)
class BestOf(_Record):
    """K candidates on one test set, best first, and how much of the winner's lead may be luck.

    standings: by score, equal scores in the order given. best: the first of them. luck: by how many
    points the choice of the winner is estimated to flatter it, never negative. shrunk_score: its
    score without that luck. level: of the tie set.
    """

    standings: tuple[Standing, ...]
    best: str
    best_score: float
    luck: float
    shrunk_score: float
    higher_is_better: bool
    level: float
    examples: int
    signature: str
    resamples: int
    seed: int

    @property
    def tie_set(self) -> tuple[str, ...]:
        """Names of the candidates that may be the truly best one, best score first."""
        return tuple(standing.name for standing in self.standings if standing.tied)

    @property
    def within_one_standard_error(self) -> tuple[str, ...]:
        """Names of the candidates within one paired standard error of the best, best first."""
        return tuple(
            standing.name
            for standing in self.standings
            if abs(standing.delta_to_best) <= standing.standard_error
        )


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
