"""Why a tensor cannot be saved, if it cannot: decided before a byte is written."""

from __future__ import annotations

import torch

from holdfast.tensorfile.dtypes import STORED

MAX_RANK = 64

_PLAIN_TYPES = frozenset({torch.Tensor, torch.nn.Parameter, torch.nn.Buffer})


def refusal(tensor: object) -> str | None:
    """Say in a few words why `tensor` has no bytes of its own to save; None if it can be saved."""
    if not isinstance(tensor, torch.Tensor):
        return f"it is a {type(tensor).__name__}, not a tensor"
    if type(tensor) not in _PLAIN_TYPES:
        reason = _subclass_refusal(tensor)
        if reason:
            return reason
    elif _has_plain_memory(tensor):
        return None
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return "it is wrapped by a functorch transform (vmap, grad): save outside the transform"
    if tensor.is_nested:
        return "it is a nested tensor: save its values and offsets, or its padded form"
    if tensor.layout is not torch.strided:
        return _layout_refusal(tensor.layout)
    if tensor.is_meta:
        return "it is on the meta device and has no values"
    if tensor.dtype not in STORED:
        return _dtype_refusal(tensor)
    if tensor.dim() > MAX_RANK:
        return f"it has {tensor.dim()} dimensions, the limit is {MAX_RANK}"
    if not _storage_holds(tensor):
        return "its storage is smaller than its shape says (freed or resized, as FSDP does)"
    return None


def _has_plain_memory(tensor: torch.Tensor) -> bool:
    """Whether it is, seen at a glance, what nearly every tensor is: contiguous on the CPU."""
    return (
        tensor.layout is torch.strided
        and tensor.is_cpu
        and tensor.dtype in STORED
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        and not tensor.is_nested
        and tensor.is_contiguous()
        and tensor.dim() <= MAX_RANK
        and tensor.storage_offset() * tensor.itemsize + tensor.nbytes
        <= tensor.untyped_storage().nbytes()
    )


def _subclass_refusal(tensor: torch.Tensor) -> str | None:
    kind = type(tensor)
    if torch.nn.parameter.is_lazy(tensor):
        return f"it is an {kind.__name__}: run the lazy module once before saving"
    if kind.__torch_dispatch__ is not torch._C._disabled_torch_dispatch_impl:
        return (
            f"it is a {kind.__module__}.{kind.__qualname__}, a subclass that keeps its values "
            "elsewhere: save its parts, its local tensor or its plain form"
        )
    return None


def _layout_refusal(layout: torch.layout) -> str:
    if layout is torch._mkldnn:  # type: ignore[attr-defined]
        return "it has the opaque mkldnn layout: call .to_dense() first"
    return f"its layout is {layout}: save .to_dense(), or its indices and values as plain tensors"


def _dtype_refusal(tensor: torch.Tensor) -> str:
    if tensor.is_quantized:
        return (
            f"it is quantised ({tensor.dtype}): save .int_repr() with its scale and zero point, "
            "or .dequantize()"
        )
    return f"{tensor.dtype} has no representation of its own: save its integer view"


def _storage_holds(tensor: torch.Tensor) -> bool:
    """Whether the storage still has every byte the shape and strides reach."""
    count = tensor.numel()
    if count == 0:
        return True
    if tensor.is_contiguous():
        last = count - 1
    else:
        last = sum(
            (size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
        )
    reach = (tensor.storage_offset() + last + 1) * tensor.itemsize
    return reach <= tensor.untyped_storage().nbytes()
