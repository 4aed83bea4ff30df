"""Has a metric stopped improving? Plateaus, and stopping a run at one.

Rules are frozen and remember nothing: `observe` takes the state and returns the next one, plain
JSON to be kept in the checkpoint, so that a resumed run does not get its patience back
(`EarlyStopper` holds the state for those who want an object). The state:

    {"metric": "val_loss", "mode": "min",
     "best": 2.31 | null, "best_step": 2000 | null,      # the last improvement
     "last_step": 3500 | null,                           # the last evaluation counted
     "without_improvement": 3}                           # evaluations since the last improvement

Everything else follows from it and the rule, so patience may be changed when a run is resumed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from holdfast.errors import PolicyError
from holdfast.jsontext import Json
from holdfast.policy import _checks
from holdfast.policy.ranking import Metric, Mode


@dataclass(frozen=True, slots=True)
class Progress:
    """What one evaluation meant.

    improved: it beat the best. plateau: it completed one, at this very evaluation. plateaus: how
    many were completed since the last improvement. why: a clause. state: to go on with.
    """

    improved: bool
    plateau: bool
    plateaus: int
    why: str
    state: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class StopDecision:
    """Whether to stop training, why or why not, and the state to go on with."""

    stop: bool
    why: str
    progress: Progress

    @property
    def state(self) -> Mapping[str, Json]:
        """To be passed to the next `observe`."""
        return self.progress.state


@dataclass(frozen=True, slots=True)
class Plateau:
    """A plateau: `patience` evaluations in a row that do not improve on the best.

    An improvement is a finite value better than the best by more than `min_delta` (absolute; two or
    three standard errors of the metric are a sensible choice). Small gains add up: they are
    measured against the last improvement, not against the evaluation before. After a plateau,
    `cooldown` evaluations pass before the count begins anew; an improvement ends the cooldown.

    NaN and infinities are evaluations that did not improve. A missing value is no evaluation.
    Raises PolicyError for a patience below 1 or a negative min_delta or cooldown.
    """

    metric: str
    mode: Mode
    patience: int
    min_delta: float = 0.0
    cooldown: int = 0

    def __post_init__(self) -> None:
        Metric(self.metric, self.mode)
        _checks.whole_number(self.patience, name="patience", at_least=1)
        _checks.finite_number(self.min_delta, name="min_delta", at_least=0)
        _checks.whole_number(self.cooldown, name="cooldown", at_least=0)

    def observe(
        self, state: Mapping[str, Json] | None, *, step: int, value: float | None
    ) -> Progress:
        """Take in one evaluation.

        state: what the last call returned, or None at the start. step: the global step of the
        weights that were evaluated; one that is not beyond the last counted is not counted again.
        value: the metric, or None if it was not measured. Raises PolicyError if `state` is not what
        `observe` returns. A state of another metric or direction is dropped, and `why` says so.
        """
        _checks.whole_number(step, name="step", at_least=0)
        known = _State.read(state, Metric(self.metric, self.mode))
        if value is None:
            return self._unchanged(known, f"{self.metric} was not measured at step {step}")
        if known.last_step is not None and step <= known.last_step:
            why = f"step {step} is not counted: step {known.last_step} already is"
            return self._unchanged(known, why)
        if Metric(self.metric, self.mode).improves(value, known.best, min_delta=self.min_delta):
            was = "the first value" if known.best is None else f"better than {known.best:.6g}"
            why = f"{self.metric} {value:.6g} is {was}{known.remark}"
            state = _State(known.metric, value, step, step, 0).to_json()
            return Progress(True, False, 0, why, state)
        return self._without_improvement(known, step, value)

    def plateaus(self, without_improvement: int) -> int:
        """How many plateaus so many evaluations in a row without improvement make."""
        beyond = without_improvement - self.patience
        return 0 if beyond < 0 else 1 + beyond // (self.patience + self.cooldown)

    def _without_improvement(self, known: _State, step: int, value: float) -> Progress:
        count = known.without_improvement + 1
        after = _State(known.metric, known.best, known.best_step, step, count)
        plateaus = self.plateaus(count)
        best = (
            "no finite value yet"
            if known.best is None
            else f"best {known.best:.6g} at step {known.best_step}"
        )
        why = (
            f"{self.metric} {value:.6g} is evaluation {count} without improvement "
            f"({best}, patience {self.patience}){known.remark}"
        )
        return Progress(False, plateaus > self.plateaus(count - 1), plateaus, why, after.to_json())

    def _unchanged(self, known: _State, why: str) -> Progress:
        plateaus = self.plateaus(known.without_improvement)
        return Progress(False, False, plateaus, f"{why}{known.remark}", known.to_json())


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """Stop at the `plateaus`-th plateau since the last improvement; see `Plateau` for the rest.

    With `plateaus=1` the run stops after `patience` evaluations without improvement. More leave
    room to lower the learning rate at each plateau and stop at the last. Once due, stopping stays
    due, also after a resume, until an improvement or a more patient rule.
    """

    metric: str
    mode: Mode
    patience: int
    min_delta: float = 0.0
    cooldown: int = 0
    plateaus: int = 1

    def __post_init__(self) -> None:
        self._plateau()
        _checks.whole_number(self.plateaus, name="plateaus", at_least=1)

    def observe(
        self, state: Mapping[str, Json] | None, *, step: int, value: float | None
    ) -> StopDecision:
        """Take in one evaluation; arguments and errors as for `Plateau.observe`."""
        progress = self._plateau().observe(state, step=step, value=value)
        stop = progress.plateaus >= self.plateaus
        counted = f"; plateau {progress.plateaus} of {self.plateaus}" if progress.plateaus else ""
        return StopDecision(stop, f"{progress.why}{counted}", progress)

    def _plateau(self) -> Plateau:
        return Plateau(self.metric, self.mode, self.patience, self.min_delta, self.cooldown)


class EarlyStopper:
    """An `EarlyStopping` rule with its state, for `manager.register`."""

    def __init__(self, rule: EarlyStopping) -> None:
        self.rule = rule
        self._state: dict[str, Json] = {}

    def observe(self, step: int, value: float | None) -> StopDecision:
        """Take in one evaluation; see `EarlyStopping.observe`."""
        decision = self.rule.observe(self._state or None, step=step, value=value)
        self._state = dict(decision.state)
        return decision

    def state_dict(self) -> dict[str, Json]:
        """Plain JSON; empty before the first evaluation."""
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Json]) -> None:
        """Take up where `state_dict` left off. Raises PolicyError, changing nothing, if unfit."""
        if state:
            _State.read(state, Metric(self.rule.metric, self.rule.mode))
        self._state = dict(state)


@dataclass(frozen=True, slots=True)
class _State:
    metric: Metric
    best: float | None = None
    best_step: int | None = None
    last_step: int | None = None
    without_improvement: int = 0
    remark: str = ""

    @classmethod
    def read(cls, state: Mapping[str, Json] | None, metric: Metric) -> _State:
        if state is None:
            return cls(metric)
        if (state.get("metric"), state.get("mode")) != (metric.name, metric.mode):
            other = f"{state.get('metric')} ({state.get('mode')})"
            return cls(metric, remark=f"; begun afresh, because the state was of {other}")
        best = state.get("best")
        if not _fits(best, (int, float)) or (best is not None and not math.isfinite(best)):  # type: ignore[arg-type]
            raise _malformed("best", best)
        steps = (state.get("best_step"), state.get("last_step"))
        count = state.get("without_improvement")
        for key, value in (("best_step", steps[0]), ("last_step", steps[1])):
            if not _fits(value, (int,)):
                raise _malformed(key, value)
        if count is None or not _fits(count, (int,)) or count < 0:  # type: ignore[operator]
            raise _malformed("without_improvement", count)
        return cls(metric, best, *steps, count)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Json]:
        return {
            "metric": self.metric.name,
            "mode": self.metric.mode,
            "best": self.best,
            "best_step": self.best_step,
            "last_step": self.last_step,
            "without_improvement": self.without_improvement,
        }


def _fits(value: Json, types: tuple[type, ...]) -> bool:
    return value is None or (isinstance(value, types) and not isinstance(value, bool))


def _malformed(key: str, value: Json) -> PolicyError:
    return PolicyError(
        f"The early-stopping state holds {value!r} under {key!r}",
        where="early-stopping state",
        fix="pass the state that observe() returned, unchanged, or None to begin afresh",
    )
