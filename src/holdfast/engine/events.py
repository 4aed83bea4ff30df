"""What became of checkpoints that are no longer there: lines of the run's `events.jsonl`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from holdfast.errors import FormatError, SaveError
from holdfast.jsontext import Json, dump, parse_object
from holdfast.manifest import EVENTS_FILE, iso_time
from holdfast.manifest.fields import metric_out
from holdfast.storage.protocol import RunStorage
from holdfast.values import CheckpointInfo

_LINE_MAX_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to one checkpoint.

    kind: "deleted" or "set_aside". time: UTC as in manifests. why: one sentence. rule: what was
    being kept, as the expression that makes the rule. new_name: of what was set aside. facts: what
    else the line says of the checkpoint (id, epoch, global_step, bytes, metrics).
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


def note_deleted(
    run: RunStorage, removed: Sequence[tuple[CheckpointInfo, str]], *, rule: str, now: float
) -> str | None:
    """Log deletions with their reasons, durably; returns what to warn of if that fails."""
    checkpoints: list[Json] = [
        {
            "name": info.name,
            "id": info.id,
            "epoch": info.epoch,
            "global_step": info.global_step,
            "branch": info.branch,
            "bytes": info.bytes,
            "metrics": {name: metric_out(value) for name, value in info.metrics.items()},
            "why": why,
        }
        for info, why in removed
    ]
    return _note(run, {"event": "deleted", "rule": rule, "checkpoints": checkpoints}, now)


def note_set_aside(
    run: RunStorage, name: str, new_name: str, damage: Sequence[str], *, now: float
) -> str | None:
    """Log that a damaged checkpoint was renamed; returns what to warn of if that fails."""
    entry: Json = {"name": name, "new_name": new_name, "why": "; ".join(damage) or "damaged"}
    return _note(run, {"event": "set_aside", "checkpoints": [entry]}, now)


def read_events(run: RunStorage) -> list[Event]:
    """Every event, oldest first; lines of another form are passed over."""
    return [event for line in run.read_lines(EVENTS_FILE) for event in _events(line)]


def _note(run: RunStorage, fields: dict[str, Json], now: float) -> str | None:
    try:
        run.append_line(EVENTS_FILE, dump({"time": iso_time(now), **fields}))
    except SaveError as error:
        return f"What was deleted could not be written down: {error}"
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
