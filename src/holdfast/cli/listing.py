"""Checkpoints as a table, as data, and the best of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from holdfast.cli.output import age_text, clean, paint, size_text, strict, table
from holdfast.engine.catalog import Catalog, read_catalog
from holdfast.errors import CheckpointNotFoundError, ConfigError
from holdfast.manifest import iso_time
from holdfast.policy.ranking import Mode, best, score
from holdfast.storage import LocalRun
from holdfast.values import CheckpointInfo


def catalog_of(run: Path) -> Catalog:
    """The catalog of a run folder. Raises CheckpointNotFoundError if there is no such folder."""
    if not run.is_dir():
        raise CheckpointNotFoundError("There is no such run folder", where=str(run))
    return read_catalog(LocalRun(run))


def json_metrics(metrics: Mapping[str, float]) -> dict[str, float | str]:
    """Metrics as strict JSON can hold them: what is not finite as a string."""
    return cast("dict[str, float | str]", strict(metrics))


def checkpoint_data(info: CheckpointInfo) -> dict[str, Any]:
    """One checkpoint as plain data."""
    return {
        "name": info.name,
        "epoch": info.epoch,
        "global_step": info.global_step,
        "branch": info.branch,
        "time": iso_time(info.time),
        "bytes": info.bytes,
        "metrics": json_metrics(info.metrics),
        "reason": info.reason.text,
        "pinned": info.pinned,
    }


def directions_of(catalog: Catalog) -> dict[str, Mode]:
    """The metrics tracked at the newest save with their directions, the deciding one first."""
    if not catalog.entries:
        return {}
    known = catalog.entries[-1].manifest.directions
    return {name: cast(Mode, mode) for name, mode in known.items() if mode in ("min", "max")}


def bests_of(catalog: Catalog) -> dict[str, CheckpointInfo]:
    """The best by each tracked metric, where there is one."""
    found = {name: best(catalog.infos, name, mode) for name, mode in directions_of(catalog).items()}
    return {name: winner for name, winner in found.items() if winner is not None}


def as_data(catalog: Catalog, shown: Sequence[CheckpointInfo] | None = None) -> dict[str, Any]:
    """The catalog as plain data. shown: these checkpoints only."""
    return {
        "schema": "holdfast-ls/1",
        "checkpoints": list(map(checkpoint_data, catalog.infos if shown is None else shown)),
        "newest": None if catalog.newest is None else catalog.newest.name,
        "best": {metric: info.name for metric, info in bests_of(catalog).items()},
        "unreadable": [{"name": u.name, "error": str(u.error)} for u in catalog.unreadable],
    }


def as_table(
    catalog: Catalog,
    shown: Sequence[CheckpointInfo] | None = None,
    metrics: Sequence[str] | None = None,
) -> str:
    """The catalog as lines of aligned columns; the best value of a tracked metric has a star."""
    infos = catalog.infos if shown is None else shown
    metrics = metrics or sorted({name for info in catalog.infos for name in info.metrics})
    stars = {(metric, info.id) for metric, info in bests_of(catalog).items()}
    now = time.time()
    rows = [
        [
            info.name,
            str(info.epoch),
            str(info.global_step),
            age_text(now - info.time),
            size_text(info.bytes),
            *(_metric_cell(info, metric, (metric, info.id) in stars) for metric in metrics),
            _why(info),
        ]
        for info in infos
    ]
    header = ["name", "epoch", "step", "age", "size", *metrics, "why saved"]
    lines = [table(header, rows, " rrrr" + "r" * len(metrics))] if rows else ["no checkpoints"]
    lines += [
        f"{paint('unreadable', 'red')}: {u.name}: {clean(str(u.error), 500)}"
        for u in catalog.unreadable
    ]
    return "\n".join(lines)


def _metric_cell(info: CheckpointInfo, metric: str, star: bool) -> str:
    if metric not in info.metrics:
        return ""
    value = f"{info.metrics[metric]:.5g}"
    return paint(f"*{value}", "green") if star else value


def _why(info: CheckpointInfo) -> str:
    return (
        info.reason.text if info.pinned is None else f"pinned ({info.pinned}); {info.reason.text}"
    )


def chosen(catalog: Catalog, sort: str, limit: int | None) -> list[CheckpointInfo]:
    """The checkpoints in the order asked for, the last `limit` of them.

    sort: "step", "time", "size" or a metric; "-" before it turns the order round. What lacks the
    metric comes first. Raises ConfigError for a metric that no checkpoint has.
    """
    key, falling = sort.removeprefix("-"), sort.startswith("-")
    infos = list(catalog.infos)
    if key == "time":
        infos.sort(key=lambda info: info.time)
    elif key == "size":
        infos.sort(key=lambda info: info.bytes)
    elif key != "step":
        known = sorted({name for info in infos for name in info.metrics})
        if infos and key not in known:
            raise ConfigError(
                f"No checkpoint has a metric {key!r}",
                fix=f"sort by step, time, size{''.join(f', {name}' for name in known)}",
            )
        infos.sort(key=lambda info: _sortable(info, key))
    if falling:
        infos.reverse()
    return infos if limit is None else infos[-limit:]


def _sortable(info: CheckpointInfo, metric: str) -> tuple[bool, float]:
    value = score(info, metric)
    return (value is not None, 0.0 if value is None else value)


def best_of(catalog: Catalog, metric: str | None, mode: str | None) -> CheckpointInfo:
    """The best checkpoint by a metric, in the direction it was tracked with unless one is given.

    Raises ConfigError if no direction is known, CheckpointNotFoundError if nothing qualifies.
    """
    directions = directions_of(catalog)
    metric = metric or next(iter(directions), None)
    if metric is None:
        raise CheckpointNotFoundError("There is no checkpoint with a tracked metric")
    mode = mode or directions.get(metric)
    if mode not in ("min", "max"):
        raise ConfigError(
            f"The direction of {metric!r} is not known", fix="give --mode min or --mode max"
        )
    winner = best(catalog.infos, metric, cast(Mode, mode))
    if winner is None:
        raise CheckpointNotFoundError(f"No checkpoint has a finite value of {metric!r}")
    return winner
