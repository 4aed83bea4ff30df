"""When a window of requests counts as drifted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitor_world import NAMES, profile_of, traffic

from holdfast.monitor import compare_windows
from holdfast.monitor.drift import distribution_distance, kolmogorov_p_value

SAMPLES = st.lists(st.integers(0, 9).map(float), min_size=1, max_size=30)


@given(SAMPLES, SAMPLES)
def test_the_distance_is_the_largest_between_distribution_functions(
    first: list[float], second: list[float]
) -> None:
    """Compared with counting at every value, ties and all."""
    expected = max(
        abs(
            sum(value <= point for value in first) / len(first)
            - sum(value <= point for value in second) / len(second)
        )
        for point in range(10)
    )
    one, other = (np.sort(np.array(values, dtype=np.float32)) for values in (first, second))
    assert distribution_distance(one, other) == pytest.approx(expected)


@pytest.mark.parametrize(("scaled", "p_value"), [(1.2238, 0.1), (1.3581, 0.05), (1.6276, 0.01)])
def test_p_values_are_those_of_the_tables(scaled: float, p_value: float) -> None:
    """The quantiles of Kolmogorov's distribution in every textbook."""
    assert kolmogorov_p_value(scaled / np.sqrt(250.0), 500, 500) == pytest.approx(p_value, rel=1e-3)


def test_p_values_end_at_one_and_nought() -> None:
    """Equal samples, and samples that do not overlap."""
    assert kolmogorov_p_value(0.0, 500, 500) == 1.0
    assert 0.0 <= kolmogorov_p_value(1.0, 5000, 5000) < 1e-300


def test_without_drift_alarms_are_as_rare_as_stated() -> None:
    """500 windows of new traffic, each with a new profile: at most 5 % and its error of chance.

    Four features that depend on one another, two of them full of ties.
    """
    dice = np.random.default_rng(11)
    rate, windows = 0.05, 500
    alarms = 0
    for _ in range(windows):
        items = traffic(dice, 1200)
        window = dict(zip(NAMES, items[1000:].T, strict=True))
        alarms += compare_windows(profile_of(items[:1000]), window, rate).drifted
    assert alarms / windows <= rate + 3 * np.sqrt(rate * (1 - rate) / windows)
    assert alarms > 0


@pytest.mark.parametrize(
    ("change", "features"),
    [
        ({"length": 15.0}, {"input_tokens", "output_tokens"}),
        ({"unknown": 0.12}, {"unknown_rate"}),
    ],
)
def test_a_shift_is_found_in_its_first_window(change: dict[str, float], features: set[str]) -> None:
    """Inputs a quarter longer, or four times as many unknown words; and it is named."""
    dice = np.random.default_rng(12)
    profile = profile_of(traffic(dice, 3000))
    items = traffic(dice, 500, **change)
    report = compare_windows(profile, dict(zip(NAMES, items.T, strict=True)), 0.001)
    assert report.drifted
    assert features <= {one.name for one in report.features if one.drifted}
    assert all(name in str(report) for name in features)


def test_a_feature_without_values_is_left_out() -> None:
    """What was not recorded cannot drift."""
    dice = np.random.default_rng(13)
    profile = profile_of(traffic(dice, 200))
    report = compare_windows(profile, {"confidence": [np.nan], "input_tokens": [12.0] * 60}, 0.01)
    assert [one.name for one in report.features] == ["input_tokens"]
    assert not compare_windows(profile, {}, 0.01).drifted
