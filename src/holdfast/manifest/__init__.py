"""The commit record of a checkpoint: what it holds, where it came from, and proof of itself."""

from holdfast.manifest.names import (
    CONFIG_FILE,
    EVENTS_FILE,
    HISTORY_FILE,
    MANIFEST_FILE,
    OBJECTS_FILE,
    QUARANTINE_FILE,
    REQUEST_FILE,
    STATE_FILE,
    checkpoint_name,
    is_checkpoint_name,
    quarantine_name,
)
from holdfast.manifest.record import ComponentRecord, FileRecord, Manifest
from holdfast.manifest.text import (
    MANIFEST_MAX_BYTES,
    edit_manifest,
    parse_manifest,
    render_manifest,
)
from holdfast.manifest.times import iso_time, parse_time

__all__ = [
    "CONFIG_FILE",
    "EVENTS_FILE",
    "HISTORY_FILE",
    "MANIFEST_FILE",
    "MANIFEST_MAX_BYTES",
    "OBJECTS_FILE",
    "QUARANTINE_FILE",
    "REQUEST_FILE",
    "STATE_FILE",
    "ComponentRecord",
    "FileRecord",
    "Manifest",
    "checkpoint_name",
    "edit_manifest",
    "is_checkpoint_name",
    "iso_time",
    "parse_manifest",
    "parse_time",
    "quarantine_name",
    "render_manifest",
]
