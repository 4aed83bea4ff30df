"""What is measured of artifacts, with a clock that says what was planned."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import nn

from holdfast.errors import ConfigError
from holdfast.export import Axis, Graph, Input, Signature
from holdfast.export.latency import (
    COLUMNS,
    Effort,
    Point,
    graph_latency,
    latency_table,
    measure_points,
)


class Machine:
    """Calls that take planned seconds of a clock of its own, and the order they came in."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        """The time."""
        return self.now

    def call(self, name: str, *seconds: float) -> Callable[[], object]:
        """A call that takes these seconds in turn, over and over."""
        turns = itertools.cycle(seconds)

        def run() -> None:
            self.order.append(name)
            self.now += next(turns)

        return run


def quiet(line: str) -> None:
    """No progress."""


def test_times_are_percentiles_and_ratios_within_rounds() -> None:
    """A machine that gets four times slower in every other round changes no ratio."""
    machine = Machine()
    calls = {
        "eager": machine.call("eager", 0.02, 0.08),
        "onnx": machine.call("onnx", 0.01, 0.04),
    }
    point = Point("model", {"batch": 4}, 4, calls)
    effort = Effort(rounds=40, warmup=0)
    eager, onnx = measure_points([point], effort, progress=quiet, clock=machine)
    assert [eager.p50, eager.p95] == pytest.approx([0.05, 0.08])
    assert onnx.throughput == pytest.approx(4 / 0.025)
    assert [onnx.faster_low, onnx.faster, onnx.faster_high] == pytest.approx([2.0, 2.0, 2.0])
    assert [eager.faster, eager.spread] == pytest.approx([1.0, 1.2])


def test_candidates_take_turns_after_warming_up() -> None:
    """The warm-up is not measured, and no candidate is always first."""
    machine = Machine()
    calls = {name: machine.call(name, 9.0, *[0.1] * 5) for name in ("eager", "onnx")}
    effort = Effort(rounds=5, warmup=1)
    timings = measure_points([Point("m", {}, 1, calls)], effort, progress=quiet, clock=machine)
    assert [timing.p95 for timing in timings] == pytest.approx([0.1, 0.1])
    assert machine.order[2:8] == ["eager", "onnx", "onnx", "eager", "eager", "onnx"]


def test_a_slow_point_ends_when_its_time_is_over() -> None:
    """With five rounds at least."""
    machine = Machine()
    point = Point("m", {}, 1, {"eager": machine.call("eager", 3.0)})
    for seconds, rounds in ((1.0, 5), (20.0, 7)):
        effort = Effort(rounds=30, warmup=0, seconds=seconds)
        (timing,) = measure_points([point], effort, progress=quiet, clock=machine)
        assert timing.rounds == rounds


def test_progress_is_shown_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each point, and nothing on standard output."""
    machine = Machine()
    point = Point("m", {"batch": 2, "length": 7}, 2, {"eager": machine.call("eager", 0.1)})
    measure_points([point, point], Effort(rounds=5), clock=machine)
    shown = capsys.readouterr()
    assert shown.err.splitlines()[1] == "latency 2 of 2: m, batch 2, length 7"
    assert shown.out == ""


def test_the_table_has_a_row_for_each_candidate_and_point() -> None:
    """Text for people and numbers for programs, from a graph that really runs."""
    torch.manual_seed(0)
    axes = (Axis("batch", 1, 8), 4)
    graph = Graph("model", nn.Linear(4, 2), Signature((Input("x", axes),), ("y",)))
    runner = {"model": lambda *inputs: (graph.module(*inputs),)}
    measure = graph_latency(
        [graph],
        [{"batch": 1}, {"batch": 8}],
        items_axis="batch",
        effort=Effort(rounds=5),
        progress=quiet,
    )
    table = measure({"eager": runner, "onnx": runner, "other": {}})
    assert table["columns"] == list(COLUMNS)
    rows = table["rows"]
    assert isinstance(rows, list)
    assert [row[1:3] for row in rows if isinstance(row, list)] == [
        ["batch 1", "eager"],
        ["batch 1", "onnx"],
        ["batch 8", "eager"],
        ["batch 8", "onnx"],
    ]
    assert table["data"][3]["sizes"] == {"batch": 8}  # type: ignore[index,call-overload]
    assert latency_table([], ["said"])["notes"][-1] == "said"  # type: ignore[index]


def test_measurements_that_say_nothing_are_refused() -> None:
    """No eager mode, too few rounds, sizes the graph was not made for, no axis of items."""
    machine = Machine()
    with pytest.raises(ConfigError, match="eager"):
        measure_points([Point("m", {}, 1, {"onnx": machine.call("onnx", 1.0)})], progress=quiet)
    with pytest.raises(ConfigError, match="4 rounds"):
        Effort(rounds=4)
    graph = Graph("g", nn.Identity(), Signature((Input("x", (Axis("n", 1, 2),)),), ("y",)))
    for axis, size, message in (("batch", 1, "batch"), ("n", 3, "n of the input x is 3")):
        measure = graph_latency([graph], [{"n": size}], items_axis=axis, progress=quiet)
        with pytest.raises(ValueError, match=message):
            measure({"eager": {"g": lambda *inputs: inputs}})
