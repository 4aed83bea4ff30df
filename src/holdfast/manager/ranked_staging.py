"""Which memory of sharded parameters changes only in an optimizer's step."""

from __future__ import annotations

from torch import Tensor

from holdfast.session import LiveObjects
from holdfast.state import is_sharded, local_part


def sharded_step_only(objects: LiveObjects) -> set[int]:
    """Addresses of the local parts of sharded parameters of optimizers, and of their state.

    As `step_only_memory` says of plain ones: it cannot look into DTensors.
    """
    found: set[int] = set()
    for _, optimizer in objects.optimizers():
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                state = optimizer.state.get(parameter, {})
                values = state.values() if isinstance(state, dict) else ()
                for tensor in (parameter, *values):
                    if isinstance(tensor, Tensor) and is_sharded(tensor):
                        found.add(local_part(tensor).data_ptr())
    return found - {0}
