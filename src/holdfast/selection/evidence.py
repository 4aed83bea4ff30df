"""Scores of candidates, and whether one is better enough to be believed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import nn

from holdfast.errors import ConfigError, HoldfastError
from holdfast.policy import Mode
from holdfast.policy.ranking import check_mode
from holdfast.stats import (
    SufficientStatistics,
    approximate_randomisation,
    paired_bootstrap,
    require_comparable,
)
from holdfast.stats.sufficient import tie_tolerance, without_rounding

Outcome: TypeAlias = "SufficientStatistics | float"
Evaluate: TypeAlias = Callable[[nn.Module], Outcome]
Accept: TypeAlias = Literal["one-se", "paired", "any"]

_RULES = ("one-se", "paired", "any")


class EvaluationError(HoldfastError):
    """The evaluation raised, or returned what cannot be compared."""


@dataclass(frozen=True, slots=True)
class Judge:
    """When a candidate replaces what there is.

    accept: "one-se", if it gains more than one paired standard error; "paired", if the paired
    randomisation test finds it better at `level`; "any", on any increase, which on small selection
    sets is mostly luck. The first two need statistics per example. mode: direction of plain
    numbers; statistics know theirs.
    """

    accept: Accept = "one-se"
    level: float = 0.05
    mode: Mode | None = None

    def __post_init__(self) -> None:
        if self.accept not in _RULES:
            raise ConfigError(f"accept is {self.accept!r}; use one of {', '.join(_RULES)}")
        if not 0.0 < self.level < 1.0:
            raise ConfigError(f"level is {self.level!r}; it must lie between 0 and 1")
        if self.mode is not None:
            check_mode(self.mode, metric="score")

    def checked(self, outcome: object, what: str) -> Outcome:
        """The outcome itself. Raises EvaluationError if it cannot be compared."""
        if isinstance(outcome, SufficientStatistics):
            return outcome
        try:
            value = float(outcome)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise EvaluationError(
                f"The evaluation returned a {type(outcome).__name__}",
                where=what,
                fix="return a number, or statistics such as holdfast.stats.mean_scores(...)",
            ) from error
        if not math.isfinite(value):
            raise EvaluationError(f"The evaluation returned {value}", where=what)
        if self.accept != "any" or self.mode is None:
            raise EvaluationError(
                "The evaluation returned a plain number, which shows no evidence and no direction",
                where=what,
                fix="return statistics per example, such as holdfast.stats.mean_scores(...); or "
                'pass accept="any" and mode="min" or "max"',
            )
        return value

    def gain(self, base: Outcome, candidate: Outcome) -> float:
        """By how much the candidate is better; negative if it is worse."""
        return _gain(self.mode, base, candidate)

    def accepts(self, base: Outcome, candidate: Outcome) -> tuple[bool, str]:
        """Whether the candidate replaces the base, and why."""
        gain = self.gain(base, candidate)
        if isinstance(base, float) or isinstance(candidate, float) or self.accept == "any":
            return gain > 0, f"gain {gain:+.4g}"
        if self.accept == "one-se":
            error = paired_bootstrap(base, candidate).standard_error
            return gain > error, f"gain {gain:+.4g}, paired standard error {error:.4g}"
        p_value = approximate_randomisation(base, candidate).p_value
        return gain > 0 and p_value <= self.level, f"gain {gain:+.4g}, p = {p_value:.4g}"


def score_of(outcome: Outcome) -> float:
    """The number to show."""
    return outcome.score if isinstance(outcome, SufficientStatistics) else outcome


def _gain(mode: Mode | None, base: Outcome, candidate: Outcome) -> float:
    if isinstance(base, SufficientStatistics) and isinstance(candidate, SufficientStatistics):
        require_comparable({"base": base, "candidate": candidate})
        tolerance = tie_tolerance(base, candidate)
        return base.orientation * without_rounding(candidate.score - base.score, tolerance)
    difference = score_of(candidate) - score_of(base)
    return -difference if mode == "min" else difference
