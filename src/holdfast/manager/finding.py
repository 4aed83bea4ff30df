"""Which checkpoint is meant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

from holdfast.engine.catalog import Entry, read_catalog
from holdfast.errors import CheckpointNotFoundError
from holdfast.manager.context import Context
from holdfast.policy import best
from holdfast.storage.protocol import RunStorage

Reference: TypeAlias = int | str | os.PathLike[str]
"""A global step (the newest of that step), or the name or path of a checkpoint or a pointer."""


def latest(context: Context) -> Path | None:
    """Folder of the newest checkpoint, None if there is none."""
    newest = context.catalog.read().newest
    return None if newest is None else context.path(newest.name)


def require_latest(context: Context) -> Path:
    """Folder of the newest checkpoint. Raises CheckpointNotFoundError."""
    path = latest(context)
    if path is None:
        raise CheckpointNotFoundError(
            "There is no checkpoint to load",
            where=context.run.place,
            fix="use resume() where a fresh start is fine",
        )
    return path


def best_path(context: Context, metric: str | None) -> Path | None:
    """Folder of the best by a tracked metric, None for the deciding one; None if there is none.

    Raises ConfigError for a metric that is not tracked.
    """
    tracked = context.deciding if metric is None else context.config.tracked_metric(metric)
    winner = best(context.catalog.read().infos, tracked.name, tracked.mode)
    return None if winner is None else context.path(winner.name)


def require_best(context: Context, metric: str | None) -> Path:
    """As `best_path`. Raises CheckpointNotFoundError if there is none."""
    path = best_path(context, metric)
    if path is None:
        raise CheckpointNotFoundError(
            f"No checkpoint has a finite value of {metric or context.deciding.name!r}",
            where=context.run.place,
            fix="pass the metric to save(), or load the newest with load()",
        )
    return path


def find(run: RunStorage, folder: Path, reference: Reference) -> Entry:
    """The committed checkpoint of the run that `reference` means.

    folder: where the run is. Raises CheckpointNotFoundError, or what makes it unreadable.
    """
    catalog = read_catalog(run)
    if isinstance(reference, int):
        found = [e for e in catalog.entries if e.manifest.global_step == reference]
        if not found:
            steps = sorted({entry.manifest.global_step for entry in catalog.entries})
            raise CheckpointNotFoundError(
                f"There is no checkpoint of step {reference} (there are: "
                f"{', '.join(map(str, steps)) or 'none'})",
                where=run.place,
                fix="name one of these, or its folder",
            )
        return found[-1]
    path = Path(reference)
    if path == Path(path.name):
        path = folder / path
    real = path.resolve()
    if real.parent != folder.resolve():
        raise CheckpointNotFoundError(
            "That is no checkpoint of this run", where=str(reference), fix=f"look in {run.place}"
        )
    return catalog.named(real.name)
