"""How long every artifact takes beside eager mode, on the machine at hand.

Milliseconds of a shared machine mean little, ratios more: the candidates take turns within each
round, begin in another order each time, are warmed up before, and use the threads that torch was
set to when they were loaded.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from holdfast.errors import ConfigError
from holdfast.export.graph import Graph, Runner
from holdfast.export.matrix import draw_case
from holdfast.export.target import Measure
from holdfast.jsontext import Json

EAGER = "eager"
COLUMNS = ("graph", "sizes", "run by", "p50 ms", "p95 ms", "spread", "items/s", "beside eager")
_ROUNDS_MIN = 5

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure: `rounds` of every candidate at each point after `warmup` of them.

    seconds: of one point; when they are over, at least five rounds are kept. Raises ConfigError for
    fewer rounds than that.
    """

    rounds: int = 30
    warmup: int = 3
    seconds: float = 5.0

    def __post_init__(self) -> None:
        if self.rounds < _ROUNDS_MIN or self.warmup < 0:
            raise ConfigError(
                f"{self.rounds} rounds after {self.warmup} to warm up give no percentiles",
                fix=f"measure {_ROUNDS_MIN} rounds or more",
            )


@dataclass(frozen=True, slots=True)
class Timing:
    """One candidate at one point of the grid.

    p50, p95: seconds. spread: distance between the quartiles as a share of p50. throughput: items
    by second at p50. faster: how many times as fast as eager in the same round, the median, and
    faster_low, faster_high its quartiles.
    """

    graph: str
    sizes: Mapping[str, int]
    candidate: str
    rounds: int
    p50: float
    p95: float
    spread: float
    throughput: float
    faster: float
    faster_low: float
    faster_high: float

    def row(self) -> list[Json]:
        """As `COLUMNS` name it, for people."""
        return [
            self.graph,
            ", ".join(f"{name} {size}" for name, size in self.sizes.items()),
            self.candidate,
            f"{1e3 * self.p50:.3g}",
            f"{1e3 * self.p95:.3g}",
            f"{self.spread:.0%}",
            f"{self.throughput:.3g}",
            f"{self.faster:.2f}x ({self.faster_low:.2f} to {self.faster_high:.2f})",
        ]

    def to_dict(self) -> dict[str, Json]:
        """As plain values."""
        return {
            "graph": self.graph,
            "sizes": dict(self.sizes),
            "run_by": self.candidate,
            "rounds": self.rounds,
            "p50_seconds": self.p50,
            "p95_seconds": self.p95,
            "spread": self.spread,
            "items_per_second": self.throughput,
            "faster_than_eager": self.faster,
            "faster_quartiles": [self.faster_low, self.faster_high],
        }


@dataclass(frozen=True, slots=True)
class Point:
    """What is timed together. calls: by candidate, eager among them. items: served by one call."""

    graph: str
    sizes: Mapping[str, int]
    items: int
    calls: Mapping[str, Callable[[], object]]


def to_stderr(line: str) -> None:
    """The default progress: lines on standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def measure_points(
    points: Sequence[Point],
    effort: Effort | None = None,
    *,
    progress: Progress = to_stderr,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timing]:
    """Time all candidates of every point. Raises ConfigError for a point without eager mode."""
    effort = effort or Effort()
    found: list[Timing] = []
    for number, point in enumerate(points, start=1):
        if EAGER not in point.calls:
            raise ConfigError(f"Nothing of {point.graph} is called {EAGER!r} to compare with")
        sizes = ", ".join(f"{name} {size}" for name, size in point.sizes.items())
        progress(f"latency {number} of {len(points)}: {point.graph}, {sizes}")
        seconds = _rounds(point, effort, clock)
        found += [_timing(point, name, seconds) for name in point.calls]
    return found


def latency_table(timings: Sequence[Timing], notes: Sequence[str] = ()) -> dict[str, Json]:
    """The table for the card: columns, rows, notes; and "data", the same as numbers."""
    return {
        "columns": list(COLUMNS),
        "rows": [list(one.row()) for one in timings],
        "notes": [
            "Candidates took turns in one process after warming up; 'beside eager' compares within "
            "each round, with quartiles; spread is the distance between the quartiles of the time "
            "by p50.",
            f"{torch.get_num_threads()} threads.",
            *notes,
        ],
        "data": [one.to_dict() for one in timings],
    }


def graph_latency(
    graphs: Sequence[Graph],
    grid: Sequence[Mapping[str, int]],
    *,
    items_axis: str,
    effort: Effort | None = None,
    progress: Progress = to_stderr,
) -> Measure:
    """Times single calls of graphs whose axes the grid gives sizes of.

    grid: sizes by axis, for each point; axes it leaves out have their smallest size. items_axis:
    the axis that counts items, such as "batch". The result is the `measure` of an `Exportable`.
    """

    def measure(runners: Mapping[str, Mapping[str, Runner]]) -> Mapping[str, Json]:
        points = [
            _graph_point(graph, sizes, items_axis, runners) for graph in graphs for sizes in grid
        ]
        return latency_table(measure_points(points, effort, progress=progress))

    return measure


def _graph_point(
    graph: Graph,
    sizes: Mapping[str, int],
    items_axis: str,
    runners: Mapping[str, Mapping[str, Runner]],
) -> Point:
    axes = graph.signature.axes
    if items_axis not in axes:
        raise ConfigError(f"{graph.name} has no axis {items_axis!r} that could count items")
    chosen = {name: sizes.get(name, axis.min) for name, axis in axes.items()}
    inputs = draw_case(graph, chosen).inputs

    def call(runner: Runner, inputs: tuple[Tensor, ...]) -> Callable[[], object]:
        return lambda: runner(*inputs)

    calls = {
        candidate: call(by_graph[graph.name], inputs)
        for candidate, by_graph in runners.items()
        if graph.name in by_graph
    }
    return Point(graph.name, chosen, chosen[items_axis], calls)


def _rounds(point: Point, effort: Effort, clock: Callable[[], float]) -> dict[str, list[float]]:
    names = list(point.calls)
    for _ in range(effort.warmup):
        for name in names:
            point.calls[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    began = clock()
    for number in range(effort.rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            before = clock()
            point.calls[name]()
            seconds[name].append(clock() - before)
        if number + 1 >= _ROUNDS_MIN and clock() - began > effort.seconds:
            break
    return seconds


def _timing(point: Point, candidate: str, seconds: Mapping[str, Sequence[float]]) -> Timing:
    times = seconds[candidate]
    ratios = [eager / own for eager, own in zip(seconds[EAGER], times, strict=True)]
    p50 = statistics.median(times)
    low, high, p95 = np.percentile(times, [25, 75, 95]).tolist()
    faster_low, faster_high = np.percentile(ratios, [25, 75]).tolist()
    return Timing(
        graph=point.graph,
        sizes=point.sizes,
        candidate=candidate,
        rounds=len(times),
        p50=p50,
        p95=p95,
        spread=(high - low) / p50,
        throughput=point.items / p50,
        faster=statistics.median(ratios),
        faster_low=faster_low,
        faster_high=faster_high,
    )
