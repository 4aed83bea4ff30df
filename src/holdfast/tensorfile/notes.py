"""What safetensors cannot say of a tensor: its raw dtype, and how its dimensions lie in memory.

A note is a small JSON object, kept in `state.json` beside the file:

    dtype   torch dtype name, only for dtypes stored raw (see `dtypes`)
    order   dimensions from outermost to innermost in memory, only for dense tensors whose memory is
            not row-major (channels-last: [0, 2, 3, 1]); the file itself is always row-major
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from holdfast.errors import FormatError
from holdfast.jsontext import Json
from holdfast.tensorfile.dtypes import dtype_name, raw_dtype, torch_dtype
from holdfast.tensorfile.spec import TensorSpec


def describe(tensor: Tensor) -> dict[str, Json]:
    """Return the note of `tensor`; empty for most. Views with gaps or overlaps get no order."""
    note: dict[str, Json] = {}
    if dtype_name(tensor.dtype).raw:
        note["dtype"] = str(tensor.dtype).removeprefix("torch.")
    # The strides of a contiguous tensor are free only where a size is 0 or 1.
    shape = tensor.shape
    usual = tensor.is_contiguous() and 1 not in shape and 0 not in shape
    if not usual and (not tensor.is_contiguous() or tensor.stride() != _row_major(shape)):
        order = _memory_order(tensor)
        if order is not None:
            note["order"] = order
    return note


def allocate(
    spec: TensorSpec,
    note: Mapping[str, Json] | None = None,
    device: torch.device | str = "cpu",
    *,
    where: str = "",
) -> Tensor:
    """Return an uninitialised tensor with the dtype, shape and memory order that was saved.

    Raises FormatError if the note does not fit the spec.
    """
    note = note or {}
    unknown = sorted(set(note) - {"dtype", "order"})
    if unknown:
        raise FormatError(f"Unknown tensor note {unknown[0][:40]!r}", where=where)
    dtype, shape = _dtype_and_shape(spec, note.get("dtype"), where)
    order = _checked_order(note.get("order"), len(shape), where)
    if dtype.is_complex and spec.shape != shape:
        parts = torch_dtype(spec.dtype, where=where)
        pairs = torch.empty_permuted(spec.shape, (*order, len(shape)), dtype=parts, device=device)
        return torch.view_as_complex(pairs)
    return torch.empty_permuted(shape, order, dtype=dtype, device=device)


def _dtype_and_shape(
    spec: TensorSpec, name: Json, where: str
) -> tuple[torch.dtype, tuple[int, ...]]:
    if name is None:
        return torch_dtype(spec.dtype, where=where), spec.shape
    if not isinstance(name, str):
        raise FormatError("The dtype note of a tensor must be text", where=where)
    dtype, stored = raw_dtype(name, where=where)
    rank = len(spec.shape) - len(stored.trailing)
    if spec.dtype != stored.name or rank < 0 or spec.shape[rank:] != stored.trailing:
        raise FormatError(
            f"A tensor noted as {name} must be stored as {stored.name} of shape "
            f"[..., {', '.join(map(str, stored.trailing))}], found {spec.dtype} {spec.shape}",
            where=where,
        )
    return dtype, spec.shape[:rank]


def _checked_order(order: Json, rank: int, where: str) -> tuple[int, ...]:
    if order is None:
        return tuple(range(rank))
    if (
        not isinstance(order, Sequence)
        or isinstance(order, str)
        or len(order) != rank
        or not all(type(dim) is int for dim in order)
        or sorted(order) != list(range(rank))  # type: ignore[type-var]
    ):
        raise FormatError(
            f"The order note of a tensor must list each of its {rank} dimensions once", where=where
        )
    return tuple(order)  # type: ignore[arg-type]


def _memory_order(tensor: Tensor) -> list[int] | None:
    """Dimensions from outermost to innermost if the tensor is dense but not row-major, else None.

    Where strides are equal, dimensions of size one come innermost, as torch itself lays them out.
    """
    if tensor.numel() == 0 or tensor.is_conj() or tensor.is_neg():
        return None
    shape, strides = tensor.shape, tensor.stride()
    order = sorted(range(tensor.dim()), key=lambda dim: (-strides[dim], shape[dim] == 1, dim))
    dense = _row_major([shape[dim] for dim in order])
    matches = all(
        shape[dim] == 1 or strides[dim] == stride for dim, stride in zip(order, dense, strict=True)
    )
    return order if matches and order != sorted(order) else None


def _row_major(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(max(prod(shape[dim + 1 :]), 1) for dim in range(len(shape)))
