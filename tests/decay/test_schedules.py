"""Schedules: what they keep, and what they refuse."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import ConstantDecay, HalfLife, PowerFunction
from holdfast.decay import (
    Clock,
    CountRatio,
    InverseGamma,
    Schedule,
    SegmentMean,
    read_schedule,
    schedule_record,
)
from holdfast.errors import ConfigError, FormatError

ALL = [
    ConstantDecay(0.999),
    ConstantDecay(0.99, InverseGamma(2.0, 0.75), start=3),
    ConstantDecay(0.99, CountRatio()),
    HalfLife(1e6),
    HalfLife(500, "steps", ramp_up=0.09),
    PowerFunction(0.1),
    PowerFunction(gamma=3.5, unit="samples"),
    SegmentMean(),
]


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_a_schedule_survives_being_stored(schedule: Schedule) -> None:
    """Its record gives an equal schedule."""
    assert read_schedule(schedule_record(schedule)) == schedule


@pytest.mark.parametrize(
    "record",
    [
        None,
        {},
        {"kind": "secret"},
        {"kind": "constant", "decay": 2.0},
        {"kind": "power"},
        {"kind": []},
    ],
    ids=repr,
)
def test_a_record_that_is_not_sound_is_refused(record: object) -> None:
    """Anything that came out of a damaged or hostile file."""
    with pytest.raises(FormatError):
        read_schedule(record)


@given(
    st.sampled_from(
        [HalfLife(37.5), PowerFunction(0.07, "samples"), PowerFunction(gamma=0.0, unit="samples")]
    ),
    st.lists(st.integers(1, 50), min_size=2, max_size=6),
)
def test_shares_of_parts_multiply_to_the_share_of_the_whole(
    schedule: Schedule, parts: list[int]
) -> None:
    """So the decay of k steps at once is exact, however the samples were divided."""
    clock, product = Clock(1, 10), 1.0
    for part in parts:
        after = Clock(clock.steps + 1, clock.samples + part)
        product *= schedule.kept(clock, after)
        clock = after
    assert math.isclose(product, schedule.kept(Clock(1, 10), clock), rel_tol=1e-12)


def test_warm_ups_begin_with_the_weights_and_end_at_the_decay() -> None:
    """The known values of both forms."""
    assert InverseGamma().bound(0) == 0.0
    assert InverseGamma().bound(31_622) == pytest.approx(0.999, abs=1e-6)
    assert CountRatio().bound(0) == 0.1
    warmed = ConstantDecay(0.9, InverseGamma(), start=2)
    assert [warmed.kept(Clock(step), Clock(step + 1)) for step in (0, 1, 2)] == [0.0, 0.0, 0.0]
    assert warmed.kept(Clock(10**6), Clock(10**6 + 1)) == 0.9


@pytest.mark.parametrize(
    "make",
    [
        lambda: ConstantDecay(-0.1),
        lambda: ConstantDecay(float("nan")),
        lambda: ConstantDecay(0.9, start=-1),
        lambda: HalfLife(0),
        lambda: HalfLife(10, "epochs"),  # type: ignore[arg-type]
        lambda: PowerFunction(),
        lambda: PowerFunction(0.1, gamma=2.0),
        lambda: PowerFunction(0.3),
        lambda: PowerFunction(0.0),
        lambda: InverseGamma(0.0),
        lambda: CountRatio(0),
    ],
)
def test_schedules_that_cannot_work_are_refused(make: object) -> None:
    """With a message that says what would."""
    with pytest.raises(ConfigError):
        make()  # type: ignore[operator]
