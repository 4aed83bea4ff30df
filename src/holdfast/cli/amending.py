"""Pins and late metrics from outside the training process."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

from holdfast.cli.listing import directions_of
from holdfast.engine.amend import add_metrics, set_pin
from holdfast.engine.catalog import Entry, read_catalog
from holdfast.engine.history_file import metrics_line
from holdfast.engine.prune import refresh_pointers
from holdfast.errors import ConfigError
from holdfast.manifest import HISTORY_FILE
from holdfast.policy import Metric
from holdfast.storage import LocalRun
from holdfast.values import CheckpointInfo


def parse_metrics(pairs: Sequence[str]) -> dict[str, float]:
    """Metrics given as NAME=NUMBER. Raises ConfigError for anything else."""
    numbers: dict[str, float] = {}
    for pair in pairs:
        name, equals, text = pair.rpartition("=")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
            equals = equals if text.strip().lower() == "nan" else ""
        if not equals or not name or name in numbers:
            raise ConfigError(
                f"{pair!r} is no metric, or its name comes twice",
                fix="give name=number, for example test_bleu=27.1",
            )
        numbers[name] = value
    return numbers


def record(
    folder: Path, numbers: dict[str, float], *, overwrite: bool, dry_run: bool
) -> CheckpointInfo:
    """Attach metrics to the checkpoint at `folder`, in its manifest and in the history.

    Works while another process writes the run: manifests are edited under a lock of their own, and
    the history takes whole lines only.
    """
    run, entry = _entry(folder)
    if dry_run:
        return entry.info
    info = add_metrics(run, entry, numbers, overwrite=overwrite)
    line = metrics_line(
        info.epoch, info.global_step, numbers, now=time.time(), recorded_for=entry.name
    )
    run.append_line(HISTORY_FILE, line)
    catalog = read_catalog(run)
    tracked = [Metric(name, mode) for name, mode in directions_of(catalog).items()]
    refresh_pointers(run, catalog.infos, tracked)
    return info


def pin(folder: Path, reason: str | None, *, dry_run: bool) -> CheckpointInfo:
    """Pin the checkpoint at `folder` with a reason, or unpin it (None)."""
    if reason is not None and not reason.strip():
        raise ConfigError("A pin needs a reason", fix="say why it must stay: --reason TEXT")
    run, entry = _entry(folder)
    return entry.info if dry_run else set_pin(run, entry, reason)


def _entry(folder: Path) -> tuple[LocalRun, Entry]:
    real = folder.resolve()
    run = LocalRun(real.parent)
    return run, read_catalog(run).named(real.name)
