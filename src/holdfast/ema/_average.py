"""One average: its schedule, how far it has come, and its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from holdfast.decay import Clock, Schedule, SegmentMean, schedule_record
from holdfast.ema._roster import Entry, memory
from holdfast.errors import FormatError


@dataclass
class Average:
    """shadow: the averaged tensors by FQN, in memory of their own.

    updates: how often weights were folded in. pending: share kept by the steps since the last
    time. origin: the clock before the first step that counted.
    """

    schedule: Schedule
    shadow: dict[str, Tensor] = field(default_factory=dict)
    updates: int = 0
    pending: float = 1.0
    origin: Clock | None = None
    closed: bool = False

    def advance(self, before: Clock, after: Clock) -> None:
        """Count one step."""
        if self.closed:
            self.clear()
        if self.origin is None:
            self.origin = before
        self.pending *= self.schedule.kept(before, after)

    def take_share(self) -> float:
        """The share to keep in the update that is due, and count it."""
        kept = self.schedule.fold(self.pending, self.updates)
        self.pending = 1.0
        self.updates += 1
        return kept

    def clear(self) -> None:
        """Forget what was counted; the tensors are overwritten by the next update or start."""
        self.updates, self.pending, self.origin, self.closed = 0, 1.0, None, False

    def close_segment(self) -> None:
        """Begin anew with the next step, if this is the mean of a segment."""
        self.closed = isinstance(self.schedule, SegmentMean)

    def record(self) -> dict[str, Any]:
        """What is counted, as plain values."""
        origin = self.origin or Clock()
        return {
            "schedule": schedule_record(self.schedule),
            "updates": self.updates,
            "pending": self.pending,
            "origin": None if self.origin is None else [origin.steps, origin.samples],
        }

    def take_record(self, record: Mapping[str, Any]) -> None:
        """Go on from a record. Raises FormatError if it is not sound."""
        updates, pending, origin = record.get("updates"), record.get("pending"), record["origin"]
        if type(updates) is not int or updates < 0 or not isinstance(pending, float):
            raise FormatError("The record of an average holds no sound counters")
        self.updates, self.pending = updates, pending
        self.origin = None if origin is None else read_clock(origin)
        self.close_segment()


def read_clock(value: object) -> Clock:
    """A clock from [steps, samples]. Raises FormatError if it is none."""
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(type(count) is int and count >= 0 for count in value)
    ):
        raise FormatError("A clock must be a list of steps and samples")
    return Clock(*value)


def shadow_dtype(dtype: torch.dtype, wanted: torch.dtype | None) -> torch.dtype:
    """The dtype to average in: at least 32 bits, since updates of 16 bits vanish in rounding."""
    if dtype.is_complex:
        return torch.complex128 if wanted is torch.float64 else dtype
    if wanted is not None and wanted.itemsize > dtype.itemsize:
        return wanted
    return torch.float32 if dtype.itemsize < 4 else dtype


def new_shadow(
    entry: Entry, device: torch.device | None, dtype: torch.dtype | None, *, averaged: bool
) -> Tensor:
    """A copy of an entry's live tensor in memory of its own, in the dtype to average in."""
    live = memory(entry.live)
    kind = shadow_dtype(live.dtype, dtype) if averaged else live.dtype
    target = device or live.device
    pinned = target.type == "cpu" and live.is_cuda
    shadow = torch.empty_like(
        live, dtype=kind, device=target, memory_format=torch.preserve_format, pin_memory=pinned
    )
    return shadow.copy_(live)
