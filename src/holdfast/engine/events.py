"""What became of checkpoints that are no longer there: lines of the run's `events.jsonl`.

A committed checkpoint speaks for itself; one that is gone can be asked nothing, so what people want
to know of it later stands here. Nothing that holdfast decides is decided by this file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from holdfast.engine.catalog import Entry
from holdfast.errors import FormatError, SaveError
from holdfast.jsontext import Json, dump, parse_object
from holdfast.manifest import EVENTS_FILE, iso_time
from holdfast.manifest.fields import metric_out
from holdfast.storage.protocol import RunStorage

_LINE_MAX_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to one checkpoint.

    kind: "deleted" or "set_aside". time: UTC as in manifests. why: one sentence. rule: what was
    being kept, as the expression that makes the rule. new_name: of what was set aside. facts: what
    else the line says of the checkpoint: id, epoch, global_step, branch, bytes, metrics, when
    (saved) and why (reason) it was saved, cost and parents as in its manifest.
    """

    kind: str
    time: str
    name: str
    why: str
    rule: str = ""
    new_name: str = ""
    facts: Mapping[str, Json] = field(default_factory=dict)

    @property
    def global_step(self) -> int | None:
        """Where training stood, None if the line does not say."""
        step = self.facts.get("global_step")
        return step if type(step) is int else None


def note_deletions(
    run: RunStorage, going: Sequence[tuple[Entry, str]], *, rule: str, now: float
) -> str | None:
    """Log, durably, what is about to be deleted and why; returns what to warn of if that fails.

    It comes first: a line about a checkpoint that stayed after all is recognised by the checkpoint,
    while one that went without a line could never be asked about.
    """
    checkpoints: list[Json] = [{**_facts(entry), "why": why} for entry, why in going]
    return _note(run, {"event": "deleted", "rule": rule, "checkpoints": checkpoints}, now)


def note_set_aside(
    run: RunStorage, name: str, new_name: str, damage: Sequence[str], *, now: float
) -> str | None:
    """Log that a damaged checkpoint was renamed; returns what to warn of if that fails."""
    entry: Json = {"name": name, "new_name": new_name, "why": "; ".join(damage) or "damaged"}
    return _note(run, {"event": "set_aside", "checkpoints": [entry]}, now)


def read_events(run: RunStorage) -> list[Event]:
    """Every event, oldest first; lines of another form are passed over.

    A checkpoint that is still in the catalog was not deleted, whatever a line says.
    """
    return [event for line in run.read_lines(EVENTS_FILE) for event in _events(line)]


def _facts(entry: Entry) -> dict[str, Json]:
    manifest = entry.manifest
    return {
        "name": entry.name,
        "id": manifest.id,
        "epoch": manifest.epoch,
        "global_step": manifest.global_step,
        "branch": manifest.branch,
        "saved": iso_time(manifest.time),
        "reason": manifest.reason.text,
        "bytes": manifest.bytes,
        "metrics": {name: metric_out(value) for name, value in manifest.metrics.items()},
        "cost": dict(manifest.cost),
        "parents": [parent.id for parent in manifest.parents],
    }


def _note(run: RunStorage, fields: dict[str, Json], now: float) -> str | None:
    try:
        run.append_line(EVENTS_FILE, dump({"time": iso_time(now), **fields}))
    except SaveError as error:
        return f"What became of checkpoints could not be written down: {error}"
    return None


def _events(line: bytes) -> Iterator[Event]:
    try:
        fields = parse_object(line, where=EVENTS_FILE, max_bytes=_LINE_MAX_BYTES)
    except FormatError:
        return
    kind, time, entries = fields.get("event"), fields.get("time"), fields.get("checkpoints")
    if not isinstance(kind, str) or not isinstance(time, str) or not isinstance(entries, list):
        return
    for entry in entries:
        if isinstance(entry, dict) and isinstance(name := entry.get("name"), str):
            yield Event(
                kind,
                time,
                name,
                _text(entry, "why"),
                _text(fields, "rule"),
                _text(entry, "new_name"),
                {key: value for key, value in entry.items() if key not in ("name", "why")},
            )


def _text(fields: Mapping[str, Json], key: str) -> str:
    value = fields.get(key)
    return value if isinstance(value, str) else ""
