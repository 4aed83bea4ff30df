"""Several runs on one page: their curves together, and a table of what each came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.report import text
from holdfast.report.figures import (
    Datum,
    Figure,
    Key,
    by_series,
    colour,
    dash,
    figure_spec,
    quantity,
    shown,
    tips,
)
from holdfast.report.sections import Section
from holdfast.report.tables import Cell, Table, table
from holdfast.report.thin import thin
from holdfast.report.values import RunData

_METRICS_MAX = 8


@dataclass(frozen=True, slots=True)
class Comparison:
    """What stands above the runs' own parts."""

    id: str
    sections: tuple[Section, ...]


def comparison(runs: Sequence[RunData], prefix: str) -> Comparison:
    """Common metrics of several runs, one figure each, and the runs in a table."""
    labels = unique_names(runs)
    figures = [
        _figure(runs, labels, metric, f"{prefix}-compare-{index}")
        for index, metric in enumerate(_common(runs)[:_METRICS_MAX])
    ]
    section = Section(
        f"{prefix}-compared",
        "The runs compared",
        "Metrics that at least two of the runs recorded.",
        tuple(figures),
        (_overview(runs, labels, prefix),),
    )
    return Comparison(prefix, (section,))


def unique_names(runs: Sequence[RunData]) -> list[str]:
    """Names that tell the runs apart."""
    names = [run.name for run in runs]
    return [
        name if names.count(name) == 1 else f"{name} ({index + 1})"
        for index, name in enumerate(names)
    ]


def _common(runs: Sequence[RunData]) -> list[str]:
    counted: dict[str, int] = {}
    for run in runs:
        for metric in run.series:
            counted[metric] = counted.get(metric, 0) + 1
    tracked = {metric for run in runs for metric in run.directions}
    names = [metric for metric, count in counted.items() if count > 1]
    return sorted(names, key=lambda metric: (metric not in tracked, metric))


def _figure(runs: Sequence[RunData], labels: Sequence[str], metric: str, name: str) -> Figure:
    values: list[Datum] = []
    rows = []
    for run, label in zip(runs, labels, strict=True):
        points = [p for p in run.series.get(metric, ()) if not p.superseded]
        finite = sorted((p for p in points if math.isfinite(p.value)), key=lambda p: p.step)
        for point in thin(finite):
            value = text.number(point.value, 6)
            values.append({"x": point.step, "y": point.value, "series": label, "value": value})
            rows.append(
                [Cell(label), Cell(f"{point.step:,}", point.step), Cell(value, point.value)]
            )
    colours = [colour(index) for index in range(len(labels))]
    encoding = {
        "x": quantity("x", "step", scale={"nice": False, "zero": False, "padding": 12}),
        "y": quantity("y", None, scale={"zero": False}),
        "color": by_series(labels, values=colours),
    }
    dashes = by_series(labels, values=[dash(index) for index in range(len(labels))])
    summary = f"{metric} of {text.plural(len(runs), 'run')} by step."
    layers = [
        {
            "name": "lines",
            "data": {"values": values},
            "transform": shown(),
            "mark": {"type": "line", "clip": True},
            "encoding": {**encoding, "strokeDash": dashes},
        },
        {
            "name": "values",
            "data": {"values": values},
            "transform": shown(),
            "mark": {"type": "point", "filled": True, "size": 36, "clip": True},
            "encoding": {
                **encoding,
                "tooltip": tips(("run", "series"), ("step", "x"), (metric, "value")),
            },
        },
    ]
    return Figure(
        name,
        metric,
        summary,
        figure_spec(layers, height=230, summary=summary),
        tuple(Key(label, f"line-{i % 8 + 1}", label) for i, label in enumerate(labels)),
        table(f"{name}-table", f"{metric} by run and step", ["run", "#step", f"#{metric}"], rows),
    )


def _overview(runs: Sequence[RunData], labels: Sequence[str], prefix: str) -> Table:
    metrics = list(dict.fromkeys(metric for run in runs for metric in run.directions))[:6]
    rows = []
    for run, label in zip(runs, labels, strict=True):
        bests = [_best(run, metric) for metric in metrics]
        rows.append(
            [
                Cell(label),
                Cell(f"{run.last_step:,}", run.last_step),
                *(Cell(text.number(value), value) for value in bests),
                Cell(str(len(run.kept)), len(run.kept)),
                Cell(text.moment(run.kept[-1].time) if run.kept else ""),
            ]
        )
    columns = ["run", "#steps", *(f"#best {m}" for m in metrics), "#checkpoints", "last save"]
    return table(f"{prefix}-overview", "The runs", columns, rows)


def _best(run: RunData, metric: str) -> float | None:
    found = [c.metrics[metric] for c in run.kept if metric in c.best_by]
    return found[0] if found else None
