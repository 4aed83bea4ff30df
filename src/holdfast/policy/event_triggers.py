"""Triggers that go by what happens from outside: a request, the end of training."""

from __future__ import annotations

from dataclasses import dataclass

from holdfast.policy.moment import Moment
from holdfast.policy.trigger_state import TriggerState
from holdfast.policy.triggers import Trigger, Verdict


@dataclass(frozen=True, slots=True)
class OnRequest(Trigger):
    """Due when someone asked for a save: a signal, a touched file, another program."""

    def look(self, moment: Moment, state: TriggerState) -> Verdict:
        """See `Trigger`."""
        if moment.requested is None:
            return Verdict(False, "on_request", "nobody asked for a save")
        return Verdict(True, "on_request", f"requested by {moment.requested}")

    def describe(self) -> str:
        """See `Trigger`."""
        return "on request"


@dataclass(frozen=True, slots=True)
class AtExit(Trigger):
    """Due when training is about to end, unless this step is already saved."""

    def look(self, moment: Moment, state: TriggerState) -> Verdict:
        """See `Trigger`."""
        if moment.exiting is None:
            return Verdict(False, "at_exit", "training goes on")
        if moment.global_step == state.saved_step:
            return Verdict(False, "at_exit", f"step {moment.global_step} is saved already")
        return Verdict(True, "at_exit", f"training is ending: {moment.exiting}")

    def describe(self) -> str:
        """See `Trigger`."""
        return "at exit"
