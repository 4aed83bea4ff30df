"""What is added to a checkpoint after it was committed: metrics measured later, and pins."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from holdfast.engine.catalog import Entry, read_catalog
from holdfast.engine.pinning import edit, set_pin
from holdfast.engine.prune import refresh_pointers
from holdfast.errors import ConfigError
from holdfast.manager.context import Context
from holdfast.manager.metrics import numeric_metrics
from holdfast.manifest import MANIFEST_FILE, edit_manifest, parse_manifest
from holdfast.storage.protocol import RunStorage
from holdfast.values import CheckpointInfo

__all__ = ["add_metrics", "record", "set_pin"]


def add_metrics(
    run: RunStorage, entry: Entry, numbers: Mapping[str, float], *, overwrite: bool
) -> CheckpointInfo:
    """Put metrics into a committed manifest, atomically. Raises ConfigError or SaveError."""

    def change(data: bytes) -> bytes:
        where = f"{run.place}/{entry.name}/{MANIFEST_FILE}"
        known = parse_manifest(data, where=where).metrics
        for name, value in numbers.items():
            if not overwrite and name in known and not _same(known[name], value):
                raise ConfigError(
                    f"The checkpoint has {name} = {known[name]:.6g} already, given was {value:.6g}",
                    where=where,
                    fix="record it under another name, or pass overwrite=True",
                )
        if all(name in known and _same(known[name], v) for name, v in numbers.items()):
            return data
        return edit_manifest(data, where=where, metrics=numbers)

    return edit(run, entry, change)


def record(
    context: Context, entry: Entry, metrics: Mapping[str, Any], *, overwrite: bool
) -> CheckpointInfo:
    """Attach metrics to a committed checkpoint, and note them in the history and pointers."""
    numbers = numeric_metrics(metrics)
    unfit = sorted(set(metrics) - set(numbers))
    if unfit or not numbers:
        raise ConfigError(
            f"Metrics to record must be numbers; these are not: {', '.join(unfit) or 'none given'}",
            fix="give one number by name, for example {'test_bleu': 27.1}",
        )
    info = add_metrics(context.run, entry, numbers, overwrite=overwrite)
    context.history.add(
        info.epoch,
        info.global_step,
        dict(numbers),
        now=context.clock.time(),
        recorded_for=entry.name,
    )
    context.history.flush()
    refresh_pointers(context.run, read_catalog(context.run).infos, context.config.tracked)
    return info


def _same(first: float, second: float) -> bool:
    return first == second or (math.isnan(first) and math.isnan(second))
