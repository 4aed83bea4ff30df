"""The checkpoints there are and were: from manifests, and from the notes on deletions."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from holdfast.engine.catalog import Catalog, Entry, read_catalog
from holdfast.engine.events import Event, read_events
from holdfast.errors import HoldfastError
from holdfast.manifest import EVENTS_FILE, parse_time
from holdfast.policy import Mode, best
from holdfast.report.lines import TAIL_BYTES_MAX
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


def read_deleted(run: Path, there: Iterable[Checkpoint]) -> tuple[list[Checkpoint], list[str]]:
    """Every checkpoint that retention gave up, in the order of the deletions; and notes."""
    path = run / EVENTS_FILE
    try:
        if path.lstat().st_size > TAIL_BYTES_MAX:
            return [], [f"{EVENTS_FILE} is too long: deleted checkpoints are not shown."]
        events = read_events(LocalRun(run))
    except (OSError, HoldfastError):
        return [], []
    present = {checkpoint.id for checkpoint in there}
    found: dict[str, Checkpoint] = {}
    for event in events:
        gone = _deleted(event) if event.kind == "deleted" else None
        if gone is not None and gone.id not in present:
            found[gone.id] = gone
    return list(found.values()), []


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


def _deleted(event: Event) -> Checkpoint | None:
    """None if the line does not say which step it was."""
    facts = event.facts
    step, metrics, parents = (facts.get(key) for key in ("global_step", "metrics", "parents"))
    if type(step) is not int or not 0 <= step < 2**53:
        return None
    cost = facts.get("cost")
    return Checkpoint(
        id=clean(facts.get("id") or event.name, 40),
        name=clean(event.name, 240),
        status="deleted",
        epoch=_count(facts.get("epoch")),
        step=step,
        branch=_count(facts.get("branch")),
        time=_time(facts.get("saved")),
        bytes=_count(facts.get("bytes")),
        metrics=_metrics(_numbers(metrics)),
        reason=clean(facts.get("reason") or ""),
        why=clean(event.why),
        deleted_at=_time(event.time),
        parents=tuple(
            ("resumed_from", clean(parent, 40))
            for parent in (parents if isinstance(parents, list) else [])[:100]
        ),
        cost=_cost(cost if isinstance(cost, Mapping) else {}),
    )


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < 2**53 else 0


def _time(value: object) -> float | None:
    try:
        return parse_time(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _numbers(metrics: object) -> dict[str, float]:
    known = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    found: dict[str, float] = {}
    for name, value in metrics.items() if isinstance(metrics, Mapping) else ():
        if isinstance(value, str) and value in known:
            found[name] = known[value]
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e308:
            found[name] = float(value)
    return found


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
