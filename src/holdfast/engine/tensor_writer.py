"""Writing one tensor file: every byte read once, hashed once and written once.

Contiguous tensors go to the storage as they lie in memory, in pieces that are hashed just before:
small enough to be in the processor's cache still when the storage copies them, while other threads
keep the disk busy. Small tensors are gathered, so that ten thousand scalars cost one write, unless
they lie in memory one after the other already, as in a snapshot.
"""

from __future__ import annotations

import ctypes
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
        small = _Small()
        for name, spec in self._plan.specs.items():
            tensor = self._tensors[name]
            if spec.nbytes > _GATHER_TENSOR_BYTES:
                yield from small.flush()
                yield from self._own_blocks(name, tensor)
                small.follow(tensor.data_ptr() + spec.nbytes if is_zero_copy(tensor) else 0)
                continue
            view = _small_view(tensor)
            self.digests[name] = raw_digest(view)
            if spec.nbytes:
                address = tensor.data_ptr() if is_zero_copy(tensor) else 0
                yield from small.add(view, spec.nbytes, address)
        yield from small.flush()

    def _own_blocks(self, name: str, tensor: Tensor) -> Iterator[Block]:
        hasher = Hasher()
        for chunk in _chunks(tensor):
            for begin in range(0, len(chunk), _PIECE_BYTES):
                piece = chunk[begin : begin + _PIECE_BYTES]
                hasher.update(piece)
                yield piece
        self.digests[name] = hasher.raw()


class _Small:
    """Small tensors on their way: as they lie if they follow each other in memory, else copied.

    What follows the block yielded last is not copied either, however small: a storage that writes
    from where blocks lie can then go on doing so.
    """

    def __init__(self) -> None:
        self._run: list[Block] = []
        self._begin = self._end = self._follows = 0
        self._buffer = _new_buffer()
        self._filled = 0

    def follow(self, address: int) -> None:
        """The block yielded last ends at this address; 0 if it lies elsewhere."""
        self._follows = address

    def add(self, view: Block, nbytes: int, address: int) -> Iterator[Block]:
        """Take in the next tensor. address: of its memory, 0 if it has none of its own."""
        if self._run and address != self._end:
            yield from self._end_run()
        if self._filled or not address:
            yield from self._copy(view, nbytes)
            return
        if not self._run:
            self._begin = self._end = address
        self._run.append(view)
        self._end += nbytes
        if self._end - self._begin >= _GATHER_BYTES:
            yield from self._end_run()

    def flush(self) -> Iterator[Block]:
        """Yield what is still on its way."""
        yield from self._end_run()
        if self._filled:
            yield self._hand_over()

    def _end_run(self) -> Iterator[Block]:
        run, self._run = self._run, []
        nbytes = self._end - self._begin
        if run and (nbytes >= _GATHER_TENSOR_BYTES or self._begin == self._follows):
            # The tensors are held by whoever has them written.
            yield memoryview((ctypes.c_ubyte * nbytes).from_address(self._begin)).cast("B")
            self._follows = self._end
            return
        for view in run:
            yield from self._copy(view, len(memoryview(view)))

    def _copy(self, view: Block, nbytes: int) -> Iterator[Block]:
        if self._filled + nbytes > _GATHER_BYTES:
            yield self._hand_over()
        self._buffer[self._filled : self._filled + nbytes] = view
        self._filled += nbytes

    def _hand_over(self) -> memoryview:
        full = self._buffer[: self._filled]
        self._buffer, self._filled, self._follows = _new_buffer(), 0, 0
        return full


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
