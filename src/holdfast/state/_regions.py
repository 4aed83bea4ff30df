"""Which tensors are the same memory, and which may be saved at all."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from holdfast.errors import UnsavableError
from holdfast.state.sharded import is_sharded, shard_identity

Region: TypeAlias = "tuple[object, ...]"


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


def has_memory(tensor: Tensor) -> bool:
    """Whether the tensor is elements in dense memory, at least one."""
    return _unsavable(tensor) is None and tensor.numel() > 0


def check_savable(tensor: Tensor, where: str) -> None:
    """Raise UnsavableError for a tensor that has no dense memory of its own to be saved."""
    reason = _unsavable(tensor)
    if reason is not None:
        what, fix = reason
        raise UnsavableError(f"The tensor is {what}, which cannot be saved", where=where, fix=fix)


def _unsavable(tensor: Tensor) -> tuple[str, str] | None:
    usual = type(tensor) is Tensor or type(tensor) is nn.Parameter
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
    return tensor.detach().resolve_conj().resolve_neg()
