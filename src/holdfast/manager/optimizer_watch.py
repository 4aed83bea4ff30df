"""How far the optimizer has gone since the loop last said where it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch.optim import Optimizer


class OptimizerWatch:
    """Counts optimizer steps, so that a save nobody asked for carries the right global step.

    `steps` counts those of the first optimizer since `mark`; `inside` is True while any of them is
    in the middle of a step, when weights and moments are neither old nor new.
    """

    def __init__(self, optimizers: Iterable[Optimizer]) -> None:
        self.steps = 0
        self._inside = 0
        self._handles: list[Any] = []
        for place, optimizer in enumerate(optimizers):
            self._handles.append(optimizer.register_step_pre_hook(self._enter))
            self._handles.append(
                optimizer.register_step_post_hook(self._leave_first if place == 0 else self._leave)
            )

    @property
    def inside(self) -> bool:
        """Whether an optimizer is in the middle of a step, or broke off in one."""
        return self._inside > 0

    def mark(self) -> None:
        """Training stands where the caller says: count from here."""
        self.steps = 0
        self._inside = 0

    def remove(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _enter(self, *_: object) -> None:
        self._inside += 1

    def _leave(self, *_: object) -> None:
        self._inside -= 1

    def _leave_first(self, *_: object) -> None:
        self._inside -= 1
        self.steps += 1
