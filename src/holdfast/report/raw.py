"""The raw data of a page: what was gathered, as strict JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from holdfast.report.thin import thin
from holdfast.report.values import RunData

SCHEMA = "holdfast-report-data/1"
_POINTS_MAX = 10_000
_CHECKPOINTS_MAX = 10_000


def raw_data(runs: Sequence[RunData]) -> dict[str, Any]:
    """Everything gathered of the runs. Values that JSON has no number for are texts.

    Curves of over 10,000 points are thinned, and say so under `thinned`.
    """
    return {"schema": SCHEMA, "runs": [_run(run) for run in runs]}


def _run(run: RunData) -> dict[str, Any]:
    thinned = [name for name, points in run.series.items() if len(points) > _POINTS_MAX]
    series = {
        name: {
            "step": [p.step for p in points],
            "value": [_plain(p.value) for p in points],
            "epoch": [p.epoch for p in points],
            "time": [p.time for p in points],
            "session": [p.session for p in points],
            "superseded": [p.superseded for p in points],
        }
        for name, points in ((n, thin(ps, _POINTS_MAX)) for n, ps in run.series.items())
    }
    return {
        "name": run.name,
        "path": run.path,
        "gathered_at": run.gathered_at,
        "directions": dict(run.directions),
        "checkpoints": _plain(run.checkpoints[-_CHECKPOINTS_MAX:]),
        "averages": _plain(run.averages),
        "series": series,
        "thinned": thinned,
        "resumes": _plain(run.resumes),
        "selections": _plain(run.selections),
        "changes": _plain(run.changes),
        "releases": _plain(run.releases),
        "provenance": _plain(run.provenance),
        "notes": list(run.notes),
    }


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
