"""From run folders to a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from holdfast.errors import ConfigError, SaveError
from holdfast.report.extras import report_module
from holdfast.report.gather import gather_run
from holdfast.report.measure_layers import measure_changes
from holdfast.report.page import render_file
from holdfast.report.values import RunData
from holdfast.storage.single_file import commit_file

NEEDED = ("jinja2", "vl_convert")


def write_report(
    runs: Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str] = "report.html",
    *,
    layers: bool = True,
    releases: Sequence[str | os.PathLike[str]] = (),
) -> Path:
    """Write one self-contained HTML page of the runs to `out`, in place of any older one.

    layers: also measure how much each layer changed between kept checkpoints, which reads their
    weights (at most 1 GiB a run). releases: folders of releases made of the first run, besides
    those in or beside its folder. Returns the path. Raises ConfigError without runs or without
    the extra `report`, CheckpointNotFoundError if a folder is missing, SaveError if `out`
    cannot be written.
    """
    if not runs:
        raise ConfigError("There is no run to report on", fix="give one or more run folders")
    for library in NEEDED:
        report_module(library)
    cards = [Path(folder) for folder in releases]
    gathered = [
        _gathered(Path(run), layers, cards if place == 0 else []) for place, run in enumerate(runs)
    ]
    page = render_file(gathered)
    path = Path(out)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(
            f"The report could not be written: {error.strerror or error}",
            where=str(path),
            fix="give another --out",
        ) from error
    commit_file(path, lambda target: target.write_text(page, encoding="utf-8"))
    return path


def _gathered(run: Path, layers: bool, releases: Sequence[Path]) -> RunData:
    data = gather_run(run, releases=releases)
    if not layers:
        return data
    changes, notes = measure_changes(run)
    return replace(data, changes=changes, notes=(*data.notes, *notes))
