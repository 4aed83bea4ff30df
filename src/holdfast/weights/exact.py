"""Weighted sums of floats without any rounding, and their quotient rounded once.

A float64 accumulator holds a sum of float32, float16 or bfloat16 values exactly as long as the
values span few enough binary orders; that is checked chunk by chunk from the largest and the
smallest value, and holds for nearly all real weights. Where it does not hold, the sum is kept as an
unevaluated sum of several float64 (Shewchuk, "Adaptive Precision Floating-Point Arithmetic",
1997; TwoSum is Knuth's), which grows until nothing is lost. So the result depends neither on the
order of the summands nor on how the work was divided.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from holdfast.weights.rounding import Quotient

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32] | npt.NDArray[np.float64]

_MAGNITUDE = np.uint32(0x7FFFFFFF)
_NOT_FINITE = 0x7F800000
_HALF_MASK = np.int64(-1) << np.int64(27)
_PART_BITS = 26
_PLAIN_WEIGHT_MAX = 1 << _PART_BITS
# One bit less than a float64 holds, so that the bounds themselves may be rounded.
_EXACT_RANGE = 2.0**52


class NotFiniteError(ArithmeticError):
    """A summand is NaN or infinite, or the sum is beyond float64."""


class Scratch:
    """Working memory for one sum at a time, used again and again so that it stays in cache."""

    def __init__(self, count: int) -> None:
        self.doubles: Doubles = np.empty(count)
        self.bits: npt.NDArray[np.uint32] = np.empty(count, np.uint32)


class ExactSum:
    """The sum of weight x value over sources, elementwise over one chunk, kept exactly.

    count: elements of the chunk. scratch: of at least as many, shared by sums that take turns.
    Weights are integers of at least 1.
    """

    def __init__(self, count: int, scratch: Scratch | None = None) -> None:
        scratch = scratch or Scratch(count)
        self._parts: list[Doubles] = [np.zeros(count)]
        self._empty = True
        self._scratch = scratch.doubles[:count]
        self._bits = scratch.bits[:count]
        self._bound = 0.0
        self._grain = math.inf

    def copy(self) -> ExactSum:
        """A sum that goes its own way from here."""
        twin = object.__new__(ExactSum)
        twin._parts = [part.copy() for part in self._parts]
        twin._scratch, twin._bits = self._scratch, self._bits
        twin._bound, twin._grain = self._bound, self._grain
        twin._empty = self._empty
        return twin

    def add(self, values: Floats, weight: int = 1, *, fraction_bits: int = 23) -> None:
        """Add weight x values. values: float32 or float64 [count].

        fraction_bits: how many bits after the leading one the values can have (23 for float32, 10
        for float16, 7 for bfloat16); fewer make the cheap way hold for more data.
        Raises NotFiniteError for NaN or infinity; the sum is of no use afterwards.
        """
        if values.dtype == np.float64:
            self._add_doubles(np.asarray(values, np.float64), weight)
            return
        self._widen_bounds(values, weight, fraction_bits)
        if self._empty and weight == 1:
            np.copyto(self._parts[0], values)
            self._empty = False
            return
        self._empty = False
        np.copyto(self._scratch, values)
        if len(self._parts) == 1 and self._bound <= _EXACT_RANGE * self._grain:
            if weight != 1:
                self._scratch *= weight
            self._parts[0] += self._scratch
            return
        for part in _weight_parts(weight):
            _absorb(self._parts, self._scratch * part)

    def quotient(self, divisor: int) -> Quotient:
        """The sum divided by `divisor` >= 1. Raises NotFiniteError if the sum is beyond float64."""
        if len(self._parts) > 1 or divisor >= _PLAIN_WEIGHT_MAX:
            nearest, sign = _long_quotient(self._parts, divisor)
            return Quotient(nearest, lambda at: sign[at])
        total = self._parts[0]
        if not np.isfinite(total).all():
            raise NotFiniteError
        nearest = total / divisor
        if divisor & (divisor - 1) == 0:
            return Quotient(nearest, lambda at: np.zeros(at.size))
        return Quotient(nearest, lambda at: _shortfall(total[at], nearest[at], divisor))

    def _widen_bounds(self, values: Floats, weight: int, fraction_bits: int) -> None:
        """Keep an upper bound of the sum of magnitudes and the lowest bit any summand may have."""
        np.bitwise_and(values.view(np.uint32), _MAGNITUDE, out=self._bits)
        largest = int(self._bits.max(initial=0))
        if largest >= _NOT_FINITE:
            raise NotFiniteError
        if largest == 0:
            return
        smallest = int(self._bits.min())
        if smallest == 0:
            # Zeros become the largest of all, so that the smallest other value is found.
            np.subtract(self._bits, np.uint32(1), out=self._bits)
            smallest = int(self._bits.min()) + 1
        exponent = max(smallest >> 23, 1) - 127
        lowest = max(exponent - fraction_bits, -149)
        self._grain = min(self._grain, 2.0**lowest)
        self._bound += weight * 2.0 ** (max(largest >> 23, 1) - 126)

    def _add_doubles(self, values: Doubles, weight: int) -> None:
        if not np.isfinite(values).all():
            raise NotFiniteError
        self._empty = False
        high = _upper_half(values)
        for part in _weight_parts(weight):
            _absorb(self._parts, high * part)
            _absorb(self._parts, (values - high) * part)


def _shortfall(total: Doubles, nearest: Doubles, divisor: int) -> Doubles:
    """Sign of total / divisor - nearest; every step is exact."""
    high = _upper_half(nearest)
    return np.sign((total - high * divisor) - (nearest - high) * divisor)


def _weight_parts(weight: int) -> list[float]:
    """The weight as a sum of floats of at most 26 bits each: times 27 bits they stay exact."""
    parts = []
    shift = 0
    while weight:
        part = weight & (_PLAIN_WEIGHT_MAX - 1)
        if part:
            parts.append(math.ldexp(part, shift))
        weight >>= _PART_BITS
        shift += _PART_BITS
    return parts


def _upper_half(values: Doubles) -> Doubles:
    """The values with the lower 27 of their 53 bits cleared."""
    return np.asarray(np.bitwise_and(values.view(np.int64), _HALF_MASK).view(np.float64))


def _two_sum(a: Doubles, b: Doubles) -> tuple[Doubles, Doubles]:
    """The rounded sum and its rounding error, exactly a + b together."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


def _absorb(parts: list[Doubles], term: Doubles) -> None:
    """Add a term to an unevaluated sum, which gets one part more if an error is left over."""
    with np.errstate(invalid="ignore", over="ignore"):
        for index, part in enumerate(parts):
            parts[index], term = _two_sum(part, term)
            if not np.isfinite(parts[index]).all():
                raise NotFiniteError
            if not term.any():
                return
    parts.append(term)


def _distilled(parts: list[Doubles]) -> list[Doubles]:
    """The same sum with parts that do not overlap, the largest first."""
    parts = list(parts)
    for _ in range(2 * len(parts) + 2):
        changed = False
        for index in range(len(parts) - 1, 0, -1):
            total, error = _two_sum(parts[index - 1], parts[index])
            changed = changed or not np.array_equal(total, parts[index - 1])
            parts[index - 1], parts[index] = total, error
        if not changed:
            break
    return parts


def _leading(parts: list[Doubles]) -> Doubles:
    """Per element, the largest part that is not zero: it has the sign of the sum."""
    found = np.zeros_like(parts[0])
    for part in _distilled(parts):
        found = np.where(found == 0, part, found)
    return found


def _remainder(parts: list[Doubles], result: Doubles, divisor: int) -> Doubles:
    """What is left of the sum after result x divisor is taken away; exact in its sign."""
    left = list(parts)
    high = _upper_half(result)
    for part in _weight_parts(divisor):
        _absorb(left, -high * part)
        _absorb(left, -(result - high) * part)
    return _leading(left)


def _long_quotient(parts: list[Doubles], divisor: int) -> tuple[Doubles, Doubles]:
    result: Doubles = _distilled(parts)[0] / float(divisor)
    # The first guess may be off by more than its last bit; one step of long division mends it.
    result = result + _remainder(parts, result, divisor) / float(divisor)
    return result, np.sign(_remainder(parts, result, divisor))
