"""Going on from where training stood: the newest checkpoint that verifies, or a given one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from holdfast.engine.catalog import read_catalog
from holdfast.errors import (
    DamagedError,
    FormatError,
    InterruptedLoadError,
    NothingToResumeError,
)
from holdfast.session.folder import FolderSource
from holdfast.session.load import load_from, load_into
from holdfast.session.objects import LiveObjects
from holdfast.session.report import ResumeReport
from holdfast.session.wanted import Wanted
from holdfast.storage.protocol import RunStorage


def resume_newest(
    run: RunStorage,
    objects: LiveObjects,
    *,
    strict: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> ResumeReport:
    """Restore the newest checkpoint that verifies, walking back over damaged ones.

    A folder without checkpoints is a fresh start. Raises NothingToResumeError if all are damaged,
    and MismatchError if the newest sound one does not fit: an older one would not fit either, and
    going back in silence would lose work.
    """
    catalog = read_catalog(run)
    passed_over = [f"{item.name}: {item.error}" for item in catalog.unreadable]
    for entry in reversed(catalog.entries):
        try:
            with FolderSource.open(run, entry.name, progress) as source:
                loaded = load_from(source, Path(source.place), objects, Wanted(strict=strict))
        except (DamagedError, FormatError, InterruptedLoadError) as error:
            passed_over.append(f"{entry.name}: {error}")
            continue
        return ResumeReport(
            place=run.place,
            info=loaded.info,
            values=loaded.values,
            lines=loaded.lines,
            passed_over=tuple(passed_over),
        )
    if passed_over:
        raise NothingToResumeError(
            "No checkpoint of the run can be used: " + "; ".join(passed_over),
            where=run.place,
            fix="start afresh in another folder, or restore this one from a backup",
        )
    return ResumeReport(place=run.place)


def resume_training(
    checkpoint_path: str | os.PathLike[str],
    model: nn.Module,
    optimizer: Optimizer | None,
    scheduler: Any,
    scaler: Any = None,
) -> dict[str, Any]:
    """Restore a checkpoint into these objects and print the resume checklist.

    checkpoint_path: a checkpoint folder, or an original `.pt` file.
    Returns epoch, global_step, best_metric and metrics_history, and the checklist's text under
    "checklist". Raises as `CheckpointManager.load` does; nothing live has changed then.
    """
    path = Path(checkpoint_path)
    loaded = load_into(path, LiveObjects(model, optimizer, scheduler, scaler))
    report = ResumeReport(
        place=str(path), info=loaded.info, values=loaded.values, lines=loaded.lines
    )
    report.print()
    keys = ("epoch", "global_step", "best_metric", "metrics_history")
    return {key: loaded.values[key] for key in keys} | {"checklist": report.checklist}
