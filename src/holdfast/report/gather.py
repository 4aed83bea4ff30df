"""Everything the report needs of one run, from its folder alone: no torch, nothing rendered."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from holdfast.engine.catalog import Catalog
from holdfast.errors import CheckpointNotFoundError
from holdfast.report.gather_checkpoints import (
    directions_of,
    read_averages,
    read_deleted,
    read_kept,
    with_ranks,
)
from holdfast.report.gather_history import read_history
from holdfast.report.gather_release import read_releases
from holdfast.report.gather_selection import read_selections
from holdfast.report.text import clean, plural
from holdfast.report.values import Checkpoint, RunData


def gather_run(run: Path, *, releases: Sequence[Path] = (), now: float | None = None) -> RunData:
    """All that is known of the run at `run`, running or finished. Reads no tensor.

    releases: folders of releases made of it that are not in or beside its folder. now: seconds
    since the epoch, UTC; None looks at the clock.
    Files that cannot be read are left out, with a note. Raises CheckpointNotFoundError if there is
    no such folder.
    """
    if not run.is_dir():
        raise CheckpointNotFoundError("There is no such run folder", where=str(run))
    history = read_history(run)
    catalog, there = read_kept(run)
    deleted, event_notes = read_deleted(run, there)
    directions = directions_of(catalog)
    selections, selection_notes = read_selections(run)
    cards, release_notes = read_releases(run, releases)
    checkpoints = with_ranks([*there, *deleted], catalog, directions, history.resumes)
    return RunData(
        name=clean(_name(run), 120),
        path=clean(run, 400),
        gathered_at=time.time() if now is None else now,
        checkpoints=tuple(checkpoints),
        averages=tuple(read_averages(run)),
        directions={clean(metric, 100): mode for metric, mode in directions.items()},
        series={name: tuple(points) for name, points in history.series.items()},
        resumes=tuple(history.resumes),
        selections=tuple(selections),
        releases=tuple(cards),
        provenance=_provenance(catalog),
        notes=(
            *history.notes,
            *event_notes,
            *selection_notes,
            *release_notes,
            *_damage(checkpoints),
        ),
    )


def _name(run: Path) -> str:
    """The folder's name; with its parent's where that says more."""
    resolved = run.resolve()
    plain = resolved.name or str(resolved)
    return f"{resolved.parent.name}/{plain}" if plain in ("checkpoints", "run") else plain


def _provenance(catalog: Catalog) -> Mapping[str, Any]:
    newest = catalog.newest
    return {} if newest is None else dict(newest.manifest.provenance)


def _damage(checkpoints: list[Checkpoint]) -> list[str]:
    damaged = [c for c in checkpoints if c.status == "damaged"]
    if not damaged:
        return []
    names = ", ".join(c.name for c in damaged[:5])
    return [f"{plural(len(damaged), 'checkpoint')} cannot be trusted: {names}."]
