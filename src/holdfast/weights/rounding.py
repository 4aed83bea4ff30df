"""Rounding a mean once, although it passes through float64 and float32 on its way.

Rounding to nearest twice is not rounding to nearest: a value just above the middle between two
bfloat16 may first be rounded to that middle. Rounding the intermediate steps *to odd* keeps the
knowledge that something was cut off, and the last rounding to nearest is then correct (Boldo and
Melquiond, "Emulation of a FMA and Correctly Rounded Sums", 2008): each intermediate format needs
two bits more than the next.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

Doubles = npt.NDArray[np.float64]

_HALF_OF_BFLOAT16 = np.uint32(0x7FFF)
_ONE = np.uint32(1)
_SIXTEEN = np.uint32(16)


def to_odd(nearest: Doubles, sign: Doubles) -> Doubles:
    """Round to odd: where `nearest` is not exact and even, its neighbour towards the true value.

    sign: of (true value - nearest), 0.0 where nearest is exact.
    """
    bits = nearest.view(np.int64)
    towards = np.where(np.signbit(nearest), -sign, sign).astype(np.int64)
    towards[(bits & 1) == 1] = 0
    return np.asarray((bits + towards).view(np.float64))


def round_to(values: Doubles, dtype: torch.dtype) -> npt.NDArray[np.generic]:
    """Round values that were rounded to odd to `dtype`; bfloat16 comes as its bits (uint16).

    A value beyond the range of dtype becomes infinite.
    """
    with np.errstate(over="ignore", under="ignore"):
        if dtype == torch.float64:
            return values
        if dtype == torch.float32:
            return values.astype(np.float32)
        narrow = _to_odd_float32(values)
        if dtype == torch.float16:
            return np.asarray(narrow.astype(np.float16))
    if dtype == torch.bfloat16:
        bits = narrow.view(np.uint32)
        even = (bits >> _SIXTEEN) & _ONE
        return np.asarray(((bits + _HALF_OF_BFLOAT16 + even) >> _SIXTEEN).astype(np.uint16))
    raise ValueError(f"{dtype} is not a dtype that means are rounded to")


def is_finite(rounded: npt.NDArray[np.generic], dtype: torch.dtype) -> bool:
    """Whether all of what `round_to` returned is finite."""
    if dtype == torch.bfloat16:
        return not bool((rounded.view(np.uint16) & np.uint16(0x7F80) == 0x7F80).any())
    return bool(np.isfinite(np.asarray(rounded, rounded.dtype)).all())


def _to_odd_float32(values: Doubles) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        nearest = values.astype(np.float32)
        short = values - nearest
    nearest = np.where(nearest == 0, np.copysign(np.float32(0), values), nearest).astype(np.float32)
    bits = nearest.view(np.int32)
    towards = np.where(np.signbit(nearest), -np.sign(short), np.sign(short)).astype(np.int32)
    towards[(bits & 1) == 1] = 0
    return (bits + towards).view(np.float32)
