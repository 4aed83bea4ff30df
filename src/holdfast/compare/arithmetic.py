"""Comparing the bytes of two tensors piece by piece, in float64. Without torch.

Pieces are small enough that every pass but the first finds them in the processor's cache. Sums of
squares are taken in float64 within a piece and correctly rounded over pieces.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from holdfast.compare.records import Numbers, total
from holdfast.compare.stored import Stored
from holdfast.digest import Hasher
from holdfast.errors import DamagedError
from holdfast.tensorfile.spec import ITEM_BYTES

Floats = npt.NDArray[np.float64]
Raw = npt.NDArray[Any]
Advance = Callable[[int], None]

READ_BYTES = 4 << 20
_PIECE = 1 << 17
_INTEGERS = {
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "u1",
}
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "C64": "<f4"}
# Exponent bits, mantissa bits, bias, and whether it has infinities (else only NaN).
_EIGHT_BITS = {
    "F8_E4M3": (4, 3, 7, "finite"),
    "F8_E4M3FNUZ": (4, 3, 8, "unsigned_zero"),
    "F8_E5M2": (5, 2, 15, "ieee"),
    "F8_E5M2FNUZ": (5, 2, 16, "unsigned_zero"),
}


class Comparer:
    """Compares pairs of tensors one after another; its buffers are used again for each.

    tolerance: elements that differ by no more than this count as the same. Takes about 25 MiB.
    """

    def __init__(self, tolerance: float = 0.0, advance: Advance | None = None) -> None:
        self._tolerance = tolerance
        self._advance = advance or (lambda count: None)
        self._bytes = [bytearray(READ_BYTES), bytearray(READ_BYTES)]
        self._floats = [np.empty(_PIECE) for _ in range(3)]
        self._flags = np.empty(_PIECE, bool)

    def compare(self, left: Stored, right: Stored) -> Numbers:
        """Both tensors have the same number of elements. Raises DamagedError if a digest fails."""
        width = (_item_bytes(left), _item_bytes(right))
        step = min(READ_BYTES // max(width), READ_BYTES)
        hashers = [None if side.digest is None else Hasher() for side in (left, right)]
        count = left.nbytes // width[0]
        pieces = []
        for begin in range(0, count, step):
            number = min(step, count - begin)
            arrays = []
            for i, side in enumerate((left, right)):
                view = memoryview(self._bytes[i])[: number * width[i]]
                side.read(begin * width[i], view)
                hasher = hashers[i]
                if hasher is not None:
                    hasher.update(view)
                self._advance(len(view))
                arrays.append(np.frombuffer(view, _storage_type(side.raw)))
            for at in range(0, number, _PIECE):
                piece = (arrays[0][at : at + _PIECE], arrays[1][at : at + _PIECE])
                pieces.append(self._piece(*piece, left.raw, right.raw))
        for side, hasher in zip((left, right), hashers, strict=True):
            if hasher is not None and hasher.raw() != side.digest:
                raise DamagedError(
                    "The bytes of the tensor are not what was committed",
                    where=side.where,
                    fix="holdfast verify lists all damage",
                )
        return total(pieces)

    def _piece(self, left: Raw, right: Raw, left_raw: str, right_raw: str) -> Numbers:
        count = len(left)
        flags = self._flags[:count]
        a, b, d = (buffer[:count] for buffer in self._floats)
        as_floats(left, left_raw, a)
        if left_raw == right_raw:
            kind = np.dtype(f"u{left.dtype.itemsize}")
            np.not_equal(left.view(kind), right.view(kind), out=flags)
            changed = int(np.count_nonzero(flags))
            if changed == 0:
                return _of_equal(a, count)
            as_floats(right, right_raw, b)
        else:
            as_floats(right, right_raw, b)
            np.not_equal(a, b, out=flags)
            flags &= ~(np.isnan(a) & np.isnan(b))
            changed = int(np.count_nonzero(flags))
        with np.errstate(all="ignore"):
            np.subtract(b, a, out=d)
            if self._tolerance > 0:
                changed = int(np.count_nonzero(flags & ~(np.abs(d) <= self._tolerance)))
            squares = _squares(d)
            if math.isfinite(squares):
                high = max(float(d.max()), -float(d.min()))
                return Numbers(count, changed, _squares(a), _squares(b), squares, high)
        return _with_gaps(a, b, count, changed)


def as_floats(values: Raw, raw: str, out: Floats) -> None:
    """The values of a safetensors dtype as float64."""
    if raw == "BF16":
        wide = values.astype(np.uint32)
        np.left_shift(wide, 16, out=wide)
        np.copyto(out, wide.view(np.float32))
    elif raw in _EIGHT_BITS:
        np.take(_table(raw), values, out=out)
    else:
        np.copyto(out, values, casting="unsafe")


def _storage_type(raw: str) -> str:
    """The numpy type of the bytes; 16 and 8 bit floats that numpy lacks as integers."""
    return _FLOATS.get(raw) or _INTEGERS.get(raw) or ("<u2" if raw == "BF16" else "u1")


def _item_bytes(side: Stored) -> int:
    """Bytes of one number; complex ones are two."""
    return 4 if side.raw == "C64" else ITEM_BYTES[side.raw]


_tables: dict[str, Floats] = {}


def _table(raw: str) -> Floats:
    """The value of each of the 256 codes of an 8-bit float."""
    if raw not in _tables:
        _tables[raw] = np.array([_decoded(code, *_EIGHT_BITS[raw]) for code in range(256)])
    return _tables[raw]


def _decoded(code: int, exponent_bits: int, mantissa_bits: int, bias: int, form: str) -> float:
    sign = -1.0 if code & 0x80 else 1.0
    exponent = (code >> mantissa_bits) & ((1 << exponent_bits) - 1)
    mantissa = code & ((1 << mantissa_bits) - 1)
    top = exponent == (1 << exponent_bits) - 1
    if form == "unsigned_zero" and code == 0x80:
        return math.nan
    if form == "ieee" and top:
        return sign * math.inf if mantissa == 0 else math.nan
    if form == "finite" and top and mantissa == (1 << mantissa_bits) - 1:
        return math.nan
    if exponent == 0:
        return sign * math.ldexp(mantissa, 1 - bias - mantissa_bits)
    return sign * math.ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits)


def _squares(values: Floats) -> float:
    return float(np.einsum("i,i->", values, values))


def _of_equal(values: Floats, count: int) -> Numbers:
    """Equal bits on both sides."""
    with np.errstate(all="ignore"):
        squares = _squares(values)
        if math.isfinite(squares):
            return Numbers(count, 0, squares, squares)
    return _with_gaps(values, values, count, 0)


def _with_gaps(left: Floats, right: Floats, count: int, changed: int) -> Numbers:
    """Sums over what is finite on both sides, and counts of what is not."""
    finite = np.isfinite(left) & np.isfinite(right)
    with np.errstate(all="ignore"):
        a, b = left[finite], right[finite]
        d = b - a
        return Numbers(
            count,
            changed,
            _squares(a),
            _squares(b),
            _squares(d),
            float(np.abs(d).max()) if len(d) else 0.0,
            int(np.count_nonzero(np.isnan(left))),
            int(np.count_nonzero(np.isnan(right))),
            int(np.count_nonzero(np.isinf(left))),
            int(np.count_nonzero(np.isinf(right))),
        )
