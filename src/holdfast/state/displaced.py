"""Models whose live tensors are not the training weights just now, and where those are.

While an average is evaluated inside the model, whoever saves the model must get the training
weights, whether or not they know of the average. So the knowledge is kept per process, not per
manager: an average that is swapped in notes it here, and `capture_module` asks.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Protocol

from torch import Tensor, nn

from holdfast.state._regions import Region, region


class Displacement(Protocol):
    """A swap in force: pairs of (tensor live in the model, training tensor it stands for)."""

    def pairs(self) -> Iterable[tuple[Tensor, Tensor]]:
        """The pairs, none once the training weights are back."""


_IN_FORCE: weakref.WeakSet[Displacement] = weakref.WeakSet()


def note_displacement(swap: Displacement) -> None:
    """Remember a swap for as long as it is in force and alive."""
    _IN_FORCE.add(swap)


def training_tensors() -> dict[Region, Tensor]:
    """Training tensor by the region of the live tensor that stands in its place."""
    return {region(live): training for swap in list(_IN_FORCE) for live, training in swap.pairs()}


def is_displaced(module: nn.Module) -> bool:
    """Whether any tensor of this module is not the training weight just now."""
    displaced = {id(live) for swap in list(_IN_FORCE) for live, _ in swap.pairs()}
    return bool(displaced) and any(
        id(tensor) in displaced for tensor in (*module.parameters(), *module.buffers())
    )
