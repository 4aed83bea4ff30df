"""Random runs, played against a plain model of the triggers that remembers every save."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st
from policy_records import INF, NAN, STEADY

from holdfast.policy import (
    AllOf,
    AnyOf,
    AtExit,
    AtSteps,
    EveryEpochs,
    EverySeconds,
    EverySteps,
    Measurement,
    Moment,
    OnRequest,
    Trigger,
    WhenAbove,
    WhenBelow,
    WhenImproves,
    remember_failure,
    remember_save,
)
from holdfast.policy.trigger_state import StateJson

METRIC = "val_loss"
levels = st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=1, max_size=3)
singles = st.one_of(
    st.builds(EverySteps, st.integers(1, 12)),
    st.builds(EveryEpochs, st.integers(1, 3)),
    st.builds(EverySeconds, st.sampled_from([5.0, 30.0])),
    st.builds(AtSteps, st.lists(st.integers(0, 60), min_size=1, max_size=5)),
    st.builds(
        WhenImproves,
        st.just(METRIC),
        st.sampled_from(["min", "max"]),
        st.sampled_from([0.0, 0.75]),
    ),
    st.builds(WhenBelow, st.just(METRIC), levels),
    st.builds(WhenAbove, st.just(METRIC), levels),
    st.just(OnRequest()),
    st.just(AtExit()),
)
triggers = st.recursive(
    singles,
    lambda parts: st.one_of(
        st.builds(lambda a, b: a | b, parts, parts), st.builds(lambda a, b: a & b, parts, parts)
    ),
    max_leaves=5,
)


@dataclass(frozen=True)
class Event:
    """One question in the life of a run: how far it went on, and what happens to the save."""

    steps: int
    seconds: float
    value: float | None
    measured_ago: int
    requested: bool
    exiting: bool
    outcome: str


events = st.lists(
    st.builds(
        Event,
        steps=st.integers(0, 15),
        seconds=st.sampled_from([0.0, 1.0, 10.0, 100.0]),
        value=st.none() | st.sampled_from([0.5, 1.0, 1.5, 2.0, 2.5, 3.5, NAN, INF, -INF]),
        measured_ago=st.sampled_from([0, 0, 1]),
        requested=st.sampled_from([False, False, False, True]),
        exiting=st.sampled_from([False, False, False, True]),
        outcome=st.sampled_from(["saved", "saved", "failed", "saved by hand"]),
    ),
    max_size=25,
)


@dataclass
class Diary:
    """Everything that happened, as the model remembers it: all of it."""

    start: float
    attempts: list[Moment] = field(default_factory=list)
    saves: list[Moment] = field(default_factory=list)

    def saved_values(self) -> list[float]:
        """Finite values of the metric that belong to a saved checkpoint."""
        found = [save.metrics.get(METRIC) for save in self.saves]
        pairs = zip(self.saves, found, strict=True)
        return [
            m.value for save, m in pairs if m and m.step == save.global_step and abs(m.value) < INF
        ]


def is_due(trigger: Trigger, now: Moment, diary: Diary) -> bool:
    """The definition of each trigger, word for word, over the whole diary."""
    last = diary.attempts[-1] if diary.attempts else None
    measurement = now.metrics.get(METRIC)
    is_fresh = measurement is not None and measurement.step == now.global_step
    value = measurement.value if measurement is not None and is_fresh else NAN
    ranked, before = abs(value) < INF, diary.saved_values()
    is_saved = any(save.global_step == now.global_step for save in diary.saves)
    match trigger:
        case AnyOf(parts):
            return any(is_due(part, now, diary) for part in parts)
        case AllOf(parts):
            return all(is_due(part, now, diary) for part in parts)
        case EverySteps(n):
            since = last.global_step if last else 0
            return any(step % n == 0 for step in range(since + 1, now.global_step + 1))
        case EveryEpochs(n):
            since = last.epoch if last else 0
            return any(epoch % n == 0 for epoch in range(since + 1, now.epoch + 1))
        case EverySeconds(seconds):
            return now.now - (last.now if last else diary.start) >= seconds and not is_saved
        case AtSteps(steps):
            since = last.global_step if last else -1
            return any(since < step <= now.global_step for step in steps)
        case WhenImproves(_, "min", delta):
            return ranked and all(old - value > delta for old in before)
        case WhenImproves(_, "max", delta):
            return ranked and all(value - old > delta for old in before)
        case WhenBelow(_, limits):
            return ranked and any(value < t and all(old >= t for old in before) for t in limits)
        case WhenAbove(_, limits):
            return ranked and any(value > t and all(old <= t for old in before) for t in limits)
        case OnRequest():
            return now.requested is not None
        case AtExit():
            return now.exiting is not None and not is_saved
    raise AssertionError(f"the model does not know {trigger!r}")


def to_moment(event: Event, step: int, now: float) -> Moment:
    """The moment that an event makes of the run's position."""
    measured = {}
    if event.value is not None:
        measured[METRIC] = Measurement(event.value, max(0, step - event.measured_ago))
    return Moment(
        step,
        step // 10,
        now,
        measured,
        requested="a test" if event.requested else None,
        exiting="a test" if event.exiting else None,
    )


@settings(STEADY, max_examples=250)
@given(trigger=triggers, events=events)
def test_triggers_decide_as_defined(trigger: Trigger, events: list[Event]) -> None:
    """With a small state that crosses JSON, a trigger decides as if it remembered every save."""
    state: StateJson | None = None
    diary = Diary(start=1000.0 + (events[0].seconds if events else 0.0))
    step, clock = 0, 1000.0
    for event in events:
        step, clock = step + event.steps, clock + event.seconds
        now = to_moment(event, step, clock)
        decision = trigger.decide(now, state)
        assert decision.save == is_due(trigger, now, diary)
        assert decision.reason.text
        assert decision.save == (decision.reason.kind != "not_due")
        assert trigger.decide(now, state) == decision
        after = decision.state
        if event.outcome == "saved by hand":
            after = remember_save(now, state)
        elif decision.save and event.outcome == "failed":
            after = remember_failure(now, state)
        if decision.save or event.outcome == "saved by hand":
            diary.attempts.append(now)
            if event.outcome != "failed":
                diary.saves.append(now)
        state = json.loads(json.dumps(after))
