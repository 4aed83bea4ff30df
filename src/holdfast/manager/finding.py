"""Which checkpoint is meant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeAlias

from holdfast.engine.catalog import Entry, read_catalog
from holdfast.errors import CheckpointNotFoundError
from holdfast.storage.protocol import RunStorage

Reference: TypeAlias = int | str | os.PathLike[str]
"""A global step (the newest of that step), or the name or path of a checkpoint or a pointer."""


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
