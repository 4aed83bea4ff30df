"""Writing one tensor file: every byte read once, hashed once and written once.

Large contiguous tensors are neither copied nor cut here: their own memory goes to the storage
while a second thread hashes it. Everything else is gathered into small buffers and hashed on the
way, so that ten thousand scalars cost one write. At most two such buffers exist beside what
`Staged.write_blocks` holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from holdfast.digest import PREFIX, Hasher, combine, raw_digest
from holdfast.storage.protocol import Block, Progress, Staged
from holdfast.tensorfile import FilePlan, byte_chunks, byte_view, is_zero_copy

_GATHER_BYTES = 1 << 20
_GATHER_TENSOR_BYTES = 128 << 10
_CHUNK_BYTES = 4 << 20
_HASH_THREADS_MAX = 4


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
    staged: Staged,
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
    threads = max(1, min(_HASH_THREADS_MAX, (os.cpu_count() or 1) // 2))
    with ThreadPoolExecutor(threads, thread_name_prefix="holdfast-hash") as pool:
        source = _Source(tensors, plan, pool)
        try:
            staged.write_blocks(file, plan.total_bytes, source.blocks(), progress=progress)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        digests = source.digests()
    header = raw_digest(plan.header)
    return TensorFileDigests(PREFIX + header.hex(), digests, combine([header, *digests.values()]))


class _Source:
    """The blocks of a file, in order, and the digests that become known as they are produced."""

    def __init__(
        self, tensors: Mapping[str, Tensor], plan: FilePlan, pool: ThreadPoolExecutor
    ) -> None:
        self._tensors = tensors
        self._plan = plan
        self._pool = pool
        self._digests: dict[str, bytes | Future[bytes]] = {}

    def digests(self) -> dict[str, bytes]:
        """The digest of every tensor; waits for those still being computed."""
        return {
            name: found.result() if isinstance(found, Future) else found
            for name, found in self._digests.items()
        }

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
            self._digests[name] = raw_digest(view)
            if filled + nbytes > _GATHER_BYTES:
                yield gathered[:filled]
                gathered, filled = _new_buffer(), 0
            gathered[filled : filled + nbytes] = view
            filled += nbytes
        if filled:
            yield gathered[:filled]

    def _own_blocks(self, name: str, tensor: Tensor) -> Iterator[Block]:
        if is_zero_copy(tensor):
            view = byte_view(tensor)
            self._digests[name] = self._pool.submit(raw_digest, view)
            yield view
            return
        hasher = Hasher()
        for chunk in byte_chunks(tensor, _CHUNK_BYTES):
            hasher.update(chunk)
            yield chunk
        self._digests[name] = hasher.raw()


def _small_view(tensor: Tensor) -> Block:
    if is_zero_copy(tensor):
        return byte_view(tensor)
    return b"".join(byte_chunks(tensor, _CHUNK_BYTES))


def _new_buffer() -> memoryview:
    """A buffer nobody else holds; numpy leaves it unfilled."""
    return np.empty(_GATHER_BYTES, np.uint8).data
