"""The weighted mean of chunks and of whole tensors, correctly rounded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from holdfast.errors import ConfigError
from holdfast.weights.decode import FRACTION_BITS, decode, real_dtype
from holdfast.weights.exact import ExactSum, NotFiniteError, Scratch
from holdfast.weights.proportions import proportions
from holdfast.weights.rounding import is_finite, round_to

Bytes = npt.NDArray[np.uint8]
BLOCK_ELEMENTS = 1 << 15
"""Elements summed at a time: the accumulators stay in a core's own cache."""


class NotFiniteIn(ArithmeticError):
    """NaN or infinity in the member of index `source`; None: the mean itself is out of range."""

    def __init__(self, source: int | None) -> None:
        self.source = source
        super().__init__(source)


def mean_bytes(
    sources: Sequence[Bytes],
    dtypes: Sequence[torch.dtype],
    weights: Sequence[int],
    dtype: torch.dtype,
    out: Bytes | None = None,
) -> Bytes:
    """The mean of one chunk, given and returned as row-major bytes.

    sources: one chunk per member, of the same elements. dtypes: real dtype of each (see
    `real_dtype`); dtype: real dtype of the result. weights: whole numbers above zero.
    out: to be filled instead of new memory.
    Within half a unit in the last place of the exact mean (float64: within one), whatever the
    order of the sources. Extra memory: about 3 MiB and the result.
    Raises NotFiniteIn if a source holds NaN or infinity, or the mean is beyond `dtype`.
    """
    elements = sources[0].nbytes // dtypes[0].itemsize if sources else 0
    result = np.empty(elements * dtype.itemsize, np.uint8) if out is None else out
    scratch = Scratch(min(elements, BLOCK_ELEMENTS))
    for begin in range(0, elements, BLOCK_ELEMENTS):
        end = min(begin + BLOCK_ELEMENTS, elements)
        parts = [
            source[begin * kind.itemsize : end * kind.itemsize]
            for source, kind in zip(sources, dtypes, strict=True)
        ]
        rounded = _mean_block(parts, dtypes, weights, dtype, ExactSum(end - begin, scratch))
        result[begin * dtype.itemsize : end * dtype.itemsize] = rounded.view(np.uint8)
    return result


def _mean_block(
    sources: Sequence[Bytes],
    dtypes: Sequence[torch.dtype],
    weights: Sequence[int],
    dtype: torch.dtype,
    total: ExactSum,
) -> npt.NDArray[np.generic]:
    for index, (source, kind, weight) in enumerate(zip(sources, dtypes, weights, strict=True)):
        try:
            total.add(decode(source, kind), weight, fraction_bits=FRACTION_BITS[kind])
        except NotFiniteError as error:
            raise NotFiniteIn(index) from error
    return finished(total, sum(weights), dtype)


def finished(total: ExactSum, divisor: int, dtype: torch.dtype) -> npt.NDArray[np.generic]:
    """The sum over `divisor` in `dtype`, as `round_to` gives it; raises NotFiniteIn(None)."""
    try:
        rounded = round_to(total.quotient(divisor), dtype)
    except NotFiniteError as error:
        raise NotFiniteIn(None) from error
    if not is_finite(rounded, dtype):
        raise NotFiniteIn(None)
    return rounded


def mean_of(
    tensors: Iterable[Tensor],
    weights: Sequence[int | float | str | Fraction] | None = None,
    *,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The weighted mean of dense CPU tensors of one shape, correctly rounded: a new tensor.

    dtype: of the result, by default that of the first tensor. Each tensor is read once; complex
    tensors are averaged by their parts. Raises ConfigError for no tensors, unlike shapes, dtypes
    that have no mean, and values that are not finite.
    """
    given = [tensor.detach().contiguous() for tensor in tensors]
    whole = proportions([1] * len(given) if weights is None else list(weights))
    if not given or len(whole) != len(given):
        raise ConfigError(f"There are {len(given)} tensors and {len(whole)} weights")
    first = given[0]
    out = torch.empty_like(first, dtype=dtype or first.dtype)
    kinds = [real_dtype(tensor.dtype) for tensor in given]
    kind = real_dtype(out.dtype)
    same = all(t.shape == first.shape and t.is_complex() == out.is_complex() for t in given)
    if kind is None or not same or None in kinds:
        shown = ", ".join(f"{t.dtype} {list(t.shape)}" for t in given[:5])
        raise ConfigError(f"These have no mean as {out.dtype}: {shown}")
    try:
        rounded = mean_bytes(
            [tensor_bytes(t) for t in given], [k for k in kinds if k is not None], whole, kind
        )
    except NotFiniteIn as error:
        what = "The mean" if error.source is None else f"The tensor at position {error.source}"
        raise ConfigError(f"{what} is not finite as {kind}") from error
    tensor_bytes(out)[:] = rounded
    return out


def tensor_bytes(tensor: Tensor) -> Bytes:
    """A contiguous tensor's memory."""
    found: Bytes = tensor.reshape(-1).view(torch.uint8).numpy()
    return found
