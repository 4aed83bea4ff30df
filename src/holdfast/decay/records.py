"""Schedules as plain values, for checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from holdfast.decay.schedules import ConstantDecay, HalfLife, PowerFunction, Schedule, SegmentMean
from holdfast.decay.warmup import CountRatio, InverseGamma, Warmup
from holdfast.errors import ConfigError, FormatError

_SCHEDULES: dict[str, type[Schedule]] = {
    "constant": ConstantDecay,
    "half_life": HalfLife,
    "power": PowerFunction,
    "segment_mean": SegmentMean,
}
_WARMUPS: dict[str, type[Warmup]] = {"inverse_gamma": InverseGamma, "count_ratio": CountRatio}


def schedule_record(schedule: Schedule) -> dict[str, Any]:
    """The schedule as plain values. Raises ConfigError for a schedule of the user's own."""
    record = _record(schedule, _SCHEDULES)
    if isinstance(schedule, ConstantDecay) and schedule.warmup is not None:
        record["warmup"] = _record(schedule.warmup, _WARMUPS)
    return record


def read_schedule(record: object) -> Schedule:
    """The schedule of a record. Raises FormatError if it is none."""
    fields = _fields(record)
    kind = fields.pop("kind", None)
    if isinstance(kind, str) and kind in _SCHEDULES:
        if kind == "power":
            # Both are stored; the exponent is what the average was made with.
            fields.pop("sigma_rel", None)
        if fields.get("warmup") is not None:
            warmup = _fields(fields["warmup"])
            fields["warmup"] = _make(_WARMUPS, warmup.pop("kind", None), warmup)
        schedule: Schedule = _make(_SCHEDULES, kind, fields)
        return schedule
    raise FormatError(f"{kind!r} is no averaging schedule that this version knows")


def _record(value: Any, kinds: Mapping[str, type[Any]]) -> dict[str, Any]:
    for kind, known in kinds.items():
        if type(value) is known:
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(known)}
            return {"kind": kind, **fields}
    raise ConfigError(
        f"A {type(value).__name__} cannot be stored in a checkpoint",
        fix=f"use one of {', '.join(known.__name__ for known in kinds.values())}",
    )


def _fields(record: object) -> dict[str, Any]:
    if not isinstance(record, dict) or not all(isinstance(key, str) for key in record):
        raise FormatError("The record of an averaging schedule is not an object")
    return dict(record)


def _make(kinds: Mapping[str, type[Any]], kind: object, fields: Mapping[str, Any]) -> Any:
    try:
        return kinds[str(kind)](**fields)
    except (KeyError, TypeError, ConfigError) as error:
        raise FormatError(f"The record of an averaging schedule is not sound: {error}") from error
