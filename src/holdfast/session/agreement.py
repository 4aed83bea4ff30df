"""Whether the counters that restored objects carry agree with the epoch and step of the record."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch.optim import Optimizer

from holdfast.session.checklist import Line
from holdfast.session.objects import SCHEDULER, LiveObjects

_COUNT_MAX = 1 << 63


def counter_lines(
    objects: LiveObjects, restored: Collection[str], epoch: int, global_step: int
) -> list[Line]:
    """One line for each counter found; a difference is a note, since it can have good reasons.

    restored: names of the components that were; the counters of others say nothing of the record.
    """
    lines = [Line("epoch, step", "restored", f"epoch {epoch}, global step {global_step}")]
    scheduler = getattr(objects.scheduler, "last_epoch", None) if SCHEDULER in restored else None
    if isinstance(scheduler, int) and abs(scheduler) < _COUNT_MAX:
        lines.append(_scheduler_line(scheduler, epoch, global_step))
    for name, optimizer in objects.optimizers():
        counted = _optimizer_steps(optimizer) if name in restored else None
        if counted is not None:
            lines.append(_optimizer_line(name, counted, global_step))
    return lines


def _scheduler_line(counted: int, epoch: int, global_step: int) -> Line:
    if counted == global_step:
        return Line("scheduler count", "agrees", f"{counted} steps")
    if counted in (epoch, epoch + 1):
        return Line("scheduler count", "agrees", f"{counted} epochs")
    return Line(
        "scheduler count",
        "note",
        f"it counted {counted}, neither the global step {global_step} nor the epoch {epoch}: "
        "normal if it steps at other times",
    )


def _optimizer_line(name: str, counted: int, global_step: int) -> Line:
    item = f"{name} count"
    if counted == global_step:
        return Line(item, "agrees", f"{counted} steps")
    return Line(
        item,
        "note",
        f"it counted {counted} steps, the record says {global_step}: normal with gradient "
        "accumulation, skipped steps, or parameters that joined late",
    )


def _optimizer_steps(optimizer: Optimizer) -> int | None:
    """The largest step counter of any parameter, None if the optimizer keeps none."""
    steps: list[Any] = [
        state["step"]
        for state in optimizer.state.values()
        if isinstance(state, dict) and "step" in state
    ]
    numbers = [
        step.item() if isinstance(step, torch.Tensor) and step.numel() == 1 else step
        for step in steps
    ]
    # Comparisons with NaN are false, so it is left out as well.
    counts = [n for n in numbers if isinstance(n, (int, float)) and abs(n) < _COUNT_MAX]
    return int(max(counts)) if counts else None
