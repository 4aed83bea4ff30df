"""What was kept and for how long, what it takes on the disk, and what saving cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from holdfast.report import marks, text
from holdfast.report.figures import (
    Datum,
    Figure,
    Key,
    Spec,
    by_series,
    figure_spec,
    quantity,
    shown,
    tips,
)
from holdfast.report.tables import Cell, Table, table
from holdfast.report.values import Checkpoint, RunData

_ROWS_MAX = 80
_MS = 1000.0
_MB = 1e6


def retention_figure(run: RunData, prefix: str) -> Figure | None:
    """A bar for each checkpoint from its commit to its deletion, or to now."""
    timed = [c for c in run.checkpoints if c.time is not None]
    if not timed:
        return None
    chosen = _rows(timed)
    ends = [c.deleted_at or c.time or 0.0 for c in timed]
    now = max([*ends, *(p.time or 0.0 for ps in run.series.values() for p in ps[-1:])])
    labels = _labels(chosen)
    values = [
        _bar(c, label, min(c.deleted_at or now, now))
        for c, label in zip(chosen, labels, strict=True)
    ]
    more = (
        f" The latest {len(chosen)} of {len(timed)} are drawn." if len(chosen) < len(timed) else ""
    )
    summary = (
        f"{text.plural(len(run.kept), 'checkpoint')} kept and {len(run.deleted)} deleted by "
        f"retention, oldest at the top.{more}"
    )
    y: Spec = {
        "field": "label",
        "type": "ordinal",
        "sort": None,
        "title": "step",
        "axis": {"grid": False, "labelOverlap": "greedy"},
        "scale": {"domain": labels},
    }
    x: Spec = {"field": "x", "type": "temporal", "title": "UTC", "scale": {"type": "utc"}}
    bars: Spec = {
        "name": "spans",
        "data": {"values": values},
        "transform": shown(),
        "mark": {"type": "bar", "height": {"band": 0.35}, "cornerRadius": 2, "clip": True},
        "encoding": {
            "x": x,
            "x2": {"field": "x2"},
            "y": y,
            "color": by_series(
                [marks.KEPT, marks.BEST, marks.DELETED],
                values=["var(--kept)", "var(--best)", "var(--deleted-soft)"],
            ),
            "tooltip": _retention_tips(),
        },
    }
    return Figure(
        f"{prefix}-retention",
        "What was kept, and for how long",
        summary,
        figure_spec([bars, *_retention_marks(values)], height=13 * len(chosen), summary=summary),
        marks.LEGEND[:3],
        None,
    )


def _rows(timed: Sequence[Checkpoint]) -> list[Checkpoint]:
    """At most so many, those that are kept before those that are gone, in their order."""
    if len(timed) <= _ROWS_MAX:
        return list(timed)
    kept = [c.id for c in timed if c.status == "kept"][-_ROWS_MAX // 2 :]
    gone = [c.id for c in timed if c.id not in set(kept)][-(_ROWS_MAX - len(kept)) :]
    wanted = {*kept, *gone}
    return [c for c in timed if c.id in wanted]


def _labels(chosen: Sequence[Checkpoint]) -> list[str]:
    seen: dict[str, int] = {}
    labels = []
    for checkpoint in chosen:
        label = f"{checkpoint.step:,}"
        seen[label] = seen.get(label, 0) + 1
        labels.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return labels


def _bar(checkpoint: Checkpoint, label: str, end: float) -> Datum:
    begin = checkpoint.time or 0.0
    return {
        **marks.datum(checkpoint),
        "label": label,
        "x": 1000.0 * begin,
        "x2": 1000.0 * max(end, begin),
        "at": text.moment(checkpoint.time),
        "lived": text.seconds(max(0.0, end - begin)),
    }


def _retention_tips() -> list[Spec]:
    return tips(
        ("checkpoint", "name"),
        ("now", "state"),
        ("saved because", "saved"),
        ("saved at", "at"),
        ("there for", "lived"),
        ("metrics", "metrics"),
    )


def disk_figure(run: RunData, prefix: str) -> Figure | None:
    """Bytes of all checkpoints together, after each save and deletion."""
    steps = sorted(_movements(run.checkpoints))
    if not steps:
        return None
    values: list[Datum] = []
    total = 0.0
    for when, change, what in steps:
        total = max(0.0, total + change)
        values.append(
            {
                "x": 1000.0 * when,
                "y": total / _MB,
                "total": text.size(total),
                "what": what,
                "at": text.moment(when),
            }
        )
    peak = max(float(v["y"]) for v in values) * _MB
    summary = (
        f"Checkpoints take {text.size(total)} now and took {text.size(peak)} at most. Files "
        "linked from an earlier checkpoint count once, when they are written."
    )
    spec = figure_spec(_disk_layers(values), height=170, summary=summary)
    rows = [[Cell(v["at"], v["x"]), Cell(v["what"]), Cell(v["total"], v["y"])] for v in values]
    twin = table(
        f"{prefix}-disk-table",
        "Disk use after each save and deletion",
        ["at", "what", "#total"],
        rows,
    )
    return Figure(f"{prefix}-disk", "Disk use", summary, spec, (), twin)


def _disk_layers(values: list[Datum]) -> list[Spec]:
    """The level, and a point to ask at each movement."""
    return [
        {
            "name": "disk",
            "data": {"values": values},
            "mark": {
                "type": "area",
                "interpolate": "step-after",
                "line": {"color": "var(--s1)", "strokeWidth": 2},
                "color": "var(--s1)",
                "fillOpacity": 0.15,
                "clip": True,
            },
            "encoding": {
                "x": {
                    "field": "x",
                    "type": "temporal",
                    "title": "UTC",
                    "scale": {"type": "utc"},
                },
                "y": quantity("y", "MB", scale={"zero": True}, stack=None),
            },
        },
        {
            "name": "movements",
            "data": {"values": values},
            "mark": {"type": "point", "filled": True, "size": 60, "opacity": 0.001},
            "encoding": {
                "x": {"field": "x", "type": "temporal"},
                "y": quantity("y", "MB"),
                "tooltip": tips(("then", "total"), ("after", "what"), ("at", "at")),
            },
        },
    ]


def _retention_marks(values: list[Datum]) -> list[Spec]:
    """The mark of each checkpoint at its commit."""
    points = [
        marks.mark_layer(s, [v for v in values if v["series"] == s], {"field": "label"})
        for s in (marks.DELETED, marks.KEPT, marks.BEST)
    ]
    for layer in points:
        layer["name"] = layer["name"].replace("ckpt", "kept")
        layer["encoding"] = {
            "x": {"field": "x", "type": "temporal"},
            "y": {"field": "label", "type": "ordinal", "sort": None},
            "tooltip": _retention_tips(),
        }
    return points


def _movements(checkpoints: Iterable[Checkpoint]) -> Iterable[tuple[float, float, str]]:
    for checkpoint in checkpoints:
        written = float(checkpoint.cost.get("bytes_written", checkpoint.bytes))
        if checkpoint.time is not None and checkpoint.status != "damaged":
            yield checkpoint.time, written, f"saved step {checkpoint.step:,}"
            if checkpoint.deleted_at is not None:
                yield checkpoint.deleted_at, -written, f"deleted step {checkpoint.step:,}"


def parts_table(run: RunData, prefix: str) -> Table | None:
    """What the checkpoints on the disk consist of."""
    if not run.kept:
        return None
    rows = []
    for c in run.kept:
        rest = max(0, c.bytes - c.weights_bytes - c.optimizer_bytes)
        rows.append(
            [
                Cell(f"{c.step:,}", c.step),
                Cell(text.size(c.weights_bytes), c.weights_bytes),
                Cell(text.size(c.optimizer_bytes), c.optimizer_bytes),
                Cell(text.size(rest), rest),
                Cell(text.size(c.bytes), c.bytes),
                Cell(text.size(c.disk_bytes), c.disk_bytes),
            ]
        )
    return table(
        f"{prefix}-parts",
        "What each kept checkpoint consists of; alone: what deleting it would free",
        ["#step", "#weights", "#optimizer", "#other", "#together", "#alone"],
        rows,
    )


def cost_figure(run: RunData, prefix: str) -> Figure | None:
    """How long training waited for each save, and how long the write took."""
    costed = [c for c in run.checkpoints if "write_seconds" in c.cost]
    if not costed:
        return None
    names = ["training waited", "hashing and writing"]
    values: list[Datum] = []
    for c in costed:
        for series, spent in zip(names, (held_seconds(c), c.cost["write_seconds"]), strict=True):
            values.append(
                {
                    "x": c.step,
                    "y": _MS * spent,
                    "series": series,
                    "value": text.seconds(spent),
                    "bytes": text.size(c.cost.get("bytes_written")),
                    "name": c.name,
                    "mode": c.cost.get("mode", ""),
                }
            )
    summary = cost_summary(costed)
    hue = by_series(names, values=["var(--s2)", "var(--s1)"])
    shape = by_series(names, values=["triangle-up", "circle"])
    spec = figure_spec(
        [
            {
                "name": "costs",
                "data": {"values": values},
                "transform": shown(),
                "mark": {"type": "point", "filled": True, "size": 60, "clip": True},
                "encoding": {
                    "x": quantity("x", "step", scale={"nice": False, "zero": False, "padding": 12}),
                    "y": quantity("y", "ms", scale={"zero": True}),
                    "color": hue,
                    "shape": shape,
                    "tooltip": tips(
                        ("", "series"),
                        ("step", "x"),
                        ("took", "value"),
                        ("written", "bytes"),
                        ("mode", "mode"),
                    ),
                },
            }
        ],
        height=180,
        summary=summary,
    )
    legend = (
        Key(names[0], "dot-2", names[0]),
        Key(names[1], "dot-1", names[1]),
    )
    return Figure(
        f"{prefix}-cost", "What each save cost", summary, spec, legend, _ledger(costed, prefix)
    )


def held_seconds(checkpoint: Checkpoint) -> float:
    """How long training did not go on because of the save, by its manifest."""
    return float(checkpoint.cost.get("blocked_seconds", 0.0)) + float(
        checkpoint.cost.get("step_seconds", 0.0)
    )


def waiting(costed: Sequence[Checkpoint]) -> str:
    """How long training waited for all saves, and which share of the time that was."""
    held = sum(held_seconds(c) for c in costed)
    times = [c.time for c in costed if c.time is not None]
    span = max(times) - min(times) if len(times) > 1 else 0.0
    return text.seconds(held) + (f", {100 * held / span:.2g} % of the time" if span > 0 else "")


def cost_summary(costed: Sequence[Checkpoint]) -> str:
    """The ledger in a sentence."""
    slowest = max(held_seconds(c) for c in costed)
    written = math.fsum(c.cost.get("bytes_written", 0.0) for c in costed)
    linked = math.fsum(c.cost.get("bytes_linked", 0.0) for c in costed)
    links = f" and {text.size(linked)} linked instead" if linked else ""
    return (
        f"{text.plural(len(costed), 'save')}: training waited {waiting(costed)}, at most "
        f"{text.seconds(slowest)} at once; {text.size(written)} written{links}."
    )


def _ledger(costed: Sequence[Checkpoint], prefix: str) -> Table:
    rows = []
    for c in costed:
        cost = c.cost
        write = cost["write_seconds"]
        rate = cost.get("bytes_written", 0.0) / write if write > 0 else None
        rows.append(
            [
                Cell(f"{c.step:,}", c.step),
                Cell(str(cost.get("mode", ""))),
                Cell(text.seconds(held_seconds(c)), held_seconds(c)),
                Cell(text.seconds(cost.get("copy_seconds")), cost.get("copy_seconds")),
                Cell(text.seconds(write), write),
                Cell(text.size(cost.get("bytes_written")), cost.get("bytes_written")),
                Cell(text.size(cost.get("bytes_linked")), cost.get("bytes_linked")),
                Cell(f"{text.size(rate)}/s" if rate is not None else "", rate),
            ]
        )
    columns = [
        *("#step", "mode", "#training waited", "#copy", "#hash and write"),
        *("#written", "#linked", "#rate"),
    ]
    return table(f"{prefix}-cost-table", "The ledger of saves", columns, rows)
