"""Where checkpoints came from: parents, resumes, branches, averages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from holdfast.report import marks, text
from holdfast.report.figures import Datum, Figure, Key, Spec, figure_spec, quantity, shown
from holdfast.report.tables import Cell, Table, table
from holdfast.report.values import Checkpoint, RunData

_AVERAGES_LANE = "averages"
_AVERAGE = "average"
_NODES_MAX = 400


def lineage_figure(run: RunData, prefix: str) -> Figure | None:
    """Checkpoints by step and branch, with a line from each to those it came from."""
    sound = [c for c in run.checkpoints if c.status != "damaged"][-_NODES_MAX:]
    nodes = [*sound, *run.averages]
    if not nodes:
        return None
    by_id = {c.id: c for c in nodes}
    edges = _edges(nodes, by_id)
    lanes = [_lane(b) for b in sorted({c.branch for c in sound})]
    lanes += [_AVERAGES_LANE] if run.averages else []
    summary = _summary(run, len(lanes))
    y: Spec = {
        "field": "lane",
        "type": "ordinal",
        "sort": None,
        "title": None,
        "scale": {"domain": lanes},
        "axis": {"grid": False},
    }
    x = quantity("x", "step", scale={"nice": False, "zero": False, "padding": 14})
    lines: Spec = {
        "name": "descent",
        "data": {"values": edges},
        "mark": {"type": "rule", "strokeWidth": 1.5, "clip": True, "opacity": 0.8},
        "encoding": {
            "x": x,
            "x2": {"field": "x2"},
            "y": y,
            "y2": {"field": "lane2"},
            "stroke": {
                "field": "relation",
                "type": "nominal",
                "legend": None,
                "scale": {
                    "domain": ["followed", "averaged_from", "resumed_from"],
                    "range": ["var(--axis)", "var(--s3)", "var(--resumed)"],
                },
            },
        },
    }
    layers = [lines]
    for series in (marks.DELETED, marks.KEPT, marks.BEST):
        values = [_node(c) for c in sound if marks.fate(c) == series]
        layer = marks.mark_layer(series, values, y)
        layers.append({**layer, "name": layer["name"].replace("ckpt", "node")})
    layers += [_averages(run.averages, y)] if run.averages else []
    legend = [*marks.LEGEND[:3], Key("resumed", "rule-resumed")]
    legend += [Key("average", "dot-3", _AVERAGE)] if run.averages else []
    return Figure(
        f"{prefix}-lineage",
        "Where each checkpoint came from",
        summary,
        figure_spec(layers, height=56 * len(lanes), summary=summary),
        tuple(legend),
        _twin(nodes, by_id, prefix),
    )


def _edges(nodes: Sequence[Checkpoint], by_id: Mapping[str, Checkpoint]) -> list[Datum]:
    """Lines to parents; and from each checkpoint of a session to the one before it."""
    edges: list[Datum] = []
    before: dict[int, Checkpoint] = {}
    seen: dict[int, tuple[tuple[str, str], ...]] = {}
    for c in nodes:
        fresh = c.averaged or seen.get(c.branch) != c.parents
        for relation, parent in c.parents:
            if fresh and parent in by_id:
                edges.append(_edge(by_id[parent], c, relation))
        if c.averaged:
            continue
        if not fresh and c.branch in before:
            edges.append(_edge(before[c.branch], c, "followed"))
        before[c.branch], seen[c.branch] = c, c.parents
    return edges


def _edge(origin: Checkpoint, target: Checkpoint, relation: str) -> Datum:
    return {
        "x": origin.step,
        "x2": target.step,
        "lane": _lane_of(origin),
        "lane2": _lane_of(target),
        "relation": relation,
    }


def _node(checkpoint: Checkpoint) -> Datum:
    return marks.datum(checkpoint, lane=_lane_of(checkpoint))


def _averages(averages: Sequence[Checkpoint], y: Spec) -> Spec:
    return {
        "name": "node_average",
        "data": {"values": [{**_node(c), "series": _AVERAGE} for c in averages]},
        "transform": shown(),
        "mark": {
            "type": "point",
            "shape": "diamond",
            "filled": True,
            "size": 120,
            "opacity": 1,
            "fill": "var(--s3)",
            "clip": True,
        },
        "encoding": {
            "x": quantity("x", "step"),
            "y": y,
            "tooltip": marks.checkpoint_tips(),
        },
    }


def _lane(branch: int) -> str:
    return "run" if branch == 0 else f"branch {branch}"


def _lane_of(checkpoint: Checkpoint) -> str:
    return _AVERAGES_LANE if checkpoint.averaged else _lane(checkpoint.branch)


def _summary(run: RunData, lanes: int) -> str:
    parts = [text.plural(len(run.resumes), "resume")]
    if lanes > 1:
        parts.append(f"{lanes} lanes")
    if run.averages:
        parts.append(text.plural(len(run.averages), "average"))
    return f"{', '.join(parts)}. A new branch begins when a run goes back to an older checkpoint."


def _twin(nodes: Sequence[Checkpoint], by_id: Mapping[str, Checkpoint], prefix: str) -> Table:
    rows = []
    for c in nodes:
        parents = [
            f"{relation.replace('_', ' ')} {by_id[p].label if p in by_id else 'one that is gone'}"
            for relation, p in c.parents[:12]
        ]
        rows.append(
            [Cell(f"{c.step:,}", c.step), Cell(c.name), Cell(_lane_of(c)), Cell("; ".join(parents))]
        )
    columns = ["#step", "checkpoint", "lane", "came from"]
    return table(f"{prefix}-lineage-table", "Parents of every checkpoint", columns, rows)
