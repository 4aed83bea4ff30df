"""Tensors give their bytes exactly, in row-major order and bounded pieces."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensor_strategies import DTYPE_IDS, DTYPES, LAYOUTS, any_tensor, bits, filled, laid_out
from torch import Tensor

from holdfast.tensorfile import byte_chunks, byte_view, is_zero_copy


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)
def test_every_dtype_in_every_layout(dtype: torch.dtype, layout: str) -> None:
    """The bytes of any tensor are those of its row-major copy."""
    tensor = laid_out(dtype, layout)
    assert b"".join(byte_chunks(tensor, 64)) == bits(tensor)
    if is_zero_copy(tensor):
        assert bytes(byte_view(tensor)) == bits(tensor)


@given(any_tensor, st.integers(16, 400))
def test_pieces_are_bounded(tensor: Tensor, max_bytes: int) -> None:
    """No piece is larger than asked, and together they are the tensor."""
    chunks = list(byte_chunks(tensor, max_bytes))
    assert all(0 < len(chunk) <= max_bytes for chunk in chunks)
    assert b"".join(chunks) == bits(tensor)


@pytest.mark.parametrize("dtype", [torch.complex32, torch.complex64, torch.complex128], ids=str)
def test_lazily_conjugated_and_negated_views(dtype: torch.dtype) -> None:
    """Views whose sign is only a mark on the tensor give the values they stand for."""
    tensor = filled(dtype, (5, 4))
    parts = torch.view_as_real(tensor).nan_to_num()
    tensor = torch.view_as_complex(parts)
    flipped = torch.stack([parts[..., 0], -parts[..., 1]], dim=-1)
    assert tensor.conj().is_conj()
    assert b"".join(byte_chunks(tensor.conj().t(), 32)) == bits(flipped.transpose(0, 1))
    negated = tensor.conj().imag
    assert negated.is_neg()
    assert b"".join(byte_chunks(negated, 32)) == bits(-parts[..., 1])


def test_plain_tensors_are_not_copied() -> None:
    """The byte view is the tensor's memory: writing to one is seen in the other."""
    tensor = torch.nn.Parameter(torch.zeros(2))
    byte_view(tensor)[:4] = b"\x00\x00\x80\x3f"
    assert tensor.tolist() == [1.0, 0.0]


def test_a_single_element_of_any_stride() -> None:
    """One element cut out of a larger tensor is contiguous whatever stride it is left with."""
    tensor = torch.arange(10, dtype=torch.int32)[4:6:3]
    assert tensor.is_contiguous()
    assert tensor.stride() == (3,)
    assert bytes(byte_view(tensor)) == bits(torch.tensor([4], dtype=torch.int32))


def test_the_view_keeps_the_memory_alive() -> None:
    """The bytes outlive the tensor they were taken from."""
    view = byte_view(torch.full((1000,), 7, dtype=torch.uint8))
    assert bytes(view) == bytes([7]) * 1000


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tensors_on_a_gpu(layout: str) -> None:
    """A tensor on a CUDA device gives the same bytes as on the host."""
    for dtype in DTYPES:
        tensor = laid_out(dtype, layout)
        assert b"".join(byte_chunks(tensor.cuda(), 64)) == bits(tensor)
