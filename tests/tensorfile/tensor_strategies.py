"""Tensors of every dtype and layout, for property tests."""

from __future__ import annotations

import math
import warnings

import torch
from hypothesis import strategies as st
from torch import Tensor

from holdfast.tensorfile.dtypes import STORED

DTYPES = list(STORED)
DTYPE_IDS = [str(dtype).removeprefix("torch.") for dtype in DTYPES]
LAYOUTS = ["plain", "transposed", "strided", "offset", "expanded", "permuted", "scalar", "empty"]
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def filled(dtype: torch.dtype, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """A tensor of random bits, so that NaNs with payloads, infinities and subnormals occur."""
    generator = torch.Generator().manual_seed(seed)
    count = math.prod(shape) * dtype.itemsize
    raw = torch.randint(0, 256, (count,), dtype=torch.uint8, generator=generator)
    if dtype is torch.bool:
        raw &= 1
    with warnings.catch_warnings():
        # torch warns of complex32 being experimental.
        warnings.simplefilter("ignore", UserWarning)
        return raw.view(dtype).view(shape)


def laid_out(dtype: torch.dtype, layout: str, seed: int = 0) -> Tensor:
    """A tensor of the given dtype whose memory is laid out in the given way."""
    if layout == "scalar":
        return filled(dtype, (1,), seed)[0]
    if layout == "empty":
        return filled(dtype, (3, 0, 2), seed)
    whole = filled(dtype, (4, 3, 6, 2), seed)
    views = {
        "plain": whole,
        "transposed": whole.transpose(0, 2),
        "strided": whole[::2, :, 1::2],
        "offset": whole[1:, 1],
        "expanded": whole[:1].expand(5, 3, 6, 2),
        "permuted": whole.permute(3, 0, 2, 1),
    }
    return views[layout]


def bits(tensor: Tensor) -> bytes:
    """The tensor's values as bytes in row-major order, found without the code under test."""
    if tensor.dtype.is_complex:
        tensor = torch.view_as_real(tensor)
    plain = tensor.view(_INTEGERS[tensor.itemsize]).clone(memory_format=torch.contiguous_format)
    return bytes(plain.reshape(-1).view(torch.uint8).numpy())


any_tensor = st.builds(
    laid_out, st.sampled_from(DTYPES), st.sampled_from(LAYOUTS), st.integers(0, 1000)
)

file_name_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name != "__metadata__"
)

named_tensors = st.dictionaries(file_name_text, any_tensor, max_size=8)
