"""The verdict of a selection: candidates with intervals, differences, EMA sweeps."""

from __future__ import annotations

from holdfast.report import text
from holdfast.report.figures import Figure, Key, Spec, figure_spec, quantity, tips
from holdfast.report.tables import Cell, Table, table
from holdfast.report.values import Selection, Sweep

_STEP = 26


def candidates_figure(selection: Selection, prefix: str) -> Figure | None:
    """Every candidate's score with its interval, best first; the chosen one filled."""
    scored = [c for c in selection.candidates if c.score is not None]
    if not scored:
        return None
    sign = -1 if selection.higher_is_better else 1
    scored.sort(key=lambda c: sign * (c.score or 0.0))
    values = [
        {
            "label": c.name,
            "x": c.score,
            "low": c.score if c.low is None else c.low,
            "high": c.score if c.high is None else c.high,
            "series": "chosen" if c.chosen else "other",
            "score": text.number(c.score),
            "interval": _interval(c.low, c.high),
            "best": "" if c.p_best is None else f"{100 * c.p_best:.0f} %",
        }
        for c in scored
    ]
    summary = (
        f"{selection.metric} of {text.plural(len(scored), 'candidate')} with confidence "
        f"intervals; best is {scored[0].name} with {text.number(scored[0].score)}."
    )
    y = _labels([c.name for c in scored])
    tooltip = tips(
        ("candidate", "label"), ("score", "score"), ("interval", "interval"), ("wins", "best")
    )
    spec = figure_spec(
        [
            _whisker(values, y, selection.metric),
            _dot(values, y, selection.metric, tooltip, "candidates"),
        ],
        height=_STEP * len(values),
        summary=summary,
        zoom=False,
    )
    legend = (Key("chosen", "dot-best"), Key("candidate", "dot-1"))
    return Figure(
        f"{prefix}-candidates",
        "The candidates",
        summary,
        spec,
        legend,
        _candidate_table(selection, prefix),
        zoom=False,
    )


def differences_figure(selection: Selection, prefix: str) -> Figure | None:
    """Each comparison's difference with its interval, against no difference at all."""
    compared = [p for p in selection.pairwise if p.delta is not None]
    if not compared:
        return None
    baseline = compared[0].baseline
    values = [
        {
            "label": p.candidate,
            "x": p.delta,
            "low": p.delta if p.low is None else p.low,
            "high": p.delta if p.high is None else p.high,
            "series": "other",
            "delta": f"{p.delta:+.3g}",
            "interval": _interval(p.low, p.high),
            "p": text.number(p.p, 2),
            "verdict": p.verdict,
        }
        for p in compared
    ]
    summary = f"Differences in {selection.metric} from {baseline}: " + "; ".join(
        f"{p.candidate} {p.delta:+.3g}, {p.verdict}" for p in compared[:12]
    )
    y = _labels([p.candidate for p in compared])
    tooltip = tips(
        *(("candidate", "label"), ("difference", "delta"), ("interval", "interval")),
        *(("p, corrected", "p"), ("verdict", "verdict")),
    )
    title = f"{selection.metric} minus that of {baseline}"
    zero: Spec = {
        "name": "zero",
        "data": {"values": [{"x": 0}]},
        "mark": {"type": "rule", "stroke": "var(--axis)", "strokeDash": [4, 3]},
        "encoding": {"x": quantity("x", title)},
    }
    spec = figure_spec(
        [zero, _whisker(values, y, title), _dot(values, y, title, tooltip, "differences")],
        height=_STEP * len(values),
        summary=summary,
        zoom=False,
    )
    return Figure(
        f"{prefix}-pairwise",
        f"Compared with {baseline}",
        summary,
        spec,
        (),
        _pairwise_table(selection, prefix),
        zoom=False,
    )


def sweep_figure(sweep: Sweep, metric: str, prefix: str) -> Figure:
    """Score over the length of the average, with the band of its intervals."""
    best = next((p for p in sweep.points if p.best), sweep.points[0])
    values = [
        {
            "x": p.length,
            "y": p.score,
            "low": p.low,
            "high": p.high,
            "series": "best" if p.best else "tied" if p.tied else "other",
            "score": text.number(p.score),
            "interval": _interval(p.low, p.high),
        }
        for p in sweep.points
    ]
    summary = f"Best is {text.number(best.length)} with {metric} {text.number(best.score)}."
    legend = (Key("best", "dot-best"), Key("tied with the best", "dot-3"), Key("other", "dot-1"))
    return Figure(
        f"{prefix}-sweep",
        "How long to average",
        summary,
        figure_spec(_sweep_layers(values, sweep.axis, metric), height=200, summary=summary),
        legend,
        _sweep_table(sweep, metric, prefix),
    )


def _sweep_layers(values: list[Spec], axis: str, metric: str) -> list[Spec]:
    """The band of intervals, the line of scores, and a dot for each length."""
    x = quantity("x", axis, scale={"zero": False, "nice": False, "padding": 14})
    y = quantity("y", metric, scale={"zero": False})
    band: Spec = {
        "name": "band",
        "data": {"values": [v for v in values if v["low"] is not None and v["high"] is not None]},
        "mark": {"type": "area", "color": "var(--s1)", "fillOpacity": 0.15},
        "encoding": {
            "x": x,
            "y": quantity("low", metric, scale={"zero": False}),
            "y2": {"field": "high"},
        },
    }
    line: Spec = {
        "name": "sweep",
        "data": {"values": values},
        "mark": {"type": "line", "color": "var(--s1)"},
        "encoding": {"x": x, "y": y},
    }
    dots: Spec = {
        "name": "lengths",
        "data": {"values": values},
        "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
        "encoding": {
            "x": x,
            "y": y,
            "color": {
                "field": "series",
                "type": "nominal",
                "legend": None,
                "scale": {
                    "domain": ["best", "tied", "other"],
                    "range": ["var(--best)", "var(--s3)", "var(--s1)"],
                },
            },
            "tooltip": tips((axis, "x"), (metric, "score"), ("interval", "interval")),
        },
    }
    return [band, line, dots]


def _labels(names: list[str]) -> Spec:
    return {
        "field": "label",
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": {"labelLimit": 190, "labelFontSize": 12, "grid": False},
        "scale": {"domain": list(dict.fromkeys(names))},
    }


def _whisker(values: list[Spec], y: Spec, title: str) -> Spec:
    return {
        "name": "intervals",
        "data": {"values": values},
        "mark": {"type": "rule", "stroke": "var(--s1)", "strokeWidth": 3, "opacity": 0.5},
        "encoding": {
            "x": quantity("low", title, scale={"zero": False, "padding": 16}),
            "x2": {"field": "high"},
            "y": y,
        },
    }


def _dot(values: list[Spec], y: Spec, title: str, tooltip: list[Spec], name: str) -> Spec:
    return {
        "name": name,
        "data": {"values": values},
        "mark": {"type": "point", "filled": True, "size": 130, "opacity": 1},
        "encoding": {
            "x": quantity("x", title),
            "y": y,
            "color": {
                "field": "series",
                "type": "nominal",
                "legend": None,
                "scale": {"domain": ["chosen", "other"], "range": ["var(--best)", "var(--s1)"]},
            },
            "tooltip": tooltip,
        },
    }


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    return f"{text.number(low)} to {text.number(high)}"


def _sweep_table(sweep: Sweep, metric: str, prefix: str) -> Table:
    rows = [
        [
            Cell(text.number(p.length), p.length),
            Cell(text.number(p.score), p.score),
            Cell(_interval(p.low, p.high)),
            Cell("best" if p.best else "tied with the best" if p.tied else ""),
        ]
        for p in sweep.points
    ]
    return table(
        f"{prefix}-sweep-table", "The sweep", [f"#{sweep.axis}", f"#{metric}", "interval", ""], rows
    )


def _candidate_table(selection: Selection, prefix: str) -> Table:
    rows = [
        [
            Cell(c.name, mark="chosen" if c.chosen else ""),
            Cell(c.kind),
            Cell(text.number(c.score), c.score),
            Cell(_interval(c.low, c.high)),
            Cell("" if c.p_best is None else f"{100 * c.p_best:.0f} %", c.p_best),
            Cell("chosen" if c.chosen else "may be the best" if c.tied else ""),
            Cell(c.detail),
        ]
        for c in selection.candidates
    ]
    columns = ["candidate", "kind", f"#{selection.metric}", "interval", "#wins", "", "more"]
    return table(f"{prefix}-candidates-table", "The candidates", columns, rows)


def _pairwise_table(selection: Selection, prefix: str) -> Table:
    rows = [
        [
            Cell(p.candidate),
            Cell(p.baseline),
            Cell("" if p.delta is None else f"{p.delta:+.3g}", p.delta),
            Cell(_interval(p.low, p.high)),
            Cell(text.number(p.p, 2), p.p),
            Cell(p.verdict),
        ]
        for p in selection.pairwise
    ]
    columns = ["candidate", "baseline", "#difference", "interval", "#p, corrected", "verdict"]
    return table(f"{prefix}-pairwise-table", "Pairwise comparisons", columns, rows)
