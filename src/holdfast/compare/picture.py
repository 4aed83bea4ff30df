"""A comparison as a heat map: modules down, kinds of tensors across, colour by relative change.

Needs matplotlib, which the extra `report` installs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from holdfast.compare.records import Comparison, Numbers, total
from holdfast.errors import ConfigError, printable

_ROWS_MAX = 200
_COLUMNS_MAX = 24
_LABEL_MAX = 60
_SUFFIXES = (".svg", ".png", ".pdf")


def draw_heatmap(comparison: Comparison, path: Path, *, component: str = "model") -> Path:
    """Write the picture; its suffix (.svg, .png, .pdf) says how.

    Raises ConfigError for another suffix, without matplotlib, or where nothing was compared.
    """
    if path.suffix not in _SUFFIXES:
        raise ConfigError(
            f"{path.name!r} does not say what picture to draw", fix="end it in .svg, .png or .pdf"
        )
    rows, columns, cells = cells_of(comparison, component)
    if not rows:
        raise ConfigError(f"Nothing of {component!r} was compared by value, so there is no picture")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            "Pictures need matplotlib", fix="pip install 'holdfast[report]'"
        ) from error
    figure = Figure(figsize=(3 + 0.55 * len(columns), 1.6 + 0.22 * len(rows)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(cells, aspect="auto", cmap="viridis", interpolation="nearest")
    _label(axes.xaxis, columns, rotation=60)
    _label(axes.yaxis, rows, rotation=0)
    axes.set_title(f"relative change of {printable(component)}", parse_math=False)
    bar = figure.colorbar(image, ax=axes)
    bar.set_label("log10 of |right - left| / |left|; blank: not there, or equal")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


def cells_of(
    comparison: Comparison, component: str
) -> tuple[list[str], list[str], list[list[float]]]:
    """Row names, column names, and log10 of the relative change; NaN where there is none."""
    groups: dict[tuple[str, str], list[Numbers]] = {}
    for tensor in comparison.tensors:
        if tensor.component == component and tensor.numbers is not None:
            module, _, kind = tensor.name.rpartition(".")
            groups.setdefault((module, kind), []).append(tensor.numbers)
    rows = list(dict.fromkeys(module for module, _ in groups))[:_ROWS_MAX]
    columns = list(dict.fromkeys(kind for _, kind in groups))[:_COLUMNS_MAX]
    cells = [[_cell(groups.get((row, column))) for column in columns] for row in rows]
    return rows, columns, cells


def _cell(numbers: Sequence[Numbers] | None) -> float:
    change = total(numbers).relative_l2 if numbers else 0.0
    return math.log10(change) if change > 0 and math.isfinite(change) else math.nan


def _label(axis: Any, names: Sequence[str], *, rotation: int) -> None:
    """Foreign names as tick labels: neither formulas nor control characters."""
    shown = [printable(n if len(n) <= _LABEL_MAX else f"{n[:_LABEL_MAX]}…") for n in names]
    axis.set_ticks(range(len(names)))
    axis.set_ticklabels([name or "(top)" for name in shown], rotation=rotation, parse_math=False)
