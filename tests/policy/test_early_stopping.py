"""When a metric has stopped improving, and when to stop the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from policy_records import INF, NAN, STEADY

from holdfast.errors import PolicyError
from holdfast.jsontext import Json
from holdfast.policy import EarlyStopper, EarlyStopping, Mode, Plateau

Values = Sequence[float | None]


def stops_at(rule: EarlyStopping, values: Values) -> int | None:
    """Number of the evaluation after which the rule stops the run, or None."""
    state: Mapping[str, Json] | None = None
    for number, value in enumerate(values, start=1):
        decision = rule.observe(state, step=number, value=value)
        if decision.stop:
            return number
        state = json.loads(json.dumps(decision.state))
    return None


def plateaus_at(rule: Plateau, values: Values) -> list[int]:
    """Numbers of the evaluations that complete a plateau."""
    state: Mapping[str, Json] | None = None
    numbers = []
    for number, value in enumerate(values, start=1):
        progress = rule.observe(state, step=number, value=value)
        state = json.loads(json.dumps(progress.state))
        if progress.plateau:
            numbers.append(number)
    return numbers


@pytest.mark.parametrize(
    ("rule", "values", "expected"),
    [
        pytest.param(EarlyStopping("m", "min", 2), [3, 2, 1], None, id="still improving"),
        pytest.param(EarlyStopping("m", "min", 2), [3, 3, 3, 3], 3, id="an equal value is no gain"),
        pytest.param(EarlyStopping("m", "max", 2), [3, 4, 3, 4, 9], 4, id="higher is better"),
        pytest.param(EarlyStopping("m", "min", 2), [3, 4, 2, 4, 1, 4], None, id="a gain resets"),
        pytest.param(EarlyStopping("m", "min", 1), [3, 4], 2, id="no patience"),
        pytest.param(
            EarlyStopping("m", "min", 2, min_delta=0.5), [3, 2.8, 2.6], 3, id="gains too small"
        ),
        pytest.param(
            EarlyStopping("m", "min", 2, min_delta=0.5),
            [3, 2.8, 2.4, 2.2, 1.8],
            None,
            id="small gains add up",
        ),
        pytest.param(
            EarlyStopping("m", "min", 2), [3, NAN, INF], 3, id="what is not finite is no gain"
        ),
        pytest.param(
            EarlyStopping("m", "min", 2), [NAN, 3, -INF, 2, 5, 1], None, id="nor does it stick"
        ),
        pytest.param(EarlyStopping("m", "min", 2), [NAN, NAN], 2, id="never a finite value"),
        pytest.param(
            EarlyStopping("m", "min", 2),
            [3, None, None, 4, None],
            None,
            id="missing",
        ),
        pytest.param(
            EarlyStopping("m", "min", 2, plateaus=2), [3, 4, 4, 4, 4], 5, id="the second plateau"
        ),
        pytest.param(
            EarlyStopping("m", "min", 2, plateaus=2, cooldown=3),
            [3, 4, 4, 4, 4, 4, 4, 4, 4],
            8,
            id="a cooldown between plateaus",
        ),
        pytest.param(
            EarlyStopping("m", "min", 2, plateaus=2),
            [3, 4, 4, 2, 4, 4, 4],
            None,
            id="a gain",
        ),
    ],
)
def test_stopping_table(rule: EarlyStopping, values: Values, expected: int | None) -> None:
    """Evaluations in, the one that stops the run out, with the state as JSON in between."""
    assert stops_at(rule, values) == expected


def test_decisions_explain_themselves() -> None:
    """Each evaluation is answered with what it meant and how much patience is left."""
    rule = EarlyStopping("val_loss", "min", patience=2)
    first = rule.observe(None, step=100, value=2.5)
    assert first.why == "val_loss 2.5 is the first value"
    second = rule.observe(first.state, step=200, value=2.0)
    assert second.why == "val_loss 2 is better than 2.5"
    third = rule.observe(second.state, step=300, value=NAN)
    assert third.why == (
        "val_loss nan is evaluation 1 without improvement (best 2 at step 200, patience 2)"
    )
    fourth = rule.observe(third.state, step=400, value=2.25)
    assert fourth.stop
    assert fourth.why == (
        "val_loss 2.25 is evaluation 2 without improvement (best 2 at step 200, patience 2); "
        "plateau 1 of 1"
    )
    missing = rule.observe(third.state, step=400, value=None)
    assert missing.why == "val_loss was not measured at step 400"


def test_the_same_evaluation_is_counted_once() -> None:
    """Evaluating again at a step already counted, as after a resume, uses up no patience."""
    rule = EarlyStopping("val_loss", "min", patience=2)
    state = rule.observe(rule.observe(None, step=1, value=2.0).state, step=2, value=3.0).state
    again = rule.observe(state, step=2, value=3.0)
    assert not again.stop
    assert again.state == state
    assert again.why == "step 2 is not counted: step 2 already is"


def test_patience_survives_a_resume_and_may_be_raised_at_one() -> None:
    """A resumed run does not get its patience back, unless the rule is made more patient."""
    stopper = EarlyStopper(EarlyStopping("val_loss", "min", patience=2))
    for step, value in enumerate([1.0, 2.0, 2.0]):
        decision = stopper.observe(step, value)
    assert decision.stop
    saved = json.loads(json.dumps(stopper.state_dict()))

    same = EarlyStopper(EarlyStopping("val_loss", "min", patience=2))
    same.load_state_dict(saved)
    assert same.state_dict() == stopper.state_dict()
    assert same.observe(3, 2.0).stop

    longer = EarlyStopper(EarlyStopping("val_loss", "min", patience=4))
    longer.load_state_dict(saved)
    assert [longer.observe(step, 2.0).stop for step in (3, 4)] == [False, True]


def test_a_stopper_that_saw_nothing_has_an_empty_state() -> None:
    """The state before the first evaluation loads back as a fresh start."""
    stopper = EarlyStopper(EarlyStopping("val_loss", "min", patience=1))
    stopper.load_state_dict(stopper.state_dict())
    assert stopper.observe(1, 2.0).why == "val_loss 2 is the first value"


def test_the_state_of_another_metric_is_dropped_and_said_so() -> None:
    """A best of one metric is never compared with values of another."""
    state = EarlyStopping("val_loss", "min", 2).observe(None, step=1, value=0.1).state
    decision = EarlyStopping("bleu", "max", 2).observe(state, step=2, value=30.0)
    assert decision.why == (
        "bleu 30 is the first value; begun afresh, because the state was of val_loss (min)"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"best": "low"},
        {"best": NAN},
        {"best_step": 1.5},
        {"last_step": True},
        {"without_improvement": None},
        {"without_improvement": -1},
    ],
)
def test_a_state_that_no_rule_made_is_refused(change: dict[str, object]) -> None:
    """A wrong state is an error naming the key; a holder keeps what it had."""
    stopper = EarlyStopper(EarlyStopping("val_loss", "min", patience=2))
    stopper.observe(1, 2.0)
    before = stopper.state_dict()
    with pytest.raises(PolicyError, match=next(iter(change))):
        stopper.load_state_dict({**before, **change})  # type: ignore[dict-item]
    assert stopper.state_dict() == before


@pytest.mark.parametrize(
    "make",
    [
        lambda: Plateau("m", "down", 1),  # type: ignore[arg-type]
        lambda: Plateau("", "min", 1),
        lambda: Plateau("m", "min", 0),
        lambda: Plateau("m", "min", 1, min_delta=-0.1),
        lambda: Plateau("m", "min", 1, cooldown=-1),
        lambda: EarlyStopping("m", "min", 0),
        lambda: EarlyStopping("m", "min", 1, plateaus=0),
    ],
)
def test_rules_that_cannot_work_are_refused(make: object) -> None:
    """A rule is checked when it is made."""
    with pytest.raises(PolicyError):
        make()  # type: ignore[operator]


def counted_plateaus(
    values: Values, mode: Mode, patience: int, min_delta: float, cooldown: int
) -> list[int]:
    """The definition, played out with counters of its own."""
    best, waited, cooling, completed = None, 0, 0, []
    for number, value in enumerate(values, start=1):
        if value is None:
            continue
        gain = 0.0
        if abs(value) < INF:
            gain = INF if best is None else (best - value if mode == "min" else value - best)
        if gain > min_delta:
            best, waited, cooling = value, 0, 0
        elif cooling:
            cooling -= 1
        else:
            waited += 1
            if waited == patience:
                completed.append(number)
                waited, cooling = 0, cooldown
    return completed


@settings(STEADY, max_examples=300)
@given(
    values=st.lists(
        st.none() | st.sampled_from([1.0, 1.5, 2.0, 2.25, 3.0, NAN, INF, -INF]), max_size=40
    ),
    mode=st.sampled_from(["min", "max"]),
    patience=st.integers(1, 4),
    min_delta=st.sampled_from([0.0, 0.5]),
    cooldown=st.integers(0, 3),
)
def test_plateaus_are_those_of_the_definition(
    values: Values, mode: Mode, patience: int, min_delta: float, cooldown: int
) -> None:
    """The stateless arithmetic agrees with counters for patience and cooldown."""
    rule = Plateau("m", mode, patience, min_delta, cooldown)
    expected = counted_plateaus(values, mode, patience, min_delta, cooldown)
    assert plateaus_at(rule, values) == expected
    stopping = EarlyStopping("m", mode, patience, min_delta, cooldown)
    assert stops_at(stopping, values) == next(iter(expected), None)


@pytest.mark.parametrize(("patience", "cooldown"), [*product((1, 2, 3), (0, 1, 2))])
def test_plateaus_repeat_while_nothing_improves(patience: int, cooldown: int) -> None:
    """A learning-rate schedule is told of each plateau, one cooldown apart."""
    period = patience + cooldown
    expected = [1 + patience, 1 + patience + period, 1 + patience + 2 * period]
    assert plateaus_at(Plateau("m", "min", patience, cooldown=cooldown), [1.0] * 40)[:3] == expected
