"""The metrics history as a table with a line of small bars for each metric, CSV or data."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from holdfast.cli.listing import catalog_of, directions_of
from holdfast.cli.output import clean, paint, strict, table
from holdfast.engine.history_file import HistoryLine, read_history
from holdfast.errors import ConfigError, printable
from holdfast.manifest import iso_time
from holdfast.storage import LocalRun

_BARS = "▁▂▃▄▅▆▇█"
_BARS_MAX = 60


@dataclass(frozen=True)
class Past:
    """Lines of the history, oldest first; saved: steps at which a checkpoint is there."""

    lines: Sequence[HistoryLine]
    metrics: Sequence[str]
    directions: Mapping[str, str]
    saved: frozenset[int]

    def as_data(self) -> dict[str, Any]:
        """The records as plain data."""
        return {
            "schema": "holdfast-history/1",
            "metrics": list(self.metrics),
            "records": [
                {
                    "time": line.time,
                    "epoch": line.epoch,
                    "global_step": line.global_step,
                    "metrics": strict(
                        {m: line.metrics[m] for m in self.metrics if m in line.metrics}
                    ),
                    "recorded_for": line.recorded_for,
                    "resumed_from": line.resumed_from,
                }
                for line in self.lines
            ],
        }

    def as_csv(self) -> str:
        """Comma-separated values with a header; control characters in names are escaped."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["time", "epoch", "global_step", *map(printable, self.metrics)])
        for line in self.lines:
            if line.resumed_from is None:
                values = [repr(line.metrics[m]) if m in line.metrics else "" for m in self.metrics]
                epoch = "" if line.epoch is None else line.epoch
                writer.writerow([line.time, epoch, line.global_step, *values])
        return text.getvalue().rstrip("\n")

    def as_text(self) -> str:
        """Bars over the whole history, then its lines."""
        if not self.lines:
            return "no history"
        rows = [
            [
                line.time[:19].replace("T", " "),
                "" if line.epoch is None else str(line.epoch),
                str(line.global_step),
                *(f"{line.metrics[m]:.5g}" if m in line.metrics else "" for m in self.metrics),
                self._remark(line),
            ]
            for line in self.lines
        ]
        header = ["time (UTC)", "epoch", "step", *self.metrics, ""]
        return "\n".join(
            [*map(self._summary, self.metrics), "", table(header, rows, " r" + "r" * len(header))]
        ).lstrip("\n")

    def _remark(self, line: HistoryLine) -> str:
        if line.resumed_from is not None:
            return f"resumed from {line.resumed_from}"
        if line.recorded_for is not None:
            return f"measured later, of {line.recorded_for}"
        return "saved" if line.global_step in self.saved else ""

    def _summary(self, metric: str) -> str:
        points = [(x.global_step, x.metrics[metric]) for x in self.lines if metric in x.metrics]
        finite = [(step, value) for step, value in points if math.isfinite(value)]
        text = f"{clean(metric, 40)}  {sparkline([value for _, value in points])}"
        if not finite:
            return f"{text}  never finite"
        text += f"  {finite[0][1]:.5g} to {finite[-1][1]:.5g}"
        mode = self.directions.get(metric)
        if mode is not None:
            step, value = (min if mode == "min" else max)(finite, key=lambda point: point[1])
            text += paint(f", best {value:.5g} at step {step}", "green")
        return text


def past_of(run: Path, metrics: Sequence[str] | None, last: int | None) -> Past:
    """The history of a run; of one without history.jsonl, what its manifests say.

    Raises ConfigError for a metric that is nowhere.
    """
    catalog = catalog_of(run)
    lines = read_history(LocalRun(run)) or [
        HistoryLine(iso_time(info.time), info.global_step, info.epoch, info.metrics)
        for info in catalog.infos
    ]
    known = list(dict.fromkeys(name for line in lines for name in line.metrics))
    unknown = [name for name in metrics or [] if name not in known]
    if unknown:
        raise ConfigError(
            f"The history has no metric {unknown[0]!r}",
            fix=f"it has: {', '.join(clean(name, 40) for name in known[:30]) or 'none at all'}",
        )
    wanted = list(metrics or known)
    lines = [x for x in lines if x.resumed_from or not wanted or set(wanted) & set(x.metrics)]
    saved = frozenset(info.global_step for info in catalog.infos)
    return Past(lines[-last:] if last else lines, wanted, directions_of(catalog), saved)


def sparkline(values: Sequence[float]) -> str:
    """The course of the values in small bars; what is not finite is a cross."""
    if len(values) > _BARS_MAX:
        values = [values[i * (len(values) - 1) // (_BARS_MAX - 1)] for i in range(_BARS_MAX)]
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return "".join("▄" if math.isfinite(value) else "x" for value in values)
    top = len(_BARS) - 1
    return "".join(
        _BARS[round((value - low) / span * top)] if math.isfinite(value) else "x"
        for value in values
    )
