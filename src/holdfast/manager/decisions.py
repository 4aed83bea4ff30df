"""When to save: the triggers, what they remember, and how fresh each metric is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.errors import PolicyError
from holdfast.jsontext import Json
from holdfast.policy import (
    AllOf,
    AnyOf,
    AtExit,
    Decision,
    Measurement,
    Moment,
    OnRequest,
    Trigger,
    WhenImproves,
    measured,
    remember_failure,
    remember_save,
)
from holdfast.values import SaveReason

_ASKED_FOR = AnyOf((OnRequest(), AtExit()))


class Decisions:
    """The trigger with its state; `last` is the last decision taken, with its reason."""

    def __init__(self, trigger: Trigger | None, only_best: WhenImproves | None) -> None:
        self.trigger = trigger
        self._only_best = only_best
        self._state: Mapping[str, Json] | None = None
        self._measured: dict[str, Measurement] = {}
        self.last: Decision | None = None

    @property
    def saves_at_exit(self) -> bool:
        """Whether `AtExit` is among the triggers."""
        return self.trigger is not None and _mentions_exit(self.trigger)

    def measure(self, numbers: Mapping[str, float], step: int) -> None:
        """Remember these metrics as measured on the weights of `step`."""
        self._measured |= measured(numbers, step)

    def moment(
        self,
        step: int,
        epochs: int,
        now: float,
        *,
        requested: str | None = None,
        exiting: str | None = None,
    ) -> Moment:
        """This moment of training with the last measurement of each metric, fresh or stale."""
        return Moment(step, epochs, now, dict(self._measured), requested, exiting)

    def fresh(self, step: int) -> dict[str, float]:
        """The metrics that describe the weights of this very step."""
        return {name: m.value for name, m in self._measured.items() if m.step == step}

    def ask(self, moment: Moment, *, only_if_asked: bool = False) -> Decision:
        """Decide. What was asked for from outside is saved whatever the triggers are.

        only_if_asked: look at nothing else. The state is not changed before `saved` or `failed`.
        """
        trigger: Trigger = _ASKED_FOR
        if self.trigger is not None and not only_if_asked:
            wanted = self.trigger
            if self._only_best is not None:
                wanted = AllOf((wanted, self._only_best))
            trigger = AnyOf((wanted, *_ASKED_FOR.triggers)) if _is_asked(moment) else wanted
        self.last = trigger.decide(moment, self._state)
        if not self.last.save and not only_if_asked:
            self._state = self.last.state
        return self.last

    def follow(self, moment: Moment, save: bool, reason: SaveReason) -> Decision:
        """Take over what another rank decided."""
        self.last = Decision(save, reason, remember_failure(moment, self._state))
        return self.last

    def after_save(self, moment: Moment) -> dict[str, Json]:
        """The state as it will be once this moment is saved."""
        return remember_save(moment, self._state)

    def saved(self, moment: Moment) -> None:
        """A save at this moment succeeded."""
        self._state = self.after_save(moment)

    def failed(self, moment: Moment) -> None:
        """A save at this moment failed."""
        self._state = remember_failure(moment, self._state)

    def restore(self, stored: object, time: float, moment: Moment) -> None:
        """Take up the state saved in a checkpoint of that time; begin afresh if it has none.

        The time of the last save is that of the checkpoint and is not stored a second time: a save
        that is repeated must have the same content. Raises PolicyError if it is malformed.
        """
        self._measured = {}
        self._state = None
        if stored is not None:
            if not isinstance(stored, dict):
                raise PolicyError(f"The trigger state is {stored!r}", where="trigger state")
            state: dict[str, Json] = {**stored, "since": time}
            self._state = state
            self._state = OnRequest().decide(moment, state).state


def to_store(state: Mapping[str, Json]) -> dict[str, Any]:
    """The part of a trigger state that a checkpoint keeps; see `Decisions.restore`."""
    return {key: value for key, value in state.items() if key != "since"}


def _is_asked(moment: Moment) -> bool:
    return moment.requested is not None or moment.exiting is not None


def _mentions_exit(trigger: Trigger) -> bool:
    if isinstance(trigger, (AnyOf, AllOf)):
        return any(map(_mentions_exit, trigger.triggers))
    return isinstance(trigger, AtExit)
