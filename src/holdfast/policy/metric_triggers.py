"""Triggers that go by a metric: only a finite value measured at this very step counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.policy import _checks
from holdfast.policy._text import listing
from holdfast.policy.moment import Moment
from holdfast.policy.ranking import Metric, Mode
from holdfast.policy.trigger_state import TriggerState
from holdfast.policy.triggers import Trigger, Verdict


@dataclass(frozen=True, slots=True, repr=False)
class WhenImproves(Trigger):
    """Due when a metric is better, by more than `min_delta`, than at every earlier save.

    Only a finite value measured at this very step counts. The first one is an improvement.
    """

    metric: str
    mode: Mode
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        Metric(self.metric, self.mode)
        _checks.finite_number(self.min_delta, name="min_delta", at_least=0)

    def look(self, moment: Moment, state: TriggerState) -> Verdict:
        """See `Trigger`."""
        kind = "when_improves"
        value = moment.fresh(self.metric)
        if value is None:
            return Verdict(False, kind, moment.explain_lack(self.metric))
        saved = (state.lowest if self.mode == "min" else state.highest).get(self.metric)
        gain = f" by more than {self.min_delta:g}" if self.min_delta else ""
        if Metric(self.metric, self.mode).improves(value, saved, min_delta=self.min_delta):
            past = "is the first to be saved" if saved is None else f"improves on {saved:.6g}{gain}"
            return Verdict(True, kind, f"{self.metric} {value:.6g} {past}")
        if saved is None:
            return Verdict(False, kind, f"{self.metric} is {value}")
        why = f"{self.metric} {value:.6g} does not improve on {saved:.6g}{gain}"
        return Verdict(False, kind, why)

    def describe(self) -> str:
        """See `Trigger`."""
        gain = f" by more than {self.min_delta:g}" if self.min_delta else ""
        return f"when {Metric(self.metric, self.mode)} improves{gain}"

    def __repr__(self) -> str:
        gain = f", min_delta={self.min_delta!r}" if self.min_delta else ""
        return f"WhenImproves({self.metric!r}, mode={self.mode!r}{gain})"


@dataclass(frozen=True, slots=True, repr=False)
class WhenBelow(Trigger):
    """Due when a metric is, for the first time at a save, below one of `thresholds`.

    Each threshold is due once, however the metric moves afterwards; several crossed at once make
    one save. Only a finite value measured at this very step counts. With a periodic trigger this is
    cyclical saving with loss thresholds: `EverySteps(1000) | WhenBelow("val_loss", [2.0, 1.5])`.
    """

    metric: str
    thresholds: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", _thresholds(self.metric, self.thresholds))

    def look(self, moment: Moment, state: TriggerState) -> Verdict:
        """See `Trigger`."""
        saved = state.lowest.get(self.metric, math.inf)
        open_ = [threshold for threshold in self.thresholds if saved >= threshold]
        return _look_for_crossing(self.metric, "below", open_, moment)

    def describe(self) -> str:
        """See `Trigger`."""
        return _describe_crossing(self.metric, "below", self.thresholds)

    def __repr__(self) -> str:
        return f"WhenBelow({self.metric!r}, {list(self.thresholds)})"


@dataclass(frozen=True, slots=True, repr=False)
class WhenAbove(Trigger):
    """Due when a metric is, for the first time at a save, above one of `thresholds`.

    Otherwise as `WhenBelow`.
    """

    metric: str
    thresholds: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", _thresholds(self.metric, self.thresholds))

    def look(self, moment: Moment, state: TriggerState) -> Verdict:
        """See `Trigger`."""
        saved = state.highest.get(self.metric, -math.inf)
        open_ = [threshold for threshold in self.thresholds if saved <= threshold]
        return _look_for_crossing(self.metric, "above", open_, moment)

    def describe(self) -> str:
        """See `Trigger`."""
        return _describe_crossing(self.metric, "above", self.thresholds)

    def __repr__(self) -> str:
        return f"WhenAbove({self.metric!r}, {list(self.thresholds)})"


def _thresholds(metric: str, thresholds: Sequence[float]) -> tuple[float, ...]:
    _checks.metric_name(metric)
    _checks.listed(thresholds, name=f"thresholds of {metric!r}")
    for threshold in thresholds:
        _checks.finite_number(threshold, name=f"a threshold of {metric!r}")
    return tuple(sorted(set(thresholds)))


def _look_for_crossing(metric: str, side: str, open_: Sequence[float], moment: Moment) -> Verdict:
    kind = f"when_{side}"
    value = moment.fresh(metric)
    if value is None:
        return Verdict(False, kind, moment.explain_lack(metric))
    if not math.isfinite(value):
        return Verdict(False, kind, f"{metric} is {value}")
    crossed = [t for t in open_ if (value < t if side == "below" else value > t)]
    if not crossed:
        return Verdict(False, kind, f"{metric} {value:.6g} is {side} no further threshold")
    names = listing([f"{threshold:g}" for threshold in crossed])
    return Verdict(True, kind, f"{metric} {value:.6g} is the first {side} {names}")


def _describe_crossing(metric: str, side: str, thresholds: Sequence[float]) -> str:
    names = listing([f"{threshold:g}" for threshold in thresholds], word="or")
    return f"when {metric} is first {side} {names}"
