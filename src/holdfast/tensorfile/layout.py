"""Where each tensor's bytes lie in a safetensors file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorSpec:
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


@dataclass(frozen=True, slots=True)
class FilePlan:
    """A whole tensor file before a byte of it is written.

    header: 8-byte little-endian length prefix, JSON and space padding; a multiple of 4096 bytes.
    specs: by name, in offset order, covering the data section without holes.
    data_bytes, total_bytes: length of the data section and of the file.
    """

    header: bytes
    specs: dict[str, TensorSpec]
    data_bytes: int
    total_bytes: int
