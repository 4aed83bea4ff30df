"""How live tensors lie in an arena: the same bytes in the same memory order, packed.

A dense tensor, whatever the order of its dimensions, is copied as one run of bytes and its twin has
its strides, so that the twin is written and described exactly as the tensor would have been. A view
with gaps or overlaps becomes a row-major twin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

_BYTES = torch.uint8


Shape: TypeAlias = "tuple[torch.dtype, torch.Size, tuple[int, ...], torch.device]"
"""What decides how a tensor is staged; equal shapes can use the same twin."""


def shape_of(tensor: Tensor) -> Shape:
    """The shape of a live tensor."""
    return (tensor.dtype, tensor.shape, tensor.stride(), tensor.device)


def pack(tensors: Sequence[Tensor]) -> tuple[list[int], int]:
    """Offsets of tensors laid one after the other, and the bytes of all.

    Between two of them is nothing, unless the second would not begin at a multiple of its elements.
    """
    offsets, end = [], 0
    for tensor in tensors:
        begin = -(-end // tensor.itemsize) * tensor.itemsize
        offsets.append(begin)
        end = begin + tensor.nbytes
    return offsets, end


def twin_in(memory: Tensor, tensor: Tensor, *, dense: bool) -> Tensor:
    """A tensor like `tensor`, without its values, in `memory` (uint8, exactly of its size)."""
    flat = memory.view(tensor.dtype)
    if dense:
        return flat.as_strided(tensor.shape, tensor.stride())
    return flat.view(tensor.shape)


def is_dense(tensor: Tensor) -> bool:
    """Whether its elements fill one run of memory, each place once, in any order of dimensions."""
    if tensor.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True


def flat_bytes(tensor: Tensor) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """The memory of a dense CPU tensor as bytes, in memory order; shares and keeps it alive."""
    run = tensor.detach().as_strided((tensor.numel(),), (1,))
    result: np.ndarray[tuple[int], np.dtype[np.uint8]] = run.view(_BYTES).numpy()
    return result


def sample_of(tensor: Tensor, every_bytes: int, count_min: int) -> Tensor:
    """A view of elements spread evenly over a dense tensor: one in `every_bytes`, or `count_min`
    where that is more; at least one.
    """
    count = tensor.numel()
    step = max(1, min(every_bytes // tensor.itemsize, count // count_min))
    return tensor.as_strided((-(-count // step),), (step,))
