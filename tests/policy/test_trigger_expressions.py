"""Triggers as expressions: written, read, combined and refused."""

from __future__ import annotations

import pytest
from policy_records import INF, NAN, moment

from holdfast import policy
from holdfast.errors import PolicyError
from holdfast.policy import (
    AllOf,
    AnyOf,
    AtExit,
    AtSteps,
    EveryEpochs,
    EverySeconds,
    EverySteps,
    Moment,
    OnRequest,
    Trigger,
    WhenAbove,
    WhenBelow,
    WhenImproves,
)


@pytest.mark.parametrize(
    ("trigger", "description"),
    [
        (EverySteps(1000), "every 1000 steps"),
        (EveryEpochs(1), "every epoch"),
        (EverySeconds(900), "every 15 minutes"),
        (AtSteps([1, 10, 100]), "at step 1, 10 and 100"),
        (
            WhenImproves("val_bleu", mode="max", min_delta=0.25),
            "when val_bleu (higher is better) improves by more than 0.25",
        ),
        (WhenBelow("val_loss", [2.0, 1.5]), "when val_loss is first below 1.5 or 2"),
        (WhenAbove("bleu", [30]), "when bleu is first above 30"),
        (OnRequest() | AtExit(), "on request or at exit"),
        (
            (EverySteps(5) | OnRequest()) & EverySeconds(60),
            "(every 5 steps or on request) and every 1 minute",
        ),
        (
            EverySteps(5) | OnRequest() & EverySeconds(60),
            "every 5 steps or on request and every 1 minute",
        ),
    ],
)
def test_triggers_describe_themselves_and_their_repr_makes_them_again(
    trigger: Trigger, description: str
) -> None:
    """`describe()` is English for people, `repr()` an expression for programs."""
    assert trigger.describe() == description
    assert eval(repr(trigger), vars(policy)) == trigger  # noqa: S307 (the promise under test)


def test_combinations_are_flat_and_without_repeats() -> None:
    """However it was put together, a combination is the list of its parts."""
    a, b, c = EverySteps(1), OnRequest(), AtExit()
    assert (a | b) | (c | a) == AnyOf((a, b, c))
    assert (a & b) & (c & a) == AllOf((a, b, c))


@pytest.mark.parametrize(
    "make",
    [
        lambda: EverySteps(0),
        lambda: EverySteps(1.5),  # type: ignore[arg-type]
        lambda: EveryEpochs(-1),
        lambda: EverySeconds(0),
        lambda: EverySeconds(INF),
        lambda: AtSteps([]),
        lambda: AtSteps([-1]),
        lambda: AtSteps(1000),  # type: ignore[arg-type]
        lambda: WhenImproves("val_loss", mode="up"),  # type: ignore[arg-type]
        lambda: WhenImproves("val_loss", mode="min", min_delta=-1),
        lambda: WhenBelow("val_loss", []),
        lambda: WhenBelow("val_loss", [NAN]),
        lambda: WhenBelow("val_loss", 2.0),  # type: ignore[arg-type]
        lambda: WhenAbove("", [1.0]),
        lambda: AnyOf(()),
        lambda: AllOf((5,)),  # type: ignore[arg-type]
        lambda: Moment(-1, 0, 0.0),
        lambda: Moment(1.5, 0, 0.0),  # type: ignore[arg-type]
        lambda: Moment(1, 0, NAN),
    ],
)
def test_triggers_and_moments_that_cannot_work_are_refused(make: object) -> None:
    """A mistake is found when the trigger is made, not hours into the run."""
    with pytest.raises(PolicyError):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("combine", [lambda a: a | 5, lambda a: a & "x"])
def test_only_triggers_combine(combine: object) -> None:
    """A combination with anything else is a programming error, as for any operator."""
    with pytest.raises(TypeError):
        combine(EverySteps(1))  # type: ignore[operator]


@pytest.mark.parametrize(
    "change",
    [
        {"since": None},
        {"since": NAN},
        {"attempt": 5},
        {"attempt": {"step": 1}},
        {"attempt": {"step": -1, "epoch": 0}},
        {"saved_step": True},
        {"lowest": None},
        {"highest": {"val_loss": "low"}},
        {"highest": {"val_loss": INF}},
    ],
)
def test_a_state_that_no_trigger_made_is_refused(change: dict[str, object]) -> None:
    """A wrong state is an error naming the key, not a wrong decision."""
    state = {**EverySteps(1).decide(moment(1, val_loss=2.0)).state, **change}
    with pytest.raises(PolicyError, match=next(iter(change))):
        EverySteps(1).decide(moment(2), state)  # type: ignore[arg-type]
