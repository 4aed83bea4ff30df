"""When to save: triggers that combine with `|` and `&`.

The single ones are in `schedule_triggers`, `metric_triggers` and `event_triggers`.

    EverySteps(1000) | EverySeconds(900) | WhenBelow("val_loss", [2.0, 1.5]) | AtExit()
    WhenImproves("val_bleu", mode="max") & EverySeconds(600)

A trigger is frozen and remembers nothing: `decide` takes the state and returns the next one. What
has fallen due stays due until a save, whoever asks for that save: `EverySteps(1000) & other` fires
at the first moment at or after a multiple at which `other` is due as well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from holdfast.errors import PolicyError
from holdfast.jsontext import Json
from holdfast.policy.moment import Moment
from holdfast.policy.trigger_state import StateJson, TriggerState
from holdfast.values import SaveReason


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a trigger is due, and why or why not as a clause; `kind` is a short machine word."""

    due: bool
    kind: str
    why: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether to save, why (or why not: kind "not_due"), and the state to ask with next time.

    If the save then fails, go on with `remember_failure(moment, state before)` instead of `state`.
    """

    save: bool
    reason: SaveReason
    state: Mapping[str, Json]


class Trigger(ABC):
    """A rule of when to save."""

    __slots__ = ()

    @abstractmethod
    def look(self, moment: Moment, state: TriggerState) -> Verdict:
        """Whether a save is due at `moment`, given what was saved before."""

    @abstractmethod
    def describe(self) -> str:
        """When the trigger is due, in words that complete "save ..."."""

    def decide(self, moment: Moment, state: StateJson | None = None) -> Decision:
        """Decide for one moment.

        state: what the last decision returned, or None at the start of a run; plain JSON, to be
        kept in the checkpoint. The same moment and state always give the same decision. Raises
        PolicyError if `state` is not a trigger state.
        """
        known = TriggerState.read(state, moment)
        verdict = self.look(moment, known)
        if not verdict.due:
            return Decision(False, SaveReason("not_due", verdict.why), known.to_json())
        reason = SaveReason(verdict.kind, verdict.why)
        return Decision(True, reason, known.after_save(moment).to_json())

    def __or__(self, other: Trigger) -> Trigger:
        if not isinstance(other, Trigger):
            return NotImplemented
        return AnyOf((self, other))

    def __and__(self, other: Trigger) -> Trigger:
        if not isinstance(other, Trigger):
            return NotImplemented
        return AllOf((self, other))


@dataclass(frozen=True, slots=True, repr=False)
class AnyOf(Trigger):
    """Due when any of `triggers` is: `a | b`. Gives the reasons of all that are due."""

    triggers: tuple[Trigger, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "triggers", _flatten(self.triggers, AnyOf))

    def look(self, moment: Moment, state: TriggerState) -> Verdict:
        """Due when any is."""
        verdicts = [trigger.look(moment, state) for trigger in self.triggers]
        due = [verdict for verdict in verdicts if verdict.due]
        return _join(bool(due), due or verdicts)

    def describe(self) -> str:
        """See `Trigger`."""
        return " or ".join(trigger.describe() for trigger in self.triggers)

    def __repr__(self) -> str:
        return " | ".join(map(repr, self.triggers))


@dataclass(frozen=True, slots=True, repr=False)
class AllOf(Trigger):
    """Due when all of `triggers` are: `a & b`. If not, names those that are not due."""

    triggers: tuple[Trigger, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "triggers", _flatten(self.triggers, AllOf))

    def look(self, moment: Moment, state: TriggerState) -> Verdict:
        """Due when all are."""
        verdicts = [trigger.look(moment, state) for trigger in self.triggers]
        waiting = [verdict for verdict in verdicts if not verdict.due]
        return _join(not waiting, waiting or verdicts)

    def describe(self) -> str:
        """See `Trigger`."""
        parts = [(trigger, trigger.describe()) for trigger in self.triggers]
        return " and ".join(f"({text})" if isinstance(t, AnyOf) else text for t, text in parts)

    def __repr__(self) -> str:
        return " & ".join(f"({t!r})" if isinstance(t, AnyOf) else repr(t) for t in self.triggers)


def _flatten(triggers: tuple[Trigger, ...], kind: type[AnyOf] | type[AllOf]) -> tuple[Trigger, ...]:
    flat: list[Trigger] = []
    for trigger in triggers:
        if not isinstance(trigger, Trigger):
            raise PolicyError(f"Only triggers can be combined, not {trigger!r}")
        parts = trigger.triggers if isinstance(trigger, kind) else (trigger,)
        flat.extend(part for part in parts if part not in flat)
    if not flat:
        raise PolicyError(f"{kind.__name__} needs at least one trigger")
    return tuple(flat)


def _join(due: bool, verdicts: list[Verdict]) -> Verdict:
    kinds = dict.fromkeys(verdict.kind for verdict in verdicts)
    return Verdict(due, "+".join(kinds), "; ".join(verdict.why for verdict in verdicts))
