"""Changing the manifest of a committed checkpoint: pins, and metrics measured later."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.engine.catalog import Entry, read_manifest
from holdfast.manifest import MANIFEST_FILE, MANIFEST_MAX_BYTES, edit_manifest
from holdfast.storage.protocol import RunStorage
from holdfast.values import CheckpointInfo


def set_pin(run: RunStorage, entry: Entry, reason: str | None) -> CheckpointInfo:
    """Pin a checkpoint with a reason, or take its pin away (None). Raises SaveError."""

    def change(data: bytes) -> bytes:
        where = f"{run.place}/{entry.name}/{MANIFEST_FILE}"
        return edit_manifest(data, where=where, pinned=reason, unpin=reason is None)

    return edit(run, entry, change)


def edit(run: RunStorage, entry: Entry, change: Callable[[bytes], bytes]) -> CheckpointInfo:
    """Replace the manifest by what `change` makes of it, atomically. Raises SaveError."""
    # Held open, so that nobody deletes it while it is being changed.
    with run.open(entry.name):
        run.update_bytes(entry.name, MANIFEST_FILE, change, max_bytes=MANIFEST_MAX_BYTES)
        with run.open(entry.name) as opened:
            return read_manifest(opened).info(entry.name)
