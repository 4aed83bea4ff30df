"""Triggers that go by steps, epochs and time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.policy import _checks
from holdfast.policy._text import duration, listing
from holdfast.policy.moment import Moment
from holdfast.policy.trigger_state import TriggerState
from holdfast.policy.triggers import Trigger, Verdict


@dataclass(frozen=True, slots=True, repr=False)
class EverySteps(Trigger):
    """Due when a multiple of `n` global steps was reached since the last save.

    Asked less often than every step, it is due at the first moment at or after the multiple; a save
    for another reason in between does not move the multiples.
    """

    n: int

    def __post_init__(self) -> None:
        _checks.whole_number(self.n, name="EverySteps n", at_least=1)

    def look(self, moment: Moment, state: TriggerState) -> Verdict:
        """See `Trigger`."""
        due, multiple = _reached(self.n, moment.global_step, state.attempt_step)
        if due:
            return Verdict(True, "every_steps", f"step {multiple} was reached ({self.describe()})")
        return Verdict(False, "every_steps", f"the next multiple is step {multiple}")

    def describe(self) -> str:
        """See `Trigger`."""
        return "every step" if self.n == 1 else f"every {self.n} steps"

    def __repr__(self) -> str:
        return f"EverySteps({self.n})"


@dataclass(frozen=True, slots=True, repr=False)
class EveryEpochs(Trigger):
    """Due when a multiple of `n` completed epochs was reached since the last save."""

    n: int = 1

    def __post_init__(self) -> None:
        _checks.whole_number(self.n, name="EveryEpochs n", at_least=1)

    def look(self, moment: Moment, state: TriggerState) -> Verdict:
        """See `Trigger`."""
        due, multiple = _reached(self.n, moment.epoch, state.attempt_epoch)
        if due:
            return Verdict(True, "every_epochs", f"epoch {multiple} is over ({self.describe()})")
        return Verdict(False, "every_epochs", f"the next multiple is epoch {multiple}")

    def describe(self) -> str:
        """See `Trigger`."""
        return "every epoch" if self.n == 1 else f"every {self.n} epochs"

    def __repr__(self) -> str:
        return f"EveryEpochs({self.n})"


@dataclass(frozen=True, slots=True, repr=False)
class EverySeconds(Trigger):
    """Due when `seconds` have passed since the last save, or since the first question if none.

    Time between two processes of a run counts. Not due while no step was taken since the last
    save. If the clock is set back, the interval begins anew.
    """

    seconds: float

    def __post_init__(self) -> None:
        _checks.finite_number(self.seconds, name="EverySeconds seconds", above=0)

    def look(self, moment: Moment, state: TriggerState) -> Verdict:
        """See `Trigger`."""
        passed = moment.now - state.since
        event = "the start" if state.attempt_step is None else "the last save"
        why = f"{duration(passed)} since {event} ({self.describe()})"
        if passed < self.seconds:
            return Verdict(False, "every_seconds", f"only {why}")
        if moment.global_step == state.saved_step:
            return Verdict(False, "every_seconds", f"step {moment.global_step} is saved already")
        return Verdict(True, "every_seconds", why)

    def describe(self) -> str:
        """See `Trigger`."""
        return f"every {duration(self.seconds)}"

    def __repr__(self) -> str:
        return f"EverySeconds({self.seconds!r})"


@dataclass(frozen=True, slots=True, repr=False)
class AtSteps(Trigger):
    """Due once for each of the listed global steps, at the first moment at or after it.

    A save at or after a listed step, for whatever reason, answers for it.
    """

    steps: Sequence[int]

    def __post_init__(self) -> None:
        _checks.listed(self.steps, name="AtSteps steps")
        for step in self.steps:
            _checks.whole_number(step, name="a step of AtSteps", at_least=0)
        object.__setattr__(self, "steps", tuple(sorted(set(self.steps))))

    def look(self, moment: Moment, state: TriggerState) -> Verdict:
        """See `Trigger`."""
        last = -1 if state.attempt_step is None else state.attempt_step
        reached = [step for step in self.steps if last < step <= moment.global_step]
        if reached:
            return Verdict(True, "at_steps", f"step {reached[-1]} was reached, which is listed")
        ahead = [step for step in self.steps if step > moment.global_step]
        why = f"the next listed step is {ahead[0]}" if ahead else "every listed step is past"
        return Verdict(False, "at_steps", why)

    def describe(self) -> str:
        """See `Trigger`."""
        return f"at step {listing([str(step) for step in self.steps])}"

    def __repr__(self) -> str:
        return f"AtSteps({list(self.steps)})"


def _reached(n: int, count: int, last: int | None) -> tuple[bool, int]:
    """Whether a multiple of n lies in (last, count]: with that multiple, else with the next one."""
    multiple = count // n * n
    due = multiple > (last or 0)
    return due, multiple if due else multiple + n
