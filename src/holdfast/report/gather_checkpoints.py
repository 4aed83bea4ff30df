"""The checkpoints there are and were: from manifests, and from the notes on deletions."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from holdfast.engine.catalog import Catalog, Entry, read_catalog
from holdfast.engine.events import Deletion, parse_deletions
from holdfast.manifest import EVENTS_FILE
from holdfast.policy import Mode, best
from holdfast.report.lines import read_tail
from holdfast.report.text import clean
from holdfast.report.values import Checkpoint, Resume
from holdfast.storage import LocalRun

AVERAGES = "averages"
_METRICS_MAX = 64


def read_kept(run: Path) -> tuple[Catalog, list[Checkpoint]]:
    """The catalog, and every checkpoint that is there, oldest first; unreadable ones after them."""
    storage = LocalRun(run)
    catalog = read_catalog(storage)
    found = [_kept(run, entry) for entry in catalog.entries]
    found += [_unreadable(item.name, str(item.error.what)) for item in catalog.unreadable]
    found += [
        _unreadable(name, "set aside because it is damaged")
        for name in storage.names()
        if name.startswith("damaged-")
    ]
    return catalog, found


def read_deleted(run: Path, there: Iterable[Checkpoint]) -> list[Checkpoint]:
    """Every checkpoint that retention gave up, in the order of the deletions."""
    present = {checkpoint.id for checkpoint in there}
    lines, _ = read_tail(run / EVENTS_FILE)
    return [_deleted(gone) for gone in parse_deletions(lines) if gone.id not in present]


def read_averages(run: Path) -> list[Checkpoint]:
    """The averages made of the run's checkpoints, none if there are none."""
    if not (run / AVERAGES).is_dir():
        return []
    catalog = read_catalog(LocalRun(run / AVERAGES))
    return [
        replace(_kept(run / AVERAGES, entry), averaged=True, reason=clean(_recipe_text(entry)))
        for entry in catalog.entries
    ]


def directions_of(catalog: Catalog) -> dict[str, str]:
    """The tracked metrics' directions as last saved, the deciding one first."""
    return dict(catalog.entries[-1].manifest.directions) if catalog.entries else {}


def with_ranks(
    checkpoints: Iterable[Checkpoint],
    catalog: Catalog,
    directions: Mapping[str, str],
    resumes: Iterable[Resume],
) -> list[Checkpoint]:
    """The same in order of saving, knowing which are best and which the run went on from."""
    best_by: dict[str, list[str]] = {}
    for metric, mode in directions.items():
        winner = best(catalog.infos, metric, cast(Mode, mode))
        if winner is not None:
            best_by.setdefault(winner.id, []).append(clean(metric, 100))
    counted: dict[str, int] = {}
    for resume in resumes:
        counted[resume.name] = counted.get(resume.name, 0) + 1
    ranked = [
        replace(c, best_by=tuple(best_by.get(c.id, ())), resumed=counted.get(c.name, 0))
        for c in checkpoints
    ]
    return sorted(ranked, key=lambda c: (c.branch, c.step, c.time or math.inf))


def _kept(run: Path, entry: Entry) -> Checkpoint:
    manifest = entry.manifest
    kinds: dict[str, int] = {}
    for component in manifest.components.values():
        kinds[component.kind] = kinds.get(component.kind, 0) + component.bytes
    return Checkpoint(
        id=manifest.id,
        name=clean(entry.name, 240),
        status="kept",
        epoch=manifest.epoch,
        step=manifest.global_step,
        branch=manifest.branch,
        time=manifest.time,
        bytes=manifest.bytes,
        metrics=_metrics(manifest.metrics),
        reason=clean(manifest.reason.text),
        pinned=None if manifest.pinned is None else clean(manifest.pinned),
        parents=tuple((clean(p.relation, 40), p.id) for p in manifest.parents),
        cost=_cost(manifest.cost),
        weights_bytes=kinds.get("module", 0),
        optimizer_bytes=kinds.get("optimizer", 0),
        disk_bytes=_freed_bytes(run / entry.name, manifest.files),
    )


def _deleted(gone: Deletion) -> Checkpoint:
    return Checkpoint(
        id=gone.id,
        name=clean(gone.name, 240),
        status="deleted",
        epoch=gone.epoch,
        step=gone.global_step,
        branch=gone.branch,
        time=gone.saved,
        bytes=gone.bytes,
        metrics=_metrics(gone.metrics),
        reason=clean(gone.reason),
        why=clean(gone.why),
        deleted_at=gone.time,
        parents=tuple(("resumed_from", parent) for parent in gone.parents),
        cost=_cost(gone.cost),
    )


def _unreadable(name: str, why: str) -> Checkpoint:
    return Checkpoint(
        id=f"unreadable:{name}",
        name=clean(name, 240),
        status="damaged",
        epoch=0,
        step=0,
        branch=0,
        time=None,
        bytes=0,
        why=clean(why),
    )


def _metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    return {clean(name, 100): value for name, value in list(metrics.items())[:_METRICS_MAX]}


def _cost(cost: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says of the cost, numbers and the mode only."""
    known = {
        key: float(value)
        for key, value in list(cost.items())[:_METRICS_MAX]
        if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e18
    }
    return {**known, "mode": clean(cost.get("mode", ""), 40)}


def _freed_bytes(folder: Path, files: Iterable[str]) -> int | None:
    """What of its files no other checkpoint shares."""
    total = 0
    try:
        for name in files:
            found = os.lstat(folder / name)
            total += found.st_size if found.st_nlink == 1 else 0
    except OSError:
        return None
    return total


def _recipe_text(entry: Entry) -> str:
    recipe = entry.manifest.extra.get("recipe")
    members = recipe.get("members") if isinstance(recipe, Mapping) else None
    if not isinstance(members, list):
        return "an average"
    steps = [m.get("global_step") for m in members if isinstance(m, Mapping)]
    return f"the average of {len(members)} checkpoints: steps " + ", ".join(map(str, steps[:20]))
