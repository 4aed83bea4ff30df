"""numpy arrays: small ones inline, larger ones offered to the caller to be stored as tensors."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from holdfast.codec._encode import INT_MAX
from holdfast.codec._numpy_scalars import CLOCK_UNIT
from holdfast.codec._payload import (
    bytes_of_text,
    text_of_bytes,
    want_fields,
    want_int,
    want_list,
    want_str,
)
from holdfast.codec._tag import DecodeChild, EncodeChild, Tag
from holdfast.errors import UnsavableError
from holdfast.jsontext import Json

INLINE_MAX_BYTES = 16 << 10

_DIMENSIONS_MAX = 64
_UNICODE_MAX = 0x10FFFF
_DTYPE = re.compile(
    r"\|(?:b1|[iu]1|S[1-9]\d{0,8})"
    r"|[<>](?:[iu][248]|f[248]|c(?:8|16)|U[1-9]\d{0,8}|[Mm]8" + CLOCK_UNIT + ")",
    re.ASCII,
)


def _encode_array(value: np.ndarray[Any, Any], child: EncodeChild) -> Json:
    """dtype in numpy's own notation, shape, memory order, and the elements in that order."""
    _check_dtype(value.dtype)
    fortran = value.flags.f_contiguous and not value.flags.c_contiguous
    plain = value.T if fortran else value
    if value.dtype.kind == "b":
        # A view of other bytes may hold trues that are not 1, which no reader should see.
        plain = np.ascontiguousarray(plain).view(np.uint8) != 0
        plain = plain.reshape(value.T.shape if fortran else value.shape)
    data: Json
    if value.nbytes <= INLINE_MAX_BYTES:
        data = text_of_bytes(plain.tobytes())
    else:
        data = child.reference(_storable(plain))
    return {
        "dtype": value.dtype.str,
        "shape": list(value.shape),
        "order": "F" if fortran else "C",
        "data": data,
    }


def _decode_array(payload: Json, child: DecodeChild) -> Any:
    fields = want_fields(payload, "dtype", "shape", "order", "data")
    dtype = _dtype_of(fields["dtype"])
    shape = _shape_of(fields["shape"])
    order = fields["order"]
    if order not in ("C", "F"):
        raise ValueError('its order is neither "C" nor "F"')
    stored_shape = shape[::-1] if order == "F" else shape
    data = fields["data"]
    if type(data) is dict and data.get("$") == "tensor":
        found = child(data)
        if not hasattr(found, "__array__"):
            return found
        array = _restored(np.asarray(found), dtype, stored_shape)
    else:
        array = _inline(bytes_of_text(data), dtype, stored_shape)
    _check_elements(array)
    return array.T if order == "F" else array


def _check_dtype(dtype: np.dtype[Any]) -> None:
    if dtype.kind == "O":
        what, fix = "of objects", "convert it to a list, or to an array of numbers"
    elif dtype.kind == "V":
        what, fix = "with a structured dtype", "save one array per field, for example in a dict"
    elif dtype.char in "gG":
        what, fix = f"of {dtype.name}", "convert it with .astype(numpy.float64) or complex128"
    elif not _DTYPE.fullmatch(dtype.str):
        what, fix = f"of dtype {dtype}", "convert it to a list, or to an array of numbers"
    else:
        return
    raise UnsavableError(f"A numpy array {what} cannot be saved", fix=fix)


def _storable(plain: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What a tensor library can take without a copy: C order, native, writable, plain numbers."""
    plain = np.require(plain, requirements=["C", "A", "W"])
    if plain.dtype.kind in "biufc" and plain.dtype.isnative:
        return plain
    return plain.reshape(-1).view(np.uint8)


def _restored(
    found: np.ndarray[Any, Any], dtype: np.dtype[Any], shape: tuple[int, ...]
) -> np.ndarray[Any, Any]:
    """The inverse of `_storable`, for what the caller stored as a tensor and gave back."""
    if found.dtype == dtype and found.shape == shape:
        return np.require(found, requirements=["C", "A", "W"])
    size_bytes = dtype.itemsize * math.prod(shape)
    if found.dtype != np.uint8 or found.shape != (size_bytes,) or size_bytes == 0:
        raise ValueError(
            f"the tensor it refers to has dtype {found.dtype} and shape {found.shape}, "
            f"not {dtype} and {shape}"
        )
    return np.require(found, requirements=["C", "A", "W"]).view(dtype).reshape(shape)


def _inline(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    size_bytes = dtype.itemsize * math.prod(shape)
    if len(data) != size_bytes:
        raise ValueError(f"{len(data)} bytes of data do not fill {dtype} of shape {shape}")
    array: np.ndarray[Any, Any] = np.empty(shape, dtype)
    if size_bytes:
        array[...] = np.frombuffer(data, dtype).reshape(shape)
    return array


def _dtype_of(payload: Json) -> np.dtype[Any]:
    text = want_str(payload)
    if not _DTYPE.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no dtype that arrays are saved with")
    return np.dtype(text)


def _shape_of(payload: Json) -> tuple[int, ...]:
    sizes = want_list(payload)
    if len(sizes) > _DIMENSIONS_MAX:
        raise ValueError(f"it has over {_DIMENSIONS_MAX} dimensions")
    if not all(0 <= want_int(size) <= INT_MAX for size in sizes):
        raise ValueError("a size in its shape is negative or too large")
    return tuple(sizes)


def _check_elements(array: np.ndarray[Any, Any]) -> None:
    """Refuse bytes that are no value of their dtype, on which numpy would fail or differ later."""
    kind = array.dtype.kind
    if array.size == 0 or kind not in "bU":
        return
    if kind == "b":
        bad = bool((array.view(np.uint8) > 1).any())
    else:
        points = array.reshape(-1).view(np.dtype("u4").newbyteorder(array.dtype.byteorder))
        bad = bool((points > _UNICODE_MAX).any())
    if bad:
        raise ValueError("its data holds bytes that are no value of its dtype")


ARRAY_TAGS = (Tag("ndarray", np.ndarray, _encode_array, _decode_array),)
