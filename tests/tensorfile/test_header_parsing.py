"""Header reading agrees with stock safetensors on everything it accepts."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from safetensors.torch import save

from holdfast.errors import FormatError
from holdfast.tensorfile import ITEM_BYTES, TensorSpec, header_length, parse_header
from holdfast.tensorfile.dtypes import STORED


def _parse(content: bytes) -> tuple[dict[str, TensorSpec], dict[str, str]]:
    length = header_length(content, len(content), where="model.safetensors")
    return parse_header(content[:length], len(content), where="model.safetensors")


def _stock(content: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        name: (view["dtype"], tuple(view["shape"]), bytes(view["data"]))
        for name, view in deserialize(content)  # type: ignore[no-untyped-call]
    }


def _ours(content: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    specs, _ = _parse(content)
    start = header_length(content, len(content), where="model.safetensors")
    return {
        name: (spec.dtype, spec.shape, content[start + spec.begin : start + spec.end])
        for name, spec in specs.items()
    }


def _agree(content: bytes) -> bool:
    """Whether we accept; if so, stock accepts too and sees the same tensors."""
    try:
        ours = _ours(content)
    except FormatError:
        return False
    assert _stock(content) == ours
    return True


_DTYPES = st.sampled_from(sorted(ITEM_BYTES))
_SHAPES = st.lists(st.integers(0, 4), max_size=4)
_NAMES = st.text(max_size=8).filter(lambda name: name != "__metadata__")


@st.composite
def _tables(draw: st.DrawFn) -> tuple[dict[str, Any], int]:
    """A sound table of tensors in any JSON order, and the bytes of data it needs."""
    rows: list[tuple[str, dict[str, Any]]] = []
    offset = 0
    for name in draw(st.lists(_NAMES, unique=True, max_size=6)):
        dtype, shape = draw(_DTYPES), draw(_SHAPES)
        size = torch.Size(shape).numel() * ITEM_BYTES[dtype]
        offsets = [offset, offset + size]
        rows.append((name, {"dtype": dtype, "shape": shape, "data_offsets": offsets}))
        offset += size
    table: dict[str, Any] = dict(draw(st.permutations(rows)))
    if draw(st.booleans()):
        table["__metadata__"] = draw(st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
    return table, offset


def _file(header: bytes, data_bytes: int) -> bytes:
    return struct.pack("<Q", len(header)) + header + bytes(i % 251 for i in range(data_bytes))


@given(_tables(), st.booleans(), st.integers(0, 9))
def test_sound_headers_are_read_as_stock_reads_them(
    table: tuple[dict[str, Any], int], ascii_only: bool, padding: int
) -> None:
    """Any sound header is accepted, escaped or not, padded or not, with the same tensors."""
    header = json.dumps(table[0], ensure_ascii=ascii_only).encode() + b" " * padding
    assert _agree(_file(header, table[1]))


_LIES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["F32", "U8", "0", "", 2**31, 2**32, 2**62, 2**63, 2**64, -1]),
    st.lists(st.integers(-2, 9), max_size=5),
    st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets", "x"]), st.integers(0, 3)),
)


@given(_tables(), st.data())
def test_what_we_accept_of_lying_headers_stock_accepts_too(
    table: tuple[dict[str, Any], int], data: st.DataObject
) -> None:
    """One changed value anywhere: whatever still passes means the same to both."""
    tree, data_bytes = table
    for name in data.draw(st.lists(st.sampled_from(sorted(tree)), max_size=2)) if tree else ():
        entry = tree[name]
        if isinstance(entry, dict) and entry and data.draw(st.booleans()):
            entry[data.draw(st.sampled_from(sorted(entry)))] = data.draw(_LIES)
        else:
            tree[name] = data.draw(_LIES)
    data_bytes += data.draw(st.sampled_from([0, 0, 1, 8]))
    _agree(_file(json.dumps(tree).encode(), data_bytes))


@given(_tables(), st.data())
def test_what_we_accept_of_damaged_bytes_stock_accepts_too(
    table: tuple[dict[str, Any], int], data: st.DataObject
) -> None:
    """One damaged byte anywhere in the file is refused or means the same to both."""
    content = bytearray(_file(json.dumps(table[0]).encode(), table[1]))
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(b'"{}[],:-09 ')))
    _agree(bytes(content))


@given(st.binary(max_size=60))
def test_noise_is_refused_cleanly(noise: bytes) -> None:
    """Random bytes after a true length give a FormatError and nothing else."""
    content = struct.pack("<Q", len(noise)) + noise
    if not _agree(content):
        with pytest.raises(FormatError, match=r"model\.safetensors"):
            _parse(content)


def test_the_tensors_come_in_offset_order_with_their_metadata() -> None:
    """JSON order does not matter; metadata comes back as text."""
    content = save(
        {"b": torch.zeros(3), "a": torch.zeros(2, dtype=torch.float64)}, {"format": "pt"}
    )
    specs, metadata = _parse(content)
    assert [spec.begin for spec in specs.values()] == [0, 16]
    assert specs["b"] == TensorSpec("F32", (3,), 16, 28)
    assert specs["b"].nbytes == 12
    assert metadata == {"format": "pt"}


def test_stock_refuses_what_it_must_here_too() -> None:
    """The oracle of these tests does refuse a header with a hole."""
    entry = {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}
    with pytest.raises(SafetensorError):
        deserialize(_file(json.dumps({"w": entry}).encode(), 2))  # type: ignore[no-untyped-call]


def test_the_dtypes_read_are_those_written() -> None:
    """Every dtype we write is one we read, with the same size, and the other way round."""
    written = {stored.name: dtype.itemsize for dtype, stored in STORED.items() if not stored.raw}
    assert written == ITEM_BYTES
