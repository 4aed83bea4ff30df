"""Which tensors are the same memory, and which may be saved at all."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from holdfast.errors import UnsavableError
from holdfast.state.sharded import is_sharded, shard_identity

Region: TypeAlias = "tuple[object, ...]"

USUAL = frozenset({Tensor, nn.Parameter})


def region(tensor: Tensor) -> Region:
    """A key equal for two live tensors exactly if they are one memory region seen the same way.

    Same storage, offset, shape, stride and dtype; conjugated and negated views differ from their
    base. Tensors without data of their own in memory have no region: each gets its own key.
    """
    if is_sharded(tensor):
        return shard_identity(tensor)
    if not has_memory(tensor):
        return ("none", id(tensor))
    return (
        tensor.device,
        tensor.data_ptr(),
        tensor.shape,
        tensor.stride(),
        tensor.dtype,
        tensor.is_conj(),
        tensor.is_neg(),
    )


def region_keys(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Region], bool]:
    """A key by name for each of some live tensors, equal exactly where `region` would be.

    Few tensors share an address, and only those need the whole region compared. Also whether it
    is plain to see that no two regions, and no two elements of one tensor, share memory.
    """
    keys: dict[str, Region] = {}
    at: dict[int, list[str]] = {}
    spans: list[tuple[int, int]] = []
    apart = True
    for name, tensor in tensors.items():
        if not has_memory(tensor) or (type(tensor) not in USUAL and is_sharded(tensor)):
            keys[name] = region(tensor)
            continue
        address = tensor.data_ptr()
        keys[name] = (address,)
        if address in at:
            at[address].append(name)
            continue
        at[address] = [name]
        spans.append((address, address + tensor.nbytes))
        apart = apart and tensor.is_contiguous()
    for alike in at.values():
        if len(alike) > 1:
            whole = {name: region(tensors[name]) for name in alike}
            keys.update(whole)
            apart = apart and len(set(whole.values())) == 1
    spans.sort()
    return keys, apart and all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def has_memory(tensor: Tensor) -> bool:
    """Whether the tensor is elements in dense memory, at least one."""
    if type(tensor) in USUAL and tensor.layout is torch.strided:
        return not (tensor.is_meta or tensor.is_quantized) and tensor.numel() > 0
    return _unsavable(tensor) is None and tensor.numel() > 0


def check_savable(tensor: Tensor, where: str) -> None:
    """Raise UnsavableError for a tensor that has no dense memory of its own to be saved."""
    reason = _unsavable(tensor)
    if reason is not None:
        what, fix = reason
        raise UnsavableError(f"The tensor is {what}, which cannot be saved", where=where, fix=fix)


def _unsavable(tensor: Tensor) -> tuple[str, str] | None:
    usual = type(tensor) in USUAL
    if not usual and is_lazy(tensor):
        return "not initialised yet", "run one batch through the lazy module before saving"
    if tensor.is_meta:
        return "on the meta device", "give it memory first, for example with to_empty()"
    if tensor.layout is not torch.strided:
        return f"sparse ({tensor.layout})", "save its indices and values, or to_dense()"
    if tensor.is_quantized:
        return "quantised", "save int_repr() with its scale and zero point"
    if not usual and type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return (
            f"of the subclass {type(tensor).__name__} with memory of its own kind",
            "save the plain tensors it is made of",
        )
    return None


def plain(tensor: Tensor) -> Tensor:
    """The tensor without gradient, conjugation or negation; a view unless one had to be undone."""
    view = tensor.detach()
    return view.resolve_conj().resolve_neg() if view.is_conj() or view.is_neg() else view
