"""What safetensors cannot say of a tensor is noted, and allocation follows the note."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensor_strategies import DTYPE_IDS, DTYPES, filled
from torch import Tensor

from holdfast.errors import FormatError
from holdfast.tensorfile import TensorSpec, allocate, describe, plan_file

IMAGE = torch.zeros(2, 3, 4, 5)


def reallocated(tensor: Tensor) -> Tensor:
    """A tensor allocated from what is stored about the given one, through JSON."""
    note = json.loads(json.dumps(describe(tensor)))
    return allocate(plan_file({"t": tensor}, {}).specs["t"], note)


@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPE_IDS)
def test_dtype_and_shape_come_back(dtype: torch.dtype) -> None:
    """Every dtype comes back, also those stored under another name, in every rank."""
    for shape in [(), (3,), (2, 0), (2, 3, 4)]:
        tensor = filled(dtype, shape)
        again = reallocated(tensor)
        assert (again.dtype, again.shape) == (tensor.dtype, tensor.shape)
        assert again.is_contiguous()


@given(st.permutations(range(4)), st.lists(st.integers(1, 4), min_size=4, max_size=4).map(tuple))
def test_dense_layouts_come_back(order: list[int], shape: tuple[int, ...]) -> None:
    """A dense tensor gets back the strides it had, whatever the order of its dimensions."""
    tensor = torch.empty_permuted(shape, order)
    again = reallocated(tensor)
    wide = [dim for dim in range(4) if shape[dim] > 1]
    assert [again.stride()[dim] for dim in wide] == [tensor.stride()[dim] for dim in wide]


@pytest.mark.parametrize(
    ("tensor", "note"),
    [
        (IMAGE, {}),
        (IMAGE.to(memory_format=torch.channels_last), {"order": [0, 2, 3, 1]}),
        (torch.zeros(4, 8, 1, 1).to(memory_format=torch.channels_last), {"order": [0, 2, 3, 1]}),
        (torch.zeros(2, 3).t(), {"order": [1, 0]}),
        (torch.zeros(4, 6)[:, ::2], {}),
        (torch.zeros(1, 3).expand(4, 3), {}),
        (torch.zeros(2, 2, dtype=torch.complex64).conj().t(), {}),
        (torch.zeros(2, dtype=torch.complex128), {"dtype": "complex128"}),
        (torch.zeros(()), {}),
    ],
)
def test_only_what_is_unusual_is_noted(tensor: Tensor, note: dict[str, Any]) -> None:
    """Most tensors need no note; gaps and overlaps are saved compactly and get none."""
    assert describe(tensor) == note


@pytest.mark.parametrize(
    "note",
    [
        {"dtype": "complex128"},
        {"dtype": "float8_e8m0fnu"},
        {"dtype": "float32"},
        {"dtype": "os.system"},
        {"dtype": 3},
        {"order": [0, 0]},
        {"order": [0, 2]},
        {"order": [0]},
        {"order": "01"},
        {"order": {"0": 1}},
        {"order": [0, True]},
        {"order": [0.0, 1.0]},
        {"order": [None, None]},
        {"device": "cuda"},
    ],
)
def test_a_note_that_does_not_fit_is_refused(note: dict[str, Any]) -> None:
    """Notes come from a file: any that contradicts the tensor is an error."""
    with pytest.raises(FormatError, match=r"state\.json"):
        allocate(TensorSpec("F32", (2, 2), 0, 16), note, where="state.json")


def test_an_unknown_stored_dtype_is_refused() -> None:
    """A dtype name without a torch dtype is an error that shows it."""
    with pytest.raises(FormatError, match="F6"):
        allocate(TensorSpec("F6_E2M3", (2,), 0, 2))
