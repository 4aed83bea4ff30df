"""How much each layer changed from checkpoint to checkpoint, as a heat map."""

from __future__ import annotations

from bisect import bisect_right

from holdfast.report import text
from holdfast.report.figures import Figure, Key, Spec, figure_spec, tips
from holdfast.report.tables import Cell, table
from holdfast.report.values import RunData

LEVELS = (1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1)
_NAMES = (
    *("below 0.001 %", "to 0.01 %", "to 0.1 %", "to 1 %", "to 3 %"),
    *("to 10 %", "to 30 %", "over 30 %"),
)
_STEP = 15


def changes_figure(run: RunData, prefix: str) -> Figure | None:
    """Layers by stretches between checkpoints; a darker cell changed more."""
    if not run.changes:
        return None
    layers = list(dict.fromkeys(change.layer for change in run.changes))
    spans = list(dict.fromkeys((c.from_step, c.to_step) for c in run.changes))
    values = [
        {
            "label": change.layer,
            "span": _span(change.from_step, change.to_step),
            "level": level(change.relative),
            "relative": percent(change.relative),
        }
        for change in run.changes
    ]
    summary = (
        f"Relative L2 change of {text.plural(len(layers), 'layer')} over "
        f"{text.plural(len(spans), 'stretch').replace('stretchs', 'stretches')} between kept "
        "checkpoints."
    )
    legend = tuple(Key(label, f"heat-{index}") for index, label in enumerate(_NAMES))
    rows = [
        [
            Cell(change.layer),
            Cell(_span(change.from_step, change.to_step), change.to_step),
            Cell(percent(change.relative), change.relative),
        ]
        for change in run.changes
    ]
    return Figure(
        f"{prefix}-changes",
        "Which layers changed, and when",
        summary,
        figure_spec([_cells(values)], height=_STEP * len(layers), summary=summary, zoom=False),
        legend,
        table(f"{prefix}-changes-table", "Change by layer", ["layer", "#steps", "#changed"], rows),
        zoom=False,
    )


def _cells(values: list[Spec]) -> Spec:
    """A rectangle for each layer and stretch."""
    y: Spec = {
        "field": "label",
        "type": "nominal",
        "sort": None,
        "title": None,
        "axis": {"labelLimit": 130, "grid": False, "labelFontSize": 10},
    }
    x: Spec = {"field": "span", "type": "ordinal", "sort": None, "title": "steps"}
    colours = [f"var(--h{index})" for index in range(len(LEVELS) + 1)]
    return {
        "name": "changes",
        "data": {"values": values},
        "mark": {"type": "rect", "stroke": "var(--surface)", "strokeWidth": 1},
        "encoding": {
            "x": {**x, "axis": {"labelAngle": 0, "grid": False}},
            "y": y,
            "color": {
                "field": "level",
                "type": "ordinal",
                "legend": None,
                "scale": {
                    "domain": [*range(len(LEVELS) + 1), -1],
                    "range": [*colours, "var(--bad)"],
                },
            },
            "tooltip": tips(("layer", "label"), ("steps", "span"), ("changed by", "relative")),
        },
    }


def level(relative: float | None) -> int:
    """The class of a change, 0 to 7; -1 where it is no number."""
    return -1 if relative is None else bisect_right(LEVELS, relative)


def percent(relative: float | None) -> str:
    """A share of 1 as a percentage."""
    return "not finite" if relative is None else f"{100 * relative:.2g} %"


def _span(first: int, last: int) -> str:
    return f"{first:,}–{last:,}"
