"""What a safetensors header can say of a tensor, and the limits holdfast keeps. Without torch."""

from __future__ import annotations

from typing import NamedTuple

# Half of what stock safetensors allows: one emoji in 100 MB of text takes Python 800 MB to decode.
MAX_HEADER_BYTES = 50_000_000
MAX_TENSORS = 250_000
MAX_RANK = 64
MAX_NAME_CHARS = 4096

ITEM_BYTES: dict[str, int] = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U64": 8,
    "U32": 4,
    "U16": 2,
    "U8": 1,
    "BOOL": 1,
    "C64": 8,
    "F8_E4M3": 1,
    "F8_E4M3FNUZ": 1,
    "F8_E5M2": 1,
    "F8_E5M2FNUZ": 1,
}
"""Bytes of one element, by safetensors dtype name: every name holdfast reads or writes."""


class TensorSpec(NamedTuple):
    """One tensor of a file: safetensors dtype name, shape, and byte range in the data section.

    begin, end: offsets in bytes relative to the first byte after the header.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        """Bytes the tensor takes in the file."""
        return self.end - self.begin
