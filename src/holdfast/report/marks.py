"""How checkpoints are drawn: a shape for each fate, so that colour need not tell."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.report import text
from holdfast.report.figures import STAR, Datum, Key, Spec, shown, tips
from holdfast.report.values import Checkpoint

KEPT, DELETED, BEST, RESUMED = "kept", "deleted", "best", "resumed from"

LEGEND = (
    Key("kept", "mark-kept", KEPT),
    Key("deleted", "mark-deleted", DELETED),
    Key("best", "mark-best", BEST),
    Key("resumed from here", "mark-resumed", RESUMED),
)

_LOOKS: dict[str, Spec] = {
    KEPT: {"shape": "circle", "size": 70, "fill": "var(--kept)", "stroke": "var(--surface)"},
    DELETED: {"shape": "circle", "size": 50, "fill": "var(--surface)", "stroke": "var(--deleted)"},
    BEST: {"shape": STAR, "size": 420, "fill": "var(--best)", "stroke": "var(--surface)"},
}


def fate(checkpoint: Checkpoint) -> str:
    """Which of the shapes stands for it: exactly one."""
    if checkpoint.status == "deleted":
        return DELETED
    return BEST if checkpoint.best_by else KEPT


def datum(checkpoint: Checkpoint, **more: object) -> Datum:
    """The fields that every checkpoint's mark has."""
    return {
        "x": checkpoint.step,
        "series": fate(checkpoint),
        "name": checkpoint.name,
        "state": state_text(checkpoint),
        "saved": checkpoint.reason,
        "metrics": metrics_text(checkpoint),
        **more,
    }


def strip(checkpoints: Sequence[Checkpoint], y: int) -> list[Spec]:
    """Layers with one mark for each checkpoint, in a row `y` pixels from the top."""
    layers = [
        layer(series, [c for c in checkpoints if fate(c) == series], {"value": y})
        for series in (DELETED, KEPT, BEST)
    ]
    resumed = [datum(c, series=RESUMED) for c in checkpoints if c.resumed]
    ring: Spec = {
        "name": "ckpt_resumed",
        "data": {"values": resumed},
        "transform": shown(),
        "mark": {
            "type": "point",
            "shape": "circle",
            "filled": False,
            "size": 260,
            "stroke": "var(--resumed)",
            "strokeWidth": 2,
            "clip": True,
        },
        "encoding": {"x": {"field": "x", "type": "quantitative"}, "y": {"value": y}},
    }
    return [ring, *layers]


def layer(series: str, checkpoints: Sequence[Checkpoint], y: Spec, **more: object) -> Spec:
    """One layer of marks of one fate."""
    return mark_layer(series, [datum(c) for c in checkpoints], y, **more)


def mark_layer(series: str, values: Sequence[Datum], y: Spec, **more: object) -> Spec:
    """One layer of marks of one fate, from data made elsewhere; named `ckpt_<fate>`."""
    return {
        "name": f"ckpt_{series}",
        "data": {"values": list(values)},
        "transform": shown(),
        "mark": {
            "type": "point",
            "filled": True,
            "opacity": 1,
            "strokeWidth": 1.5,
            "clip": True,
            **_LOOKS[series],
        },
        "encoding": {
            "x": {"field": "x", "type": "quantitative"},
            "y": y,
            "tooltip": checkpoint_tips(),
            **more,
        },
    }


def checkpoint_tips() -> list[Spec]:
    """What hovering a checkpoint shows."""
    return tips(
        ("step", "x"),
        ("checkpoint", "name"),
        ("now", "state"),
        ("saved because", "saved"),
        ("metrics", "metrics"),
    )


def state_text(checkpoint: Checkpoint) -> str:
    """What became of it, in a sentence."""
    if checkpoint.status == "deleted":
        return f"deleted: {checkpoint.why}"
    if checkpoint.status == "damaged":
        return f"not to be trusted: {checkpoint.why}"
    parts = [f"best {metric}" for metric in checkpoint.best_by]
    if checkpoint.pinned is not None:
        parts.append(f"pinned: {checkpoint.pinned}")
    if checkpoint.resumed:
        parts.append("resumed from")
    return ", ".join(["kept", *parts])


def metrics_text(checkpoint: Checkpoint, most: int = 6) -> str:
    """Its metrics in a line."""
    shown_ones = list(checkpoint.metrics.items())[:most]
    return ", ".join(f"{name} {text.number(value)}" for name, value in shown_ones)
