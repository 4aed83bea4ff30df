"""What became of checkpoints that are gone: one line for each deletion, beside the checkpoints.

A committed checkpoint speaks for itself through its manifest. One that retention gave up can be
asked nothing any more, so what people want to know of it later (`holdfast why`, the report) is kept
in `events.jsonl`. Nothing that holdfast decides is decided by this file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from holdfast.engine.catalog import Entry
from holdfast.errors import FormatError
from holdfast.jsontext import Json, dump, parse_object
from holdfast.manifest import EVENTS_FILE, iso_time, parse_time
from holdfast.manifest.fields import metric_out
from holdfast.storage.protocol import RunStorage

_LINE_BYTES_MAX = 1 << 20
_METRICS_MAX = 200
_TEXT_MAX = 2000


@dataclass(frozen=True, slots=True)
class Deletion:
    """A checkpoint that retention gave up. time: of the deletion; saved: of the commit.

    Both in seconds since the epoch, UTC. why: the reason retention gave. reason: why it had been
    saved. cost: what its save cost, as in a manifest. parents: ids it came from.
    """

    name: str
    id: str
    epoch: int
    global_step: int
    branch: int
    time: float
    saved: float
    bytes: int
    why: str
    reason: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)
    parents: tuple[str, ...] = ()


def note_deletion(run: RunStorage, entry: Entry, why: str, *, now: float) -> None:
    """Append the line of a checkpoint that is about to be deleted. Raises SaveError.

    It is written first: a line about a checkpoint that stayed after all is recognised by the
    checkpoint, and a checkpoint that went without a line could never be asked about.
    """
    manifest = entry.manifest
    metrics = dict(list(manifest.metrics.items())[:_METRICS_MAX])
    record: dict[str, Json] = {
        "event": "deleted",
        "time": iso_time(now),
        "name": entry.name,
        "id": manifest.id,
        "epoch": manifest.epoch,
        "global_step": manifest.global_step,
        "branch": manifest.branch,
        "saved": iso_time(manifest.time),
        "bytes": manifest.bytes,
        "why": why[:_TEXT_MAX],
        "reason": manifest.reason.text[:_TEXT_MAX],
        "metrics": {name: metric_out(value) for name, value in metrics.items()},
        "cost": dict(manifest.cost),
        "parents": [parent.id for parent in manifest.parents],
    }
    run.append_line(EVENTS_FILE, dump(record))


def read_deletions(run: RunStorage) -> list[Deletion]:
    """Every deletion noted, oldest first; of a checkpoint noted twice, the last.

    Lines that are not of the form are passed over: this file is for people. A checkpoint that is
    still there was not deleted, whatever its line says: the caller knows the catalog.
    """
    return parse_deletions(run.read_lines(EVENTS_FILE))


def parse_deletions(lines: Iterable[bytes]) -> list[Deletion]:
    """As `read_deletions`, from lines that were read by other means."""
    found: dict[str, Deletion] = {}
    for number, line in enumerate(lines):
        if not line.strip() or len(line) > _LINE_BYTES_MAX:
            continue
        try:
            fields = parse_object(line, where=f"{EVENTS_FILE}:{number + 1}")
            deletion = _deletion(fields) if fields.get("event") == "deleted" else None
        except (FormatError, ValueError):
            continue
        if deletion is not None:
            found.pop(deletion.id, None)
            found[deletion.id] = deletion
    return list(found.values())


def _deletion(fields: Mapping[str, Any]) -> Deletion:
    """Raises ValueError for a line of another form."""
    texts = {key: fields.get(key) for key in ("name", "id", "why", "reason", "time", "saved")}
    counts = {key: fields.get(key) for key in ("epoch", "global_step", "branch", "bytes")}
    metrics, cost, parents = (fields.get(key) for key in ("metrics", "cost", "parents"))
    well_formed = (
        all(isinstance(value, str) for value in texts.values())
        and all(type(value) is int for value in counts.values())
        and isinstance(metrics, dict)
        and isinstance(cost, dict)
        and isinstance(parents, list)
    )
    if not well_formed:
        raise ValueError("not the line of a deletion")
    return Deletion(
        name=str(texts["name"]),
        id=str(texts["id"]),
        time=parse_time(str(texts["time"])),
        saved=parse_time(str(texts["saved"])),
        why=str(texts["why"]),
        reason=str(texts["reason"]),
        metrics={name: _number(value) for name, value in dict(metrics or {}).items()},
        cost=dict(cost or {}),
        parents=tuple(str(parent) for parent in parents or ()),
        **{key: int(value or 0) for key, value in counts.items()},
    )


def _number(value: object) -> float:
    known = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    if isinstance(value, str) and value in known:
        return known[value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("a metric is no number")
    return float(value)
