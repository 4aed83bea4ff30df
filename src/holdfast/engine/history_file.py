"""The lines of `history.jsonl`: every metrics record, and from where the run went on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from holdfast.errors import FormatError
from holdfast.jsontext import Json, as_text, dump, parse_object
from holdfast.manifest import HISTORY_FILE, iso_time
from holdfast.storage.protocol import RunStorage

_LINE_MAX_BYTES = 16 << 20
_TEXTS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": -float("inf")}
_TEXT_OF = {True: "Infinity", False: "-Infinity"}


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One line. metrics: numbers only, not finite ones included; empty for a resume.

    recorded_for: the checkpoint the metrics were measured on later. resumed_from: the checkpoint
    the run went on from. passed_over: newer ones that could not be used then, with the reason.
    """

    time: str
    global_step: int
    epoch: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    recorded_for: str | None = None
    resumed_from: str | None = None
    passed_over: tuple[str, ...] = ()


def metrics_line(
    epoch: int,
    global_step: int,
    metrics: Mapping[str, object],
    *,
    now: float,
    recorded_for: str | None = None,
) -> bytes:
    """A metrics record as a line. What JSON cannot hold stands as its repr."""
    line: dict[str, Json] = {"time": iso_time(now)}
    if recorded_for is not None:
        line["recorded_for"] = recorded_for
    values = {name: _json_metric(value) for name, value in metrics.items()}
    return dump({**line, "epoch": epoch, "global_step": global_step, "metrics": values})


def resume_line(name: str, global_step: int, passed_over: tuple[str, ...], *, now: float) -> bytes:
    """A line that says the run went on from this checkpoint, and what was passed over."""
    line: dict[str, Json] = {"time": iso_time(now), "resumed_from": name}
    if passed_over:
        line["passed_over"] = as_text(passed_over)
    return dump({**line, "global_step": global_step})


def read_history(run: RunStorage) -> list[HistoryLine]:
    """Every line, oldest first; lines of another form are passed over."""
    return [found for line in run.read_lines(HISTORY_FILE) if (found := _parsed(line)) is not None]


def _json_metric(value: object) -> Json:
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return "NaN" if value != value else _TEXT_OF[value > 0]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return as_text(value if isinstance(value, str) else repr(value))


def _parsed(line: bytes) -> HistoryLine | None:
    try:
        fields = parse_object(line, where=HISTORY_FILE, max_bytes=_LINE_MAX_BYTES)
    except FormatError:
        return None
    time, step, epoch = fields.get("time"), fields.get("global_step"), fields.get("epoch")
    if not isinstance(time, str) or type(step) is not int:
        return None
    metrics = fields.get("metrics")
    passed_over = fields.get("passed_over")
    return HistoryLine(
        time,
        step,
        epoch if type(epoch) is int else None,
        _numbers(metrics) if isinstance(metrics, dict) else {},
        _text(fields, "recorded_for"),
        _text(fields, "resumed_from"),
        tuple(map(str, passed_over)) if isinstance(passed_over, list) else (),
    )


def _numbers(metrics: Mapping[str, Json]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, str) and value in _TEXTS:
            numbers[name] = _TEXTS[value]
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            numbers[name] = _float(value)
    return numbers


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else -float("inf")


def _text(fields: Mapping[str, Json], key: str) -> str | None:
    value = fields.get(key)
    return value if isinstance(value, str) else None
