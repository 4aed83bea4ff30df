"""Learning curves: one panel for each kind of metric, with the checkpoints along the bottom."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from holdfast.report import marks, text
from holdfast.report.figures import (
    Datum,
    Figure,
    Key,
    Spec,
    by_series,
    colour,
    dash,
    figure_spec,
    quantity,
    shown,
    tips,
)
from holdfast.report.tables import ROWS_MAX, Cell, Table, table
from holdfast.report.thin import thin
from holdfast.report.values import Point, RunData

PANELS_MAX = 8
_HEIGHT = 250
_STRIP = 30
_SPLIT = re.compile(
    r"(?i)^(train(?:ing)?|val(?:id(?:ation)?)?|dev|test|eval(?:uation)?)[_/.\- :]+(.+)$"
)


def family(metric: str) -> str:
    """What a metric measures, without the data it is measured on: "val_loss" -> "loss"."""
    found = _SPLIT.match(metric)
    return found[2].lower() if found else metric.lower()


def families(names: Sequence[str], deciding: Sequence[str]) -> dict[str, list[str]]:
    """Metrics that share a panel, panels of tracked metrics first."""
    grouped: dict[str, list[str]] = {}
    for name in [*(n for n in deciding if n in names), *sorted(names)]:
        panel = grouped.setdefault(family(name), [])
        if name not in panel:
            panel.append(name)
    return grouped


def curve_figures(run: RunData, prefix: str) -> list[Figure]:
    """A figure for each kind of metric, at most eight."""
    grouped = families(list(run.series), list(run.directions))
    chosen = list(grouped.items())[:PANELS_MAX]
    return [
        _panel(run, f"{prefix}-curve-{i}", kind, names) for i, (kind, names) in enumerate(chosen)
    ]


def _panel(run: RunData, name: str, kind: str, metrics: list[str]) -> Figure:
    values: list[Datum] = []
    for metric in metrics:
        finite = [point for point in run.series[metric] if math.isfinite(point.value)]
        values += _line_data(metric, finite)
    summary = _summary(run, metrics)
    bottom = _HEIGHT - 11
    layers = [
        *_resume_rules(run),
        *_lines(values, metrics),
        *_best_stars(run, metrics),
        *marks.strip([c for c in run.checkpoints if c.status != "damaged"], bottom),
    ]
    legend = [Key(m, f"line-{i % 8 + 1}", m) for i, m in enumerate(metrics)]
    return Figure(
        name,
        kind,
        summary,
        figure_spec(layers, height=_HEIGHT, summary=summary),
        (*legend, *marks.LEGEND),
        _twin(run, name, kind, metrics),
    )


def _line_data(metric: str, points: list[Point]) -> list[Datum]:
    live = thin(sorted((p for p in points if not p.superseded), key=lambda p: p.step))
    found = [_datum(metric, point, "live") for point in live]
    for session in sorted({p.session for p in points if p.superseded}):
        part = [p for p in points if p.superseded and p.session == session]
        found += [_datum(metric, p, f"gone {session}") for p in thin(part)]
    return found


def _datum(metric: str, point: Point, part: str) -> Datum:
    return {
        "x": point.step,
        "y": point.value,
        "series": metric,
        "part": part,
        "value": text.number(point.value, 6),
        "when": text.moment(point.time),
    }


def _lines(values: list[Datum], metrics: list[str]) -> list[Spec]:
    colours = [colour(i) for i in range(len(metrics))]
    x = quantity("x", "step", scale={"nice": False, "zero": False, "padding": 12})
    y = quantity("y", None, scale={"zero": False, "nice": True, "range": [_HEIGHT - _STRIP, 4]})
    hue = by_series(metrics, values=colours)
    dashes = by_series(metrics, values=[dash(i) for i in range(len(metrics))])
    encoding = {"x": x, "y": y, "color": hue, "detail": {"field": "part"}}
    many = len(values) > 60 * len(metrics)
    live = [value for value in values if value["part"] == "live"]
    gone = [value for value in values if value["part"] != "live"]
    return [
        {
            "name": "abandoned",
            "data": {"values": gone},
            "transform": shown(),
            "mark": {"type": "line", "opacity": 0.35, "strokeDash": [2, 3], "clip": True},
            "encoding": encoding,
        },
        {
            "name": "lines",
            "data": {"values": live},
            "transform": shown(),
            "mark": {"type": "line", "clip": True},
            "encoding": {**encoding, "strokeDash": dashes},
        },
        {
            "name": "values",
            "data": {"values": values},
            "transform": shown(),
            "mark": {"type": "point", "filled": True, "clip": True},
            "encoding": {
                **encoding,
                "size": {"value": 90 if many else 36},
                "opacity": {"value": 0 if many else 1},
                "tooltip": tips(
                    ("metric", "series"), ("step", "x"), ("value", "value"), ("at", "when")
                ),
            },
        },
    ]


def _resume_rules(run: RunData) -> list[Spec]:
    values = [
        {
            "x": resume.step,
            "series": marks.RESUMED,
            "name": resume.name,
            "when": text.moment(resume.time),
            "lost": text.plural(resume.lost_steps, "step"),
        }
        for resume in run.resumes[-200:]
    ]
    return [
        {
            "name": "resumes",
            "data": {"values": values},
            "transform": shown(),
            "mark": {
                "type": "rule",
                "strokeDash": [3, 3],
                "stroke": "var(--resumed)",
                "strokeWidth": 1.5,
                "clip": True,
            },
            "encoding": {
                "x": {"field": "x", "type": "quantitative"},
                "tooltip": tips(
                    ("resumed from", "name"), ("at", "when"), ("computed anew", "lost")
                ),
            },
        }
    ]


def _best_stars(run: RunData, metrics: list[str]) -> list[Spec]:
    """A star on the curve where its best checkpoint was saved."""
    values = [
        marks.datum(c, y=c.metrics[metric])
        for c in run.kept
        for metric in metrics
        if metric in c.best_by and math.isfinite(c.metrics.get(metric, math.nan))
    ]
    spec = marks.mark_layer(marks.BEST, values, {"field": "y", "type": "quantitative"})
    return [{**spec, "name": "best_on_curve"}]


def _summary(run: RunData, metrics: list[str]) -> str:
    parts = []
    for metric in metrics:
        points = [p for p in run.series[metric] if math.isfinite(p.value) and not p.superseded]
        if points:
            first, last = points[0], points[-1]
            parts.append(
                f"{metric} goes from {text.number(first.value)} at step {first.step:,} to "
                f"{text.number(last.value)} at step {last.step:,}"
            )
        odd = sum(not math.isfinite(p.value) for p in run.series[metric])
        if odd:
            parts.append(f"{metric} was not finite {odd} times")
    return "; ".join(parts) + "." if parts else "No finite values."


def _twin(run: RunData, name: str, kind: str, metrics: list[str]) -> Table:
    rows: dict[tuple[int, int], dict[str, Point]] = {}
    for metric in metrics:
        for point in run.series[metric]:
            rows.setdefault((point.session, point.step), {})[metric] = point
    last = sorted(rows)[-ROWS_MAX:]
    columns = ["#step", *(f"#{metric}" for metric in metrics), "at", "session"]
    return table(
        f"{name}-table",
        f"Every recorded value of {kind}",
        columns,
        [_row(rows[key], metrics) for key in last],
        omitted=len(rows) - len(last),
    )


def _row(found: Mapping[str, Point], metrics: Sequence[str]) -> list[Cell]:
    point = next(iter(found.values()))
    values = [found.get(metric) for metric in metrics]
    return [
        Cell(f"{point.step:,}", point.step),
        *(
            Cell("") if value is None else Cell(text.number(value.value, 6), value.value)
            for value in values
        ),
        Cell(text.moment(point.time), point.time),
        Cell("computed anew later" if point.superseded else f"session {point.session + 1}"),
    ]
