"""Digests of any Python value that state may be made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.digest import Hasher

_DEPTH_MAX = 40


def value_digest(value: Any) -> str:
    """Equal for values that are equal bit for bit, tensors included."""
    hasher = Hasher()
    _feed(hasher, value, 0)
    return hasher.text()


def tensor_bytes(tensor: Tensor) -> Any:
    """The elements in row-major order, on the CPU: a buffer of bytes."""
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    return plain.reshape(-1).view(torch.uint8).numpy()


def _feed(hasher: Hasher, value: Any, depth: int) -> None:
    if depth > _DEPTH_MAX:
        return
    if isinstance(value, Tensor):
        hasher.update(f"tensor {value.dtype} {tuple(value.shape)}:".encode())
        if value.numel() and not value.is_meta:
            hasher.update(tensor_bytes(value))
    elif isinstance(value, np.ndarray):
        hasher.update(f"array {value.dtype} {value.shape}:".encode())
        hasher.update(value.tobytes() if value.dtype != object else repr(value.tolist()).encode())
    elif isinstance(value, Mapping):
        hasher.update(f"dict {len(value)}:".encode())
        for key, child in value.items():
            _feed(hasher, key, depth + 1)
            _feed(hasher, child, depth + 1)
    elif isinstance(value, (list, tuple)):
        hasher.update(f"{type(value).__name__} {len(value)}:".encode())
        for child in value:
            _feed(hasher, child, depth + 1)
    elif isinstance(value, (int, float, complex, str, bytes, bool, type(None))):
        hasher.update(f"{type(value).__name__} {value!r};".encode("utf-8", "backslashreplace"))
    elif isinstance(value, (set, frozenset)):
        _feed(hasher, sorted(map(repr, value)), depth + 1)
    else:
        # An address would differ from process to process.
        hasher.update(f"object {type(value).__qualname__};".encode())
