"""Reading a tensor piece by piece that can only be had whole."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def held_reader(load: Callable[[], Tensor]) -> Callable[[int, memoryview], None]:
    """Fills buffers from the tensor's elements in row-major order.

    load: gives the tensor; called at the first read, and again after the last byte was read.
    """
    held: list[Tensor] = []

    def read(offset: int, buffer: memoryview) -> None:
        if not held:
            # Row-major, as every other layout has it; a copy only where the tensor is not.
            rows = load().detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
            held.append(rows.view(torch.uint8))
        end = offset + len(buffer)
        torch.frombuffer(buffer, dtype=torch.uint8).copy_(held[0][offset:end])
        if end >= held[0].numel():
            held.clear()

    return read
