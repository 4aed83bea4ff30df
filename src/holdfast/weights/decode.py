"""Stored bytes of floating tensors as arrays that can be summed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from holdfast.weights.exact import Floats

FRACTION_BITS: dict[torch.dtype, int] = {
    torch.float64: 52,
    torch.float32: 23,
    torch.float16: 10,
    torch.bfloat16: 7,
}
"""Real dtypes that are averaged, with the bits after their leading one."""

_PARTS = {
    torch.complex128: torch.float64,
    torch.complex64: torch.float32,
    torch.complex32: torch.float16,
}


def real_dtype(dtype: torch.dtype) -> torch.dtype | None:
    """The real dtype of a floating tensor's numbers (of its parts, if complex); None for others.

    float8 and narrower count as quantised: they are scaled by tensors of their own.
    """
    dtype = _PARTS.get(dtype, dtype)
    return dtype if dtype in FRACTION_BITS else None


def decode(data: npt.NDArray[np.uint8], dtype: torch.dtype) -> Floats:
    """Bytes of a real dtype as float32, or float64 for float64; exact. Complex parts alternate."""
    if dtype == torch.float64:
        return data.view(np.float64)
    if dtype == torch.float32:
        return data.view(np.float32)
    if dtype == torch.float16:
        return data.view(np.float16).astype(np.float32)
    if dtype == torch.bfloat16:
        wide = data.view(np.uint16).astype(np.uint32) << np.uint32(16)
        return np.asarray(wide.view(np.float32))
    raise ValueError(f"{dtype} is not a dtype that is averaged")
