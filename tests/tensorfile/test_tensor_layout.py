"""A tensor file is planned before it is written: aligned, without holes, readable by all."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from tensor_strategies import file_name_text, named_tensors
from torch import Tensor

from holdfast.errors import UnsavableError
from holdfast.tensorfile import ITEM_BYTES, dtype_name, plan_file
from holdfast.tensorfile.header import parse_header


@given(named_tensors)
def test_data_is_aligned_and_without_holes(tensors: dict[str, Tensor]) -> None:
    """The data starts at a multiple of 4096, each tensor at one of its element size."""
    plan = plan_file(tensors, {})
    assert len(plan.header) % 4096 == 0
    assert plan.total_bytes == len(plan.header) + plan.data_bytes
    end = 0
    for spec in plan.specs.values():
        assert spec.begin == end
        assert spec.begin % ITEM_BYTES[spec.dtype] == 0
        end = spec.end
    assert end == plan.data_bytes
    assert set(plan.specs) == set(tensors)


@given(named_tensors, file_name_text)
def test_our_strict_reader_agrees_with_the_plan(tensors: dict[str, Tensor], text: str) -> None:
    """The header says of every tensor what the plan says, in the same order."""
    plan = plan_file(tensors, {"note": text})
    specs, metadata = parse_header(plan.header, plan.total_bytes, where="plan")
    assert list(specs.items()) == list(plan.specs.items())
    assert metadata == {"format": "pt", "note": text}


def test_the_header_is_json_padded_with_spaces() -> None:
    """A length prefix, one JSON object and nothing but spaces after it."""
    header = plan_file({"a": torch.zeros(2)}, {}).header
    assert int.from_bytes(header[:8], "little") == len(header) - 8
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    assert json.loads(header[8:]) == {"__metadata__": {"format": "pt"}, "a": entry}
    assert header.rstrip(b" ").endswith(b"}}")


def test_equal_sized_elements_keep_the_order_given() -> None:
    """Wide elements come first; among equals the state dict's order stands."""
    tensors = {
        "mask": torch.ones(3, dtype=torch.bool),
        "second": torch.ones(1),
        "first": torch.ones(1, dtype=torch.int32),
        "step": torch.ones(1, dtype=torch.int64),
    }
    assert list(plan_file(tensors, {}).specs) == ["step", "second", "first", "mask"]


def test_the_callers_format_mark_is_kept() -> None:
    """The metadata says "pt" unless told otherwise."""
    _, metadata = parse_header(plan_file({}, {"format": "np"}).header, 4096, where="plan")
    assert metadata == {"format": "np"}


@pytest.mark.parametrize("name", ["__metadata__", "lone \ud800 surrogate"])
def test_names_the_format_cannot_hold_are_refused(name: str) -> None:
    """A reserved name, or one that is no Unicode text, is refused by name."""
    with pytest.raises(UnsavableError, match=ascii(name).strip("'").replace("\\", "\\\\")):
        plan_file({name: torch.zeros(1)}, {})


def test_a_dtype_without_bytes_is_refused() -> None:
    """Asking how a shell dtype is stored is an error that names it."""
    with pytest.raises(UnsavableError, match=r"torch\.bits8"):
        dtype_name(torch.bits8)
