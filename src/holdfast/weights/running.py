"""A mean of state dicts that grows one member at a time, without keeping the members."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from holdfast.errors import ConfigError
from holdfast.weights.decode import FRACTION_BITS, decode, real_dtype
from holdfast.weights.exact import ExactSum, NotFiniteError, Scratch
from holdfast.weights.mean import BLOCK_ELEMENTS, NotFiniteIn, finished, tensor_bytes


class RunningMean:
    """The mean of the floating tensors of all states added so far, bit for bit that of `mean_of`.

    Memory: 8 bytes for each number, whatever the count of members.
    """

    def __init__(self) -> None:
        self._sums: dict[str, list[ExactSum]] = {}
        self._scratch = Scratch(BLOCK_ELEMENTS)
        self.count = 0

    def add(self, state: Mapping[str, Tensor]) -> None:
        """Add one state; all must have the same floating tensors. Raises ConfigError for NaN."""
        for name, tensor in _floating(state).items():
            sums = self._sums.get(name)
            if sums is None:
                sums = self._sums[name] = self._new(tensor)
            for total, block in zip(sums, _blocks(tensor), strict=True):
                _add(total, block, tensor.dtype, name)
        self.count += 1

    def mean_with(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The mean if `state` were added, its floating tensors only; it is not added."""
        made: dict[str, Tensor] = {}
        for name, tensor in _floating(state).items():
            out = torch.empty(tensor.shape, dtype=tensor.dtype)
            target = tensor_bytes(out)
            kind = _kind(tensor.dtype)
            begin = 0
            sums = self._sums.get(name) or self._new(tensor)
            for total, block in zip(sums, _blocks(tensor), strict=True):
                grown = total.copy()
                _add(grown, block, tensor.dtype, name)
                try:
                    rounded = finished(grown, self.count + 1, kind).view(np.uint8)
                except NotFiniteIn as error:
                    raise ConfigError(f"The mean of {name} is beyond {kind}") from error
                target[begin : begin + rounded.nbytes] = rounded
                begin += rounded.nbytes
            made[name] = out
        return made

    def _new(self, tensor: Tensor) -> list[ExactSum]:
        width = _kind(tensor.dtype).itemsize
        sizes = (block.nbytes // width for block in _blocks(tensor))
        return [ExactSum(size, self._scratch) for size in sizes]


def _add(
    total: ExactSum, block: np.typing.NDArray[np.uint8], dtype: torch.dtype, name: str
) -> None:
    kind = _kind(dtype)
    try:
        total.add(decode(block, kind), fraction_bits=FRACTION_BITS[kind])
    except NotFiniteError as error:
        raise ConfigError(f"The tensor {name} holds NaN or infinity") from error


def _floating(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.detach().contiguous()
        for name, tensor in state.items()
        if real_dtype(tensor.dtype) is not None
    }


def _kind(dtype: torch.dtype) -> torch.dtype:
    return real_dtype(dtype) or dtype


def _blocks(tensor: Tensor) -> list[np.typing.NDArray[np.uint8]]:
    data = tensor_bytes(tensor)
    step = BLOCK_ELEMENTS * _kind(tensor.dtype).itemsize
    return [data[begin : begin + step] for begin in range(0, data.nbytes, step)]
