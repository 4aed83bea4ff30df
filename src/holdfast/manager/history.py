"""The metrics history: in memory, in every checkpoint, and as lines beside the checkpoints."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from holdfast.codec import Crossed
from holdfast.engine.history_file import metrics_line, resume_line
from holdfast.errors import UnsavableError
from holdfast.jsontext import dump
from holdfast.manifest import HISTORY_FILE
from holdfast.policy import Metric
from holdfast.state import torch_codec
from holdfast.storage.protocol import RunStorage


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
        self._crossed: list[object] = []
        self._best: dict[Metric, tuple[int, float | None]] = {}

    def carried(self) -> list[object]:
        """The records as they go into a checkpoint.

        There are thousands after a while, and each save has them all: what has crossed to JSON
        once does not do so again while training waits.
        """
        self._crossed += map(_crossed, self.records[len(self._crossed) :])
        return list(self._crossed)

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
        self._pending.append(
            metrics_line(epoch, global_step, metrics, now=now, recorded_for=recorded_for)
        )

    def note_resume(
        self, name: str, global_step: int, passed_over: tuple[str, ...], *, now: float
    ) -> None:
        """Add a line that says the run went on from this checkpoint, and what was passed over."""
        self._pending.append(resume_line(name, global_step, passed_over, now=now))

    def replace(self, records: list[dict[str, Any]]) -> None:
        """Take over the history of a restored checkpoint."""
        self.records = [dict(record) for record in records]
        self._crossed, self._best = [], {}
        self._last = self.records[-1] if self.records else None

    def best(self, metric: Metric) -> float | None:
        """The best finite value of the metric so far, None if there is none."""
        seen, found = self._best.get(metric, (0, None))
        for record in self.records[seen:]:
            metrics = record.get("metrics")
            value = metrics.get(metric.name) if isinstance(metrics, Mapping) else None
            if isinstance(value, (int, float)) and metric.improves(float(value), found):
                found = float(value)
        self._best[metric] = (len(self.records), found)
        return found

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


def _crossed(record: Mapping[str, Any]) -> object:
    """The record as JSON, or itself where it holds tensors, which are stored beside the JSON."""
    try:
        tree = torch_codec().encode(dict(record), where="metrics_history")
    except UnsavableError:
        return record
    text = dump(tree)
    return Crossed(tree, 1 + sum(map(text.count, (b",", b":", b"[", b"{"))))
