"""What triggers remember: the moments that were saved, and nothing of the triggers themselves.

Every trigger is a question about the last save or about the metrics of earlier saves. So one small
record serves any combination of them, and a run may resume with other triggers than it began with.
As plain JSON:

    {"since": 1767225600.0,                                  # last attempt, or the first question
     "attempt": {"step": 2000, "epoch": 1} | null,           # last save begun, successful or not
     "saved_step": 2000 | null,                              # last save that succeeded
     "lowest": {"val_loss": 2.31}, "highest": {"val_loss": 4.9}}   # finite, measured when saved
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from holdfast.errors import PolicyError
from holdfast.jsontext import Json
from holdfast.policy.moment import Moment

StateJson = Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class TriggerState:
    """The record above; see `to_json` and `read`."""

    since: float
    attempt_step: int | None = None
    attempt_epoch: int | None = None
    saved_step: int | None = None
    lowest: Mapping[str, float] = field(default_factory=dict)
    highest: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, state: StateJson | None, moment: Moment) -> TriggerState:
        """The state as it stands at `moment`; None: nothing has happened yet.

        If the run has gone back, or the clock has, what lies ahead of `moment` is taken to be at
        it: multiples and intervals are then counted from here. Raises PolicyError if `state` is not
        what `to_json` makes.
        """
        if state is None:
            return cls(since=moment.now)
        known = _parse(state)
        return replace(
            known,
            since=min(known.since, moment.now),
            attempt_step=_at_most(known.attempt_step, moment.global_step),
            attempt_epoch=_at_most(known.attempt_epoch, moment.epoch),
            saved_step=known.saved_step
            if known.saved_step is None or known.saved_step <= moment.global_step
            else None,
        )

    def after_attempt(self, moment: Moment) -> TriggerState:
        """A save was begun at `moment` and failed: periods start anew, nothing else is taken in."""
        return replace(
            self,
            since=moment.now,
            attempt_step=moment.global_step,
            attempt_epoch=moment.epoch,
        )

    def after_save(self, moment: Moment) -> TriggerState:
        """A save succeeded at `moment`: its fresh, finite metrics count as saved."""
        lowest, highest = dict(self.lowest), dict(self.highest)
        for metric in moment.metrics:
            value = moment.fresh(metric)
            if value is not None and math.isfinite(value):
                lowest[metric] = min(value, lowest.get(metric, value))
                highest[metric] = max(value, highest.get(metric, value))
        return replace(
            self.after_attempt(moment),
            saved_step=moment.global_step,
            lowest=lowest,
            highest=highest,
        )

    def to_json(self) -> dict[str, Json]:
        """Plain JSON; `read` takes it back."""
        attempt: Json = None
        if self.attempt_step is not None:
            attempt = {"step": self.attempt_step, "epoch": self.attempt_epoch or 0}
        return {
            "since": self.since,
            "attempt": attempt,
            "saved_step": self.saved_step,
            "lowest": dict(self.lowest),
            "highest": dict(self.highest),
        }


def remember_save(moment: Moment, state: StateJson | None) -> dict[str, Json]:
    """The trigger state after a save at `moment` that no trigger asked for, such as `save()`."""
    return TriggerState.read(state, moment).after_save(moment).to_json()


def remember_failure(moment: Moment, state: StateJson | None) -> dict[str, Json]:
    """The trigger state after a save at `moment` failed; `state` is the one before the decision.

    Periods start anew, so that a full disk does not bring a new attempt at every step; a metric
    that improved has still to be saved, and so has this step at exit.
    """
    return TriggerState.read(state, moment).after_attempt(moment).to_json()


def _at_most(value: int | None, limit: int) -> int | None:
    return None if value is None else min(value, limit)


def _parse(state: StateJson) -> TriggerState:
    attempt = state.get("attempt")
    marks: Mapping[str, Json] = attempt if isinstance(attempt, Mapping) else {}
    if attempt is not None and set(marks) != {"step", "epoch"}:
        raise _malformed("attempt", attempt)
    since = state.get("since")
    if not _is_finite(since):
        raise _malformed("since", since)
    return TriggerState(
        since=float(since),  # type: ignore[arg-type]
        attempt_step=_count(marks.get("step"), "attempt.step"),
        attempt_epoch=_count(marks.get("epoch"), "attempt.epoch"),
        saved_step=_count(state.get("saved_step"), "saved_step"),
        lowest=_values(state.get("lowest"), "lowest"),
        highest=_values(state.get("highest"), "highest"),
    )


def _count(value: Json, key: str) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _malformed(key, value)
    return value


def _values(value: Json, key: str) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise _malformed(key, value)
    result = {}
    for name, number in value.items():
        if not _is_finite(number):
            raise _malformed(f"{key}.{name}", number)
        result[name] = float(number)  # type: ignore[arg-type]
    return result


def _is_finite(value: Json) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _malformed(key: str, value: Json) -> PolicyError:
    return PolicyError(
        f"The trigger state holds {value!r} under {key!r}",
        where="trigger state",
        fix="pass the state a trigger returned, unchanged, or None to begin afresh",
    )
