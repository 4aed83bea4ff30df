"""Writing one tensor file: every byte read once, hashed once and written once.

Contiguous tensors go to the storage as they lie in memory, in pieces that are hashed just before:
small enough to be in the processor's cache still when the storage copies them, while other threads
keep the disk busy. Small tensors are gathered, so that ten thousand scalars cost one write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from holdfast.digest import PREFIX, Hasher, combine, raw_digest
from holdfast.storage.protocol import Block, Joined, Progress, Staged
from holdfast.tensorfile import FilePlan, byte_chunks, byte_view, is_zero_copy

_PIECE_BYTES = 512 << 10
_GATHER_BYTES = 1 << 20
_GATHER_TENSOR_BYTES = 128 << 10
_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class TensorFileDigests:
    """Digests of a tensor file's bytes as they were in memory.

    header: "xxh3-128:..." of length prefix and header. tensors: 16 raw bytes each, in offset
    order. digest: "xxh3-128-parts:..." of the file.
    """

    header: str
    tensors: dict[str, bytes]
    digest: str


def write_tensor_file(
    staged: Staged | Joined,
    file: str,
    tensors: Mapping[str, Tensor],
    plan: FilePlan,
    *,
    progress: Progress | None = None,
) -> TensorFileDigests:
    """Write `tensors` as laid out by `plan` to `file`; durable when this returns.

    The tensors must not change meanwhile. progress: called with the bytes of this file done so
    far. At most 64 MiB beyond the tensors are held at a time. Raises what
    `Staged.write_blocks` raises; the staged folder is then to be aborted.
    """
    source = _Source(tensors, plan)
    staged.write_blocks(file, plan.total_bytes, source.blocks(), progress=progress)
    header = raw_digest(plan.header)
    return TensorFileDigests(
        PREFIX + header.hex(), source.digests, combine([header, *source.digests.values()])
    )


def digest_of(tensor: Tensor) -> bytes:
    """The raw digest that `write_tensor_file` would give this tensor; nothing is written."""
    if is_zero_copy(tensor):
        return raw_digest(byte_view(tensor))
    hasher = Hasher()
    for chunk in byte_chunks(tensor, _CHUNK_BYTES):
        hasher.update(chunk)
    return hasher.raw()


class _Source:
    """The blocks of a file, in order, and the digests that become known as they are produced."""

    def __init__(self, tensors: Mapping[str, Tensor], plan: FilePlan) -> None:
        self._tensors = tensors
        self._plan = plan
        self.digests: dict[str, bytes] = {}

    def blocks(self) -> Iterator[Block]:
        """Yield the header, then the data section; no block changes after it was yielded."""
        yield self._plan.header
        gathered = _new_buffer()
        filled = 0
        for name, spec in self._plan.specs.items():
            tensor = self._tensors[name]
            nbytes = spec.end - spec.begin
            if nbytes > _GATHER_TENSOR_BYTES:
                if filled:
                    yield gathered[:filled]
                    gathered, filled = _new_buffer(), 0
                yield from self._own_blocks(name, tensor)
                continue
            view = _small_view(tensor)
            self.digests[name] = raw_digest(view)
            if filled + nbytes > _GATHER_BYTES:
                yield gathered[:filled]
                gathered, filled = _new_buffer(), 0
            gathered[filled : filled + nbytes] = view
            filled += nbytes
        if filled:
            yield gathered[:filled]

    def _own_blocks(self, name: str, tensor: Tensor) -> Iterator[Block]:
        hasher = Hasher()
        for chunk in _chunks(tensor):
            for begin in range(0, len(chunk), _PIECE_BYTES):
                piece = chunk[begin : begin + _PIECE_BYTES]
                hasher.update(piece)
                yield piece
        self.digests[name] = hasher.raw()


def _chunks(tensor: Tensor) -> Iterable[memoryview]:
    if is_zero_copy(tensor):
        return (byte_view(tensor),)
    return byte_chunks(tensor, _CHUNK_BYTES)


def _small_view(tensor: Tensor) -> Block:
    if is_zero_copy(tensor):
        return byte_view(tensor)
    return b"".join(byte_chunks(tensor, _CHUNK_BYTES))


def _new_buffer() -> memoryview:
    """A buffer nobody else holds; numpy leaves it unfilled."""
    return np.empty(_GATHER_BYTES, np.uint8).data
