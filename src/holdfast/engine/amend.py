"""What is added to a checkpoint after it was committed: metrics measured later, and pins.

Any process may do so, also while another one writes the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from holdfast.engine.catalog import Entry, read_manifest
from holdfast.errors import ConfigError
from holdfast.manifest import MANIFEST_FILE, MANIFEST_MAX_BYTES, edit_manifest, parse_manifest
from holdfast.storage.protocol import RunStorage
from holdfast.values import CheckpointInfo


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

    return _edited(run, entry, change)


def set_pin(run: RunStorage, entry: Entry, reason: str | None) -> CheckpointInfo:
    """Pin a checkpoint with a reason, or take its pin away (None). Raises SaveError."""

    def change(data: bytes) -> bytes:
        where = f"{run.place}/{entry.name}/{MANIFEST_FILE}"
        return edit_manifest(data, where=where, pinned=reason, unpin=reason is None)

    return _edited(run, entry, change)


def _edited(run: RunStorage, entry: Entry, change: Callable[[bytes], bytes]) -> CheckpointInfo:
    # Held open, so that nobody deletes it while it is being changed.
    with run.open(entry.name):
        run.update_bytes(entry.name, MANIFEST_FILE, change, max_bytes=MANIFEST_MAX_BYTES)
        with run.open(entry.name) as opened:
            return read_manifest(opened).info(entry.name)


def _same(first: float, second: float) -> bool:
    return first == second or (math.isnan(first) and math.isnan(second))
