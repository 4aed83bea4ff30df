"""Which safetensors dtype stores each torch dtype.

Most torch dtypes have a safetensors name that the stock reader (safetensors.torch 0.8) knows. Those
it does not know are stored raw: the same bytes under a dtype every reader has, with a note of the
torch dtype kept beside the file (see `notes`). Raw complex numbers gain a last dimension of 2,
real and imaginary part, as `torch.view_as_real` gives it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from holdfast.errors import FormatError, UnsavableError


@dataclass(frozen=True, slots=True)
class StoredAs:
    """How one torch dtype is written: safetensors name, extra last dimensions, raw or not."""

    name: str
    trailing: tuple[int, ...] = ()
    raw: bool = False


_NATIVE: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}

_RAW: dict[str, StoredAs] = {
    "complex128": StoredAs("F64", (2,), raw=True),
    "complex32": StoredAs("F16", (2,), raw=True),
    "float8_e8m0fnu": StoredAs("U8", raw=True),
    "float4_e2m1fn_x2": StoredAs("U8", raw=True),
}

ITEM_BYTES: dict[str, int] = {name: dtype.itemsize for name, dtype in _NATIVE.items()}
"""Bytes of one element, by safetensors dtype name: every name holdfast reads or writes."""

# Some raw dtypes are younger than the oldest torch supported.
_RAW_DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name) for name in _RAW if hasattr(torch, name)
}

STORED: dict[torch.dtype, StoredAs] = {
    **{dtype: StoredAs(name) for name, dtype in _NATIVE.items()},
    **{dtype: _RAW[name] for name, dtype in _RAW_DTYPES.items()},
}
"""Every torch dtype that can be saved, with how it is stored."""


def dtype_name(dtype: torch.dtype) -> StoredAs:
    """Say how `dtype` is stored. Raises UnsavableError for one without bytes of its own."""
    stored = STORED.get(dtype)
    if stored is None:
        raise UnsavableError(
            f"Tensors of {dtype} cannot be saved",
            fix="convert the tensor to a dtype safetensors knows, or save its integer view",
        )
    return stored


def torch_dtype(name: str, *, where: str) -> torch.dtype:
    """Return the torch dtype of a safetensors dtype name. Raises FormatError if unknown."""
    dtype = _NATIVE.get(name)
    if dtype is None:
        raise FormatError(f"Unknown tensor dtype {name[:40]!r}", where=where)
    return dtype


def raw_dtype(name: str, *, where: str) -> tuple[torch.dtype, StoredAs]:
    """Return the torch dtype a note names, and how it is stored.

    Raises FormatError for a name that is not one of the raw dtypes, or not of this torch version.
    """
    stored = _RAW.get(name)
    if stored is None:
        raise FormatError(f"Unknown dtype note {name[:40]!r}", where=where)
    dtype = _RAW_DTYPES.get(name)
    if dtype is None:
        raise FormatError(
            f"The tensor was saved as {name}, which torch {torch.__version__} does not have",
            where=where,
            fix="load it with a newer torch, or read its stored bytes with stock safetensors",
        )
    return dtype, stored
