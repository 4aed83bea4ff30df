"""When a checkpoint is saved, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from policy_records import INF, NAN, moment

from holdfast.policy import (
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


def play(trigger: Trigger, moments: Sequence[Moment]) -> tuple[list[int], list[str]]:
    """Ask at each moment; the state crosses JSON each time. Returns steps saved and reasons."""
    state: StateJson | None = None
    steps, reasons = [], []
    for now in moments:
        decision = trigger.decide(now, state)
        state = json.loads(json.dumps(decision.state))
        if decision.save:
            steps.append(now.global_step)
            reasons.append(decision.reason.text)
    return steps, reasons


def every(*steps: int) -> list[Moment]:
    """Moments at these steps."""
    return [moment(step) for step in steps]


def loss(*values: float) -> list[Moment]:
    """Moments at steps 1, 2, 3, ... with these fresh values of val_loss."""
    return [moment(step, val_loss=value) for step, value in enumerate(values, start=1)]


@pytest.mark.parametrize(
    ("trigger", "moments", "saved"),
    [
        pytest.param(EverySteps(3), every(*range(10)), [3, 6, 9], id="every 3 steps"),
        pytest.param(EverySteps(1), every(0, 1, 2), [1, 2], id="every step, not before the first"),
        pytest.param(
            EverySteps(1000),
            every(990, 1010, 1990, 2030, 4100, 4900),
            [1010, 2030, 4100],
            id="multiples that were stepped over, once each time",
        ),
        pytest.param(EverySteps(1000), every(5500, 5600), [5500], id="asked late at first"),
        pytest.param(
            EverySteps(1000) | AtSteps([1500]),
            every(1000, 1500, 2000),
            [1000, 1500, 2000],
            id="another save does not move the multiples",
        ),
        pytest.param(
            EverySteps(1000),
            every(2000, 1200, 1900, 2000),
            [2000, 2000],
            id="a run that went back counts from there",
        ),
        pytest.param(
            EveryEpochs(2),
            [moment(step, epoch=step // 10) for step in range(0, 61, 5)],
            [20, 40, 60],
            id="every 2 epochs",
        ),
        pytest.param(
            EverySeconds(60),
            [moment(step, now=1000.0 + 25 * step) for step in range(8)],
            [3, 6],
            id="a minute since the start, then since the last save",
        ),
        pytest.param(
            EverySeconds(60) | EverySteps(4),
            [moment(step, now=25.0 * step) for step in range(8)],
            [3, 4, 7],
            id="any save begins the interval anew",
        ),
        pytest.param(
            EverySeconds(60),
            [moment(1, now=5000), moment(2, now=100), moment(3, now=159), moment(4, now=160)],
            [4],
            id="a clock set back delays by no more than one interval",
        ),
        pytest.param(
            EverySeconds(60),
            [moment(1, now=0), moment(1, now=60), moment(1, now=120), moment(2, now=121)],
            [1, 2],
            id="no second save of the same step",
        ),
        pytest.param(
            AtSteps([7, 0, 3, 3]), every(0, 1, 2, 3, 4, 8, 9), [0, 3, 8], id="listed steps"
        ),
        pytest.param(AtSteps([2, 3, 4]), every(1, 9, 10), [9], id="several stepped over at once"),
        pytest.param(
            WhenImproves("val_loss", mode="min"),
            loss(3.0, 3.0, 2.0, 4.0, 1.9),
            [1, 3, 5],
            id="improves: an equal value does not",
        ),
        pytest.param(
            WhenImproves("val_loss", mode="max"), loss(3.0, 2.0, 4.0), [1, 3], id="higher is better"
        ),
        pytest.param(
            WhenImproves("val_loss", mode="min", min_delta=0.5),
            loss(3.0, 2.8, 2.5, 2.4, 2.0, 1.8),
            [1, 4, 6],
            id="small gains add up until they count",
        ),
        pytest.param(
            WhenImproves("val_loss", mode="min"),
            loss(NAN, -INF, INF, 3.0, NAN, -INF, 2.0),
            [4, 7],
            id="what is not finite neither improves nor blocks",
        ),
        pytest.param(
            WhenImproves("bleu", mode="max"),
            loss(3.0, 2.0),
            [],
            id="a missing metric",
        ),
        pytest.param(
            WhenBelow("val_loss", [2.0, 1.5, 1.0]),
            loss(3.0, 2.0, 1.9, 2.5, 1.8, 1.2, 0.9),
            [3, 6, 7],
            id="each threshold once",
        ),
        pytest.param(
            WhenBelow("val_loss", [2.0, 1.5, 1.0]), loss(0.5, 0.4), [1], id="all crossed at once"
        ),
        pytest.param(
            WhenBelow("val_loss", [2.0]), loss(NAN, -INF, 1.0), [3], id="below needs a finite value"
        ),
        pytest.param(
            WhenAbove("val_loss", [10, 20]), loss(5, 10, 11, 9, INF, 25), [3, 6], id="above"
        ),
        pytest.param(
            EverySteps(2) | WhenAbove("val_loss", [2.0]),
            loss(1.0, 2.0, 2.5),
            [2, 3],
            id="a saved value at the threshold is not above it",
        ),
        pytest.param(
            EverySteps(2) | WhenBelow("val_loss", [2.0]),
            loss(3.0, 2.0, 1.5),
            [2, 3],
            id="nor below it",
        ),
        pytest.param(
            EverySteps(4) | WhenBelow("val_loss", [2.0, 1.0]),
            loss(3.0, 1.9, 1.8, 1.7, 1.6, 0.9, 0.8, 0.7),
            [2, 4, 6, 8],
            id="cyclical saving plus loss thresholds",
        ),
        pytest.param(
            EverySteps(2) & WhenImproves("val_loss", mode="min"),
            loss(5.0, 4.0, 3.0, 6.0, 2.0, 1.0),
            [2, 5, 6],
            id="all of: what is due waits for the others",
        ),
        pytest.param(
            WhenImproves("val_loss", mode="min") & EverySeconds(60),
            [moment(s, now=30.0 * s, val_loss=9.0 - s) for s in range(6)],
            [2, 4],
            id="improves, but at most once a minute",
        ),
        pytest.param(
            OnRequest(),
            [moment(1), moment(2, requested="SIGUSR1"), moment(2, requested="SIGUSR1")],
            [2, 2],
            id="on request, even twice at one step",
        ),
        pytest.param(
            AtExit() | EverySteps(5),
            [moment(4), moment(5), moment(5, exiting="SIGTERM")],
            [5],
            id="at exit: not if this step is saved",
        ),
        pytest.param(
            AtExit() | EverySteps(5),
            [moment(5), moment(6, exiting="SIGTERM")],
            [5, 6],
            id="at exit: what is new since",
        ),
    ],
)
def test_moments_saved(trigger: Trigger, moments: list[Moment], saved: list[int]) -> None:
    """Moments in, saved steps out, with the state as JSON in between."""
    assert play(trigger, moments)[0] == saved


def test_a_stale_metric_is_not_used() -> None:
    """A value measured at another step says nothing of the weights of this one."""
    stale = Moment(200, 0, 0.0, {"val_loss": Measurement(0.1, step=150)})
    for trigger in (WhenImproves("val_loss", mode="min"), WhenBelow("val_loss", [2.0])):
        decision = trigger.decide(stale)
        assert not decision.save
        assert decision.reason.kind == "not_due"
        assert decision.reason.text == "val_loss was measured at step 150, not at 200"


def test_a_stale_metric_does_not_count_as_saved() -> None:
    """A periodic save takes in no value that was measured on other weights."""
    stale = Moment(200, 0, 0.0, {"val_loss": Measurement(0.1, step=150)})
    state = EverySteps(100).decide(stale).state
    assert WhenImproves("val_loss", mode="min").decide(moment(300, val_loss=0.5), state).save


@pytest.mark.parametrize(
    ("trigger", "now", "kind", "text"),
    [
        (EverySteps(1000), moment(2030), "every_steps", "step 2000 was reached (every 1000 steps)"),
        (EverySteps(1000), moment(30), "not_due", "the next multiple is step 1000"),
        (EveryEpochs(), moment(9, epoch=1), "every_epochs", "epoch 1 is over (every epoch)"),
        (AtSteps([5, 9]), moment(6), "at_steps", "step 5 was reached, which is listed"),
        (AtSteps([5, 9]), moment(2), "not_due", "the next listed step is 5"),
        (
            WhenImproves("bleu", mode="max"),
            moment(1, bleu=31.25),
            "when_improves",
            "bleu 31.25 is the first to be saved",
        ),
        (WhenImproves("bleu", mode="max"), moment(1), "not_due", "bleu has not been measured"),
        (WhenImproves("bleu", mode="max"), moment(1, bleu=NAN), "not_due", "bleu is nan"),
        (
            WhenBelow("val_loss", [2.0, 1.5, 1.0]),
            moment(1, val_loss=1.25),
            "when_below",
            "val_loss 1.25 is the first below 1.5 and 2",
        ),
        (OnRequest(), moment(1, requested="SIGUSR1"), "on_request", "requested by SIGUSR1"),
        (AtExit(), moment(1, exiting="SIGTERM"), "at_exit", "training is ending: SIGTERM"),
        (
            EverySteps(5) | EveryEpochs() | OnRequest(),
            moment(5, requested="the file save-now"),
            "every_steps+on_request",
            "step 5 was reached (every 5 steps); requested by the file save-now",
        ),
        (
            EverySteps(5) & OnRequest(),
            moment(5),
            "not_due",
            "nobody asked for a save",
        ),
    ],
)
def test_every_decision_has_a_reason(trigger: Trigger, now: Moment, kind: str, text: str) -> None:
    """Saved or not, a decision says why, with the numbers that decided it."""
    decision = trigger.decide(now)
    assert (decision.reason.kind, decision.reason.text) == (kind, text)
    assert decision.save == (kind != "not_due")


def test_the_interval_reason_names_what_it_counts_from() -> None:
    """Before the first save the interval runs from the start, afterwards from the last save."""
    trigger = EverySeconds(900)
    first = trigger.decide(moment(1, now=100.0))
    assert first.reason.text == "only 0 seconds since the start (every 15 minutes)"
    second = trigger.decide(moment(2, now=1000.0), first.state)
    assert second.reason.text == "15 minutes since the start (every 15 minutes)"
    third = trigger.decide(moment(3, now=1060.0), second.state)
    assert third.reason.text == "only 1 minute since the last save (every 15 minutes)"


def test_the_best_survives_a_restart() -> None:
    """A resumed run does not take its first evaluation for an improvement."""
    trigger = WhenImproves("val_loss", mode="min")
    state = json.loads(json.dumps(trigger.decide(moment(1, val_loss=2.0)).state))
    assert trigger.decide(moment(2, val_loss=2.5), state).reason.text == (
        "val_loss 2.5 does not improve on 2"
    )


def test_a_run_may_resume_with_other_triggers() -> None:
    """The state is about what was saved, so new triggers start with full knowledge."""
    state = EverySteps(1).decide(moment(1500, val_loss=1.8)).state
    assert not WhenBelow("val_loss", [2.0]).decide(moment(1501, val_loss=1.7), state).save
    assert WhenBelow("val_loss", [2.0, 1.75]).decide(moment(1501, val_loss=1.7), state).save
    assert not EverySteps(1000).decide(moment(1999), state).save
    assert EverySteps(1000).decide(moment(2000), state).save


def test_a_save_that_no_trigger_asked_for_counts() -> None:
    """After an explicit save the triggers know of it."""
    now = moment(1000, now=50.0, val_loss=2.0)
    state = remember_save(now, None)
    trigger = EverySteps(1000) | EverySeconds(60) | WhenImproves("val_loss", mode="min")
    assert not trigger.decide(now, state).save
    assert not trigger.decide(moment(1001, now=60.0, val_loss=2.0), state).save


def test_a_failed_save_is_not_tried_again_at_once_but_at_exit() -> None:
    """After a failure periods start anew; improvements and the exit still want their save."""
    before = EverySteps(10).decide(moment(5, val_loss=3.0)).state
    state = remember_failure(moment(10, val_loss=2.0), before)
    assert not EverySteps(10).decide(moment(11), state).save
    assert AtExit().decide(moment(10, exiting="SIGTERM"), state).save
    assert WhenImproves("val_loss", mode="min").decide(moment(12, val_loss=2.5), state).save
