"""Checkpoints as a table, as data, and the best of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from holdfast.engine.catalog import Catalog, read_catalog
from holdfast.errors import CheckpointNotFoundError, ConfigError, printable
from holdfast.manifest import iso_time
from holdfast.policy import Mode, best
from holdfast.storage import LocalRun
from holdfast.values import CheckpointInfo


def catalog_of(run: Path) -> Catalog:
    """The catalog of a run folder. Raises CheckpointNotFoundError if there is no such folder."""
    if not run.is_dir():
        raise CheckpointNotFoundError("There is no such run folder", where=str(run))
    return read_catalog(LocalRun(run))


def json_metrics(metrics: Mapping[str, float]) -> dict[str, float | str]:
    """Metrics as strict JSON can hold them: what is not finite as a string."""
    return {name: value if math.isfinite(value) else str(value) for name, value in metrics.items()}


def as_data(catalog: Catalog) -> dict[str, Any]:
    """The catalog as plain data."""
    return {
        "schema": "holdfast-ls/1",
        "checkpoints": [
            {
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
            for info in catalog.infos
        ],
        "unreadable": [{"name": u.name, "error": str(u.error)} for u in catalog.unreadable],
    }


def as_table(catalog: Catalog) -> str:
    """The catalog as lines of aligned columns."""
    metrics = sorted({name for info in catalog.infos for name in info.metrics})
    rows = [["name", "epoch", "step", "MB", *map(printable, metrics), "why saved"]]
    for info in catalog.infos:
        values = [f"{info.metrics[m]:.4g}" if m in info.metrics else "" for m in metrics]
        rows.append(
            [
                printable(info.name),
                str(info.epoch),
                str(info.global_step),
                f"{info.bytes / 1e6:.1f}",
                *values,
                printable(info.reason.text),
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines += [
        f"unreadable: {printable(u.name)}: {printable(str(u.error))}" for u in catalog.unreadable
    ]
    return "\n".join(lines)


def best_of(catalog: Catalog, metric: str | None, mode: str | None) -> CheckpointInfo:
    """The best checkpoint by a metric, in the direction it was tracked with unless one is given.

    Raises ConfigError if no direction is known, CheckpointNotFoundError if nothing qualifies.
    """
    directions = dict(catalog.entries[-1].manifest.directions) if catalog.entries else {}
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
