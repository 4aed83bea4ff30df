"""Rounding a mean once, although it passes through float64 and float32 on its way.

Rounding to nearest twice is not rounding to nearest: a value just above the middle between two
bfloat16 may first be rounded to that middle. Where that can matter, which is rare and can be seen
from the bits, the intermediate value is rounded *to odd* instead: that keeps the knowledge that
something was cut off, and the last rounding to nearest is then correct (Boldo and Melquiond,
"Emulation of a FMA and Correctly Rounded Sums", 2008).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Doubles = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]

_SMALLEST_NORMAL_SINGLE = 2.0**-126
_SMALLEST_NORMAL_HALF = np.float32(2.0**-14)


@dataclass(frozen=True, slots=True)
class Quotient:
    """A quotient as float64. nearest: rounded; sign: of (true value - nearest) at some indices."""

    nearest: Doubles
    sign: Callable[[Indices], Doubles]


def round_to(quotient: Quotient, dtype: torch.dtype) -> npt.NDArray[np.generic]:
    """Round to the nearest value of `dtype`, ties to even; bfloat16 comes as its bits (uint16).

    A value beyond the range of dtype becomes infinite.
    """
    if dtype == torch.float64:
        return quotient.nearest
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if dtype == torch.float32:
            return _nearest_single(quotient)
        if dtype == torch.float16:
            return np.asarray(_odd_single(quotient, _near_middle_of_half).astype(np.float16))
        if dtype == torch.bfloat16:
            bits = _odd_single(quotient, _middle_of_bfloat16).view(np.uint32)
            even = (bits >> np.uint32(16)) & np.uint32(1)
            return np.asarray(
                ((bits + np.uint32(0x7FFF) + even) >> np.uint32(16)).astype(np.uint16)
            )
    raise ValueError(f"{dtype} is not a dtype that means are rounded to")


def is_finite(rounded: npt.NDArray[np.generic], dtype: torch.dtype) -> bool:
    """Whether all of what `round_to` returned is finite."""
    if dtype == torch.bfloat16:
        return not bool((rounded.view(np.uint16) & np.uint16(0x7F80) == 0x7F80).any())
    return bool(np.isfinite(np.asarray(rounded, rounded.dtype)).all())


def _nearest_single(quotient: Quotient) -> Singles:
    """Only a float64 in the very middle of two float32 needs to know which side it is short of."""
    nearest = quotient.nearest
    rounded = nearest.astype(np.float32)
    middle = (nearest.view(np.int64) & 0x1FFFFFFF) == 0x10000000
    at = np.flatnonzero(middle | (np.abs(nearest) < _SMALLEST_NORMAL_SINGLE))
    if at.size:
        rounded[at] = _doubles_to_odd(nearest[at], quotient.sign(at)).astype(np.float32)
    return rounded


def _odd_single(quotient: Quotient, doubtful: Callable[[Singles], Indices]) -> Singles:
    """float32 on the way to less: to nearest, to odd where the next rounding may depend on it."""
    rounded = quotient.nearest.astype(np.float32)
    at = doubtful(rounded)
    if at.size:
        exact = _doubles_to_odd(quotient.nearest[at], quotient.sign(at))
        rounded[at] = _singles_to_odd(exact)
    return rounded


def _middle_of_bfloat16(values: Singles) -> Indices:
    return np.flatnonzero((values.view(np.uint32) & np.uint32(0xFFFF)) == 0x8000)


def _near_middle_of_half(values: Singles) -> Indices:
    middle = (values.view(np.uint32) & np.uint32(0x1FFF)) == 0x1000
    return np.flatnonzero(middle | (np.abs(values) < _SMALLEST_NORMAL_HALF))


def _doubles_to_odd(nearest: Doubles, sign: Doubles) -> Doubles:
    """Where `nearest` is not exact and even, its neighbour towards the true value."""
    bits = nearest.view(np.int64)
    towards = np.where(np.signbit(nearest), -sign, sign).astype(np.int64)
    towards[(bits & 1) == 1] = 0
    return np.asarray((bits + towards).view(np.float64))


def _singles_to_odd(values: Doubles) -> Singles:
    """Round float64 to odd float32."""
    nearest = values.astype(np.float32)
    short = np.sign(values - nearest)
    nearest = np.where(nearest == 0, np.copysign(np.float32(0), values), nearest).astype(np.float32)
    bits = nearest.view(np.int32)
    towards = np.where(np.signbit(nearest), -short, short).astype(np.int32)
    towards[(bits & 1) == 1] = 0
    return np.asarray((bits + towards).view(np.float32))
