"""What a monitor records of the requests it is told of."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from monitor_world import NAMES, profile_of, traffic

from holdfast.decoding import Hypothesis
from holdfast.errors import ConfigError, HoldfastWarning
from holdfast.jsontext import dump
from holdfast.monitor import DriftReport, Feature, Monitor, sequence_features

ITEM = (4.0, 0.25, 5.0, 0.9)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def figures(monitor: Monitor) -> Any:
    """The snapshot as it comes back from JSON."""
    return json.loads(dump(monitor.snapshot()))


def test_a_request_is_counted_with_its_time_and_items() -> None:
    """Latency ends with done(); what is described afterwards is not in it."""
    clock = Clock()
    monitor = Monitor({"model": "demo"}, clock=clock)
    with monitor.request() as request:
        clock.now += 0.004
        request.done()
        request.item(ITEM)
        request.item(ITEM)
        clock.now += 9.0
    found = figures(monitor)
    assert (found["requests"], found["items"], found["errors"]) == (1, 2, {})
    assert found["latency_seconds"]["sum"] == pytest.approx(0.004)
    assert found["features"]["input_tokens"]["sum"] == 8.0
    assert found["labels"] == {"model": "demo"}


def test_errors_are_counted_by_class_and_pass_through() -> None:
    """A monitor hides nothing; classes beyond thirty-two are counted together."""
    monitor = Monitor()
    with pytest.raises(ZeroDivisionError), monitor.request():
        _ = 1 / 0
    for number in range(40):
        monitor.record(0.1, (), f"Error{number}")
    found = figures(monitor)
    assert found["requests"] == 41
    assert found["errors"]["ZeroDivisionError"] == 1
    assert found["errors"]["other"] == 9
    assert len(found["errors"]) == 33


def test_any_function_can_be_wrapped() -> None:
    """Its result is returned, and described item by item."""
    monitor = Monitor(features=(Feature("size", "Of the answer", (1.0, 10.0)),))

    def describe(result: list[int]) -> Sequence[Sequence[float]]:
        return [(float(one),) for one in result]

    def serve(count: int) -> list[int]:
        return [count] * 2

    assert monitor.wrap(serve, describe)(7) == [7, 7]
    assert figures(monitor)["features"]["size"] == {
        "bounds": [1.0, 10.0],
        "counts": [0, 2, 0],
        "sum": 14.0,
        "total": 2,
    }


@pytest.mark.parametrize("item", [(1.0, float("nan"), 2.0, 0.5), (1.0, 2.0)])
def test_items_that_are_no_numbers_are_counted_apart(item: tuple[float, ...]) -> None:
    """They reach no histogram and no window."""
    monitor = Monitor()
    monitor.record(0.1, [item, ITEM])
    found = figures(monitor)
    assert (found["items"], found["unusable_items"]) == (2, 1)
    assert found["features"]["input_tokens"]["total"] == 1


def test_each_whole_window_is_tested_once() -> None:
    """A shifted one raises an alarm and calls on_drift, an unshifted one does not."""
    dice = np.random.default_rng(5)
    seen: list[DriftReport] = []
    profile = profile_of(traffic(dice, 3000))
    monitor = Monitor(profile=profile, window=200, on_drift=seen.append)
    for items in (traffic(dice, 399), traffic(dice, 201, length=18.0)):
        for item in items.tolist():
            monitor.record(0.01, [tuple(item)])
    drift = figures(monitor)["drift"]
    assert (drift["windows"], drift["alarms"]) == (3, 1)
    assert seen == [monitor.drift()]
    assert drift["last"]["features"]["input_tokens"]["drifted"]


def test_an_error_in_on_drift_is_told_and_the_request_served() -> None:
    """Watching must not break what is watched."""
    dice = np.random.default_rng(6)

    def fail(report: DriftReport) -> None:
        raise OSError("no pager")

    monitor = Monitor(profile=profile_of(traffic(dice, 500)), window=50, on_drift=fail)
    with pytest.warns(HoldfastWarning, match="no pager"):
        monitor.record(0.1, [tuple(item) for item in traffic(dice, 50, length=40.0).tolist()])


def test_a_profile_is_captured_by_serving_reference_data() -> None:
    """The same code measures both sides; some features may be left out."""
    items = traffic(np.random.default_rng(7), 300)
    monitor = Monitor()
    monitor.record(0.1, [tuple(item) for item in items.tolist()])
    profile = monitor.capture(["input_tokens", "confidence"])
    assert list(profile.samples) == ["input_tokens", "confidence"]
    np.testing.assert_array_equal(
        profile.samples["input_tokens"], np.sort(items[:, 0]).astype(np.float32)
    )
    with pytest.raises(ConfigError, match="has a profile"):
        Monitor(profile=profile).capture()
    with pytest.raises(ConfigError, match="weather"):
        monitor.capture(["weather"])


def test_requests_of_several_threads_are_all_counted() -> None:
    """None is lost, and no window is tested twice."""
    profile = profile_of(traffic(np.random.default_rng(8), 200))
    monitor = Monitor(profile=profile, window=50)

    def serve() -> None:
        for _ in range(500):
            with monitor.request() as request:
                request.item(ITEM)

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = figures(monitor)
    assert (found["requests"], found["items"], found["drift"]["windows"]) == (2000, 2000, 40)


def test_the_features_of_a_sequence_are_told_in_order() -> None:
    """Lengths, unknown share and confidence, as SEQUENCE_FEATURES lists them."""
    hypothesis = Hypothesis([7, 8], 3 * float(np.log(0.5)), True)
    values = dict(zip(NAMES, sequence_features([4, 5, 2], hypothesis, 0.5), strict=True))
    assert values == {
        "input_tokens": 3.0,
        "unknown_rate": 0.5,
        "output_tokens": 2.0,
        "confidence": pytest.approx(0.5),
    }


@pytest.mark.parametrize(
    "options",
    [
        {"window": 49},
        {"false_alarm_rate": 0.0},
        {"false_alarm_rate": 1.0},
        {"features": (Feature("one", "", (1.0,)),) * 2},
        {
            "features": (Feature("one", "", (1.0,)),),
            "profile": profile_of(traffic(np.random.default_rng(9), 200)),
        },
    ],
)
def test_a_monitor_that_would_say_nothing_is_refused(options: dict[str, Any]) -> None:
    """Windows, rates, names and profiles that do not fit."""
    with pytest.raises(ConfigError):
        Monitor(**options)


@pytest.mark.parametrize(("name", "bounds"), [("Größe", (1.0,)), ("a", ()), ("a", (2.0, 1.0))])
def test_features_have_names_and_ascending_bounds(name: str, bounds: tuple[float, ...]) -> None:
    """As metrics need them."""
    with pytest.raises(ConfigError):
        Feature(name, "", bounds)


def test_monitoring_needs_no_torch() -> None:
    """Nor prometheus-client, until its format is asked for."""
    code = (
        "import sys, holdfast.monitor as m; m.Monitor().snapshot(); "
        "assert not {'torch', 'prometheus_client'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
