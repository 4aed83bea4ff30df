"""Curves and resumes from `history.jsonl`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from holdfast.errors import FormatError
from holdfast.jsontext import parse_object
from holdfast.manifest import HISTORY_FILE, parse_time
from holdfast.report.lines import read_tail
from holdfast.report.text import clean, plural
from holdfast.report.values import Point, Resume

_LINE_BYTES_MAX = 1 << 20
_METRICS_MAX = 64
_STEP_MAX = 2**53
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass
class History:
    """What the file tells. series: metric -> points in file order, NaN and infinities included."""

    series: dict[str, list[Point]] = field(default_factory=dict)
    resumes: list[Resume] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _reached: int = 0
    _refused: int = 0
    _unnamed: set[str] = field(default_factory=set)

    def add(self, fields: Mapping[str, Any]) -> None:
        """Take in one line. Raises ValueError if it is of another form."""
        step = fields.get("global_step")
        if type(step) is not int or not 0 <= step < _STEP_MAX:
            raise ValueError("no step")
        when = _time(fields.get("time"))
        if "resumed_from" in fields:
            self._resume(clean(fields["resumed_from"], 240), step, when)
            return
        metrics = fields.get("metrics")
        if not isinstance(metrics, dict):
            raise ValueError("no metrics")
        epoch = fields.get("epoch")
        for name, value in metrics.items():
            found = _number(value)
            if found is None:
                continue
            self._add_point(
                clean(name, 100),
                Point(
                    step,
                    found,
                    epoch if type(epoch) is int else 0,
                    when,
                    len(self.resumes),
                    superseded=False,
                ),
            )
        if "recorded_for" not in fields:
            self._reached = max(self._reached, step)

    def _add_point(self, name: str, point: Point) -> None:
        if name not in self.series and len(self.series) >= _METRICS_MAX:
            self._unnamed.add(name)
            return
        self.series.setdefault(name, []).append(point)

    def _resume(self, name: str, step: int, when: float | None) -> None:
        self.resumes.append(Resume(when, name, step, max(0, self._reached - step)))
        self._reached = step

    def refuse(self) -> None:
        """Count a line that is of another form."""
        self._refused += 1

    def finish(self) -> History:
        """Mark what later resumes computed anew, and say what was left out."""
        lowest = [math.inf] * (len(self.resumes) + 1)
        for index in range(len(self.resumes) - 1, -1, -1):
            lowest[index] = min(lowest[index + 1], self.resumes[index].step)
        for name, points in self.series.items():
            self.series[name] = [
                replace(point, superseded=True) if point.step > lowest[point.session] else point
                for point in points
            ]
        if self._refused:
            self.notes.append(
                f"{plural(self._refused, 'line')} of {HISTORY_FILE} could not be read "
                "and were left out."
            )
        if self._unnamed:
            self.notes.append(
                f"The history holds more than {_METRICS_MAX} metrics; the first are shown."
            )
        return self


def read_history(run: Path) -> History:
    """Every metrics record and resume of a run; lines that cannot be read are counted."""
    history = History()
    lines, skipped = read_tail(run / HISTORY_FILE)
    if skipped:
        history.notes.append(f"{HISTORY_FILE} is very long: only its end is shown.")
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            if len(line) > _LINE_BYTES_MAX:
                raise ValueError("too long")
            history.add(parse_object(line, where=f"{HISTORY_FILE}:{number + 1}"))
        except (FormatError, ValueError):
            history.refuse()
    return history.finish()


def _time(value: object) -> float | None:
    try:
        return parse_time(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _number(value: object) -> float | None:
    if isinstance(value, str):
        return _NOT_FINITE.get(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
