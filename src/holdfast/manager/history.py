"""The metrics history: in memory, in every checkpoint, and as lines beside the checkpoints."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from holdfast.jsontext import Json, dump
from holdfast.manifest import HISTORY_FILE, iso_time
from holdfast.policy import Metric
from holdfast.storage.protocol import RunStorage

_TEXT_OF = {True: "Infinity", False: "-Infinity"}


class MetricsHistory:
    """Every record given to `save`, oldest first, surviving restarts through the checkpoints.

    A record is {"epoch": int, "global_step": int, "metrics": {...}}. Lines for the run's history
    file wait in memory until `flush`: a line is made durable, which a training step cannot wait
    for.
    """

    def __init__(self, run: RunStorage) -> None:
        self._run = run
        self._flushing = threading.Lock()
        self._pending: deque[bytes] = deque()
        self._last: dict[str, Any] | None = None
        self.records: list[dict[str, Any]] = []

    def add(
        self,
        epoch: int,
        global_step: int,
        metrics: Mapping[str, object],
        *,
        now: float,
        carry: bool = True,
        recorded_for: str | None = None,
    ) -> None:
        """Remember one record.

        The same record twice in a row is one record: a retried save must not count double.
        carry: also keep it in memory and in every later checkpoint. recorded_for: the committed
        checkpoint it was measured on later.
        """
        record: dict[str, Any] = {
            "epoch": epoch,
            "global_step": global_step,
            "metrics": dict(metrics),
        }
        if carry and not (self.records and _same(self.records[-1], record)):
            self.records.append(record)
        if self._last is not None and _same(self._last, record):
            return
        self._last = record
        line: dict[str, Json] = {"time": iso_time(now)}
        if recorded_for is not None:
            line["recorded_for"] = recorded_for
        self._append({**line, **record, "metrics": _json_metrics(metrics)})

    def note_resume(self, name: str, global_step: int, *, now: float) -> None:
        """Add a line that says the run went on from this checkpoint."""
        self._append({"time": iso_time(now), "resumed_from": name, "global_step": global_step})

    def replace(self, records: list[dict[str, Any]]) -> None:
        """Take over the history of a restored checkpoint."""
        self.records = [dict(record) for record in records]
        self._last = self.records[-1] if self.records else None

    def best(self, metric: Metric) -> float | None:
        """The best finite value of the metric so far, None if there is none."""
        found: float | None = None
        for record in self.records:
            metrics = record.get("metrics")
            value = metrics.get(metric.name) if isinstance(metrics, Mapping) else None
            if isinstance(value, (int, float)) and metric.improves(float(value), found):
                found = float(value)
        return found

    def _append(self, record: Mapping[str, Json]) -> None:
        self._pending.append(dump(record))

    def forget_lines(self) -> None:
        """Write nothing of what waits: another rank does."""
        self._pending.clear()

    def flush(self) -> None:
        """Append what waits to the history file, durably. Raises SaveError; the rest waits."""
        with self._flushing:
            while self._pending:
                self._run.append_line(HISTORY_FILE, self._pending[0])
                self._pending.popleft()


def _same(first: Mapping[str, object], second: Mapping[str, object]) -> bool:
    """Equal, NaN counting as equal to itself (repr is exact for floats)."""
    return repr(first) == repr(second)


def _json_metrics(metrics: Mapping[str, object]) -> dict[str, Json]:
    """What a line of JSON can hold of the metrics; anything else as its repr."""
    result: dict[str, Json] = {}
    for name, value in metrics.items():
        if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
            result[name] = "NaN" if value != value else _TEXT_OF[value > 0]
        elif value is None or isinstance(value, (bool, int, float, str)):
            result[name] = value
        else:
            result[name] = repr(value)
    return result
