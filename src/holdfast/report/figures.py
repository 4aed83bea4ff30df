"""A figure of the page: a Vega-Lite specification, a legend of switches, and a table twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from holdfast.report.tables import Table

Spec: TypeAlias = dict[str, Any]
Datum: TypeAlias = dict[str, Any]

SERIES_COLOURS = 8
STAR = (
    "M0,-1L0.245,-0.337L0.951,-0.309L0.396,0.129L0.588,0.809L0,0.416L-0.588,0.809"
    "L-0.396,0.129L-0.951,-0.309L-0.245,-0.337Z"
)
_INTERVAL: Spec = {
    "type": "interval",
    "encodings": ["x"],
    "zoom": "wheel![event.ctrlKey || event.metaKey]",
}
_DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [1, 0], [6, 3], [2, 2], [8, 3, 2, 3])


@dataclass(frozen=True, slots=True)
class Key:
    """One entry of a legend. swatch: a CSS class of ours. series: what its switch hides, if any."""

    label: str
    swatch: str
    series: str | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart. id: unique on the page. summary: what a person who cannot see it should know.

    spec: without size of the container and without configuration. table: the same as a table; None
    where a table of the section holds it already. zoom: whether the x axis can be zoomed.
    """

    id: str
    title: str
    summary: str
    spec: Spec
    legend: tuple[Key, ...]
    table: Table | None
    zoom: bool = True


def colour(index: int) -> str:
    """The colour of the n-th series, as the style sheet defines it for light and dark."""
    return f"var(--s{index % SERIES_COLOURS + 1})"


def dash(index: int) -> list[int]:
    """Its dashes: colour alone must not tell series apart."""
    return list(_DASHES[index % len(_DASHES)])


def figure_spec(
    layers: Sequence[Mapping[str, Any]], *, height: int, summary: str, zoom: bool = True
) -> Spec:
    """Layers in one frame, with the parameter `hidden` that the switches set.

    Layers without data are left out. zoom: the x axis can be dragged, and zoomed with the control
    key held: the wheel alone scrolls the page.
    """
    drawn = [dict(layer) for layer in layers if layer["data"]["values"]]
    if zoom and drawn:
        carrier = next(
            (layer for layer in drawn if "field" in layer["encoding"].get("y", {})), drawn[0]
        )
        carrier["params"] = [{"name": "zoom", "select": _INTERVAL, "bind": "scales"}]
    return {
        "description": summary,
        "width": "container",
        "height": height,
        "params": [{"name": "hidden", "value": []}],
        "layer": drawn,
    }


def shown() -> list[Spec]:
    """The filter that leaves out series which are switched off."""
    return [{"filter": "indexof(hidden, datum.series) < 0"}]


def by_series(names: Sequence[str], *, values: Sequence[object]) -> Spec:
    """The scale of a channel by series, without a legend of Vega's: the page has its own."""
    return {
        "field": "series",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": list(names), "range": list(values)},
    }


def tips(*fields: tuple[str, str]) -> list[Spec]:
    """What hovering shows: pairs of title and field."""
    return [{"field": field, "title": title, "type": "nominal"} for title, field in fields]


def quantity(field: str, title: str | None, **more: object) -> Spec:
    """A channel of numbers."""
    return {"field": field, "type": "quantitative", "title": title, **more}


def config() -> Spec:
    """The looks that all charts share. Colours are variables of the page's style sheet."""
    axis = {
        "labelColor": "var(--ink-2)",
        "titleColor": "var(--ink-2)",
        "gridColor": "var(--grid)",
        "domainColor": "var(--axis)",
        "tickColor": "var(--axis)",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelOverlap": True,
        "labelLimit": 160,
    }
    return {
        "background": None,
        "font": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
        "padding": 4,
        "view": {"stroke": None},
        "axis": axis,
        "axisX": {"grid": False, "tickCount": 8},
        "axisY": {"domain": False, "ticks": False, "tickCount": 5, "labelPadding": 6},
        "line": {"strokeWidth": 2, "strokeCap": "round"},
        "point": {"filled": True},
    }
