"""Metrics measured after the commit: in the manifest, the history and the pointers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.engine.amend import add_metrics
from holdfast.engine.catalog import Entry
from holdfast.engine.prune import refresh_pointers
from holdfast.errors import ConfigError
from holdfast.manager.context import Context
from holdfast.manager.metrics import numeric_metrics
from holdfast.values import CheckpointInfo


def record(
    context: Context, entry: Entry, metrics: Mapping[str, Any], *, overwrite: bool
) -> CheckpointInfo:
    """Attach metrics to a committed checkpoint, and note them in the history and pointers.

    Of many ranks, rank 0 does it.
    """
    if context.ranks.many and not context.ranks.leads:
        return entry.info
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
    refresh_pointers(context.run, context.catalog.read().infos, context.config.tracked)
    return info
