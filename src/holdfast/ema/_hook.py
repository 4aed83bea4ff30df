"""Updates made by the optimizer itself, so that none is forgotten, doubled or made for nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer


class OptimizerHook:
    """Calls `before` and `after` around every step of an optimizer that is carried out.

    A gradient scaler leaves out `step()` when gradients overflow, and then nothing is called. For
    fused optimizers it calls `step()` all the same and tells it about the overflow: that is looked
    at here, and such a step is not counted either.
    """

    def __init__(
        self, optimizer: Optimizer, before: Callable[[], None], after: Callable[[], None]
    ) -> None:
        self._before = before
        self._after = after
        self._handles = [
            optimizer.register_step_pre_hook(self._enter),
            optimizer.register_step_post_hook(self._leave),
        ]

    def remove(self) -> None:
        """Stop."""
        for handle in self._handles:
            handle.remove()

    def _enter(self, optimizer: Optimizer, *_: Any) -> None:
        self._before()

    def _leave(self, optimizer: Optimizer, *_: Any) -> None:
        overflow = getattr(optimizer, "found_inf", None)
        if overflow is None or float(overflow) == 0.0:
            self._after()
