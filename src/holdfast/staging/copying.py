"""Copying many tensors into their twins: threads on the host, a side stream on CUDA."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from holdfast.staging.layout import flat_bytes

CHUNK_BYTES = 8 << 20
_THREADS_MAX = 4

_USUAL = frozenset(
    {
        *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
        *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
        *(torch.complex64, torch.complex128),
    }
)
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

Pair: TypeAlias = "tuple[Tensor, Tensor]"
"""A live tensor and its twin: dense both, with the same strides."""


class Copier:
    """Host threads that copy memory; they start when first needed and end with `close`."""

    def __init__(self, threads: int | None = None) -> None:
        # Memory bandwidth is full long before the cores are: more threads only take time from the
        # forward pass they run beside.
        self._threads = threads or max(1, min(_THREADS_MAX, (os.cpu_count() or 1) // 2))
        self._pool: ThreadPoolExecutor | None = None

    def copy(self, pairs: Sequence[Pair]) -> None:
        """Copy now; the caller's thread helps. Returns when every byte is there."""
        jobs = _Jobs(pairs)
        helpers = self._start(jobs) if _nbytes(pairs) > 2 * CHUNK_BYTES else []
        jobs.work()
        for helper in helpers:
            helper.result()

    def begin(self, pairs: Sequence[Pair]) -> list[Future[None]]:
        """Start to copy and return; the futures end when every byte is there."""
        return self._start(_Jobs(pairs))

    def close(self) -> None:
        """End the threads once what was begun is done."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None

    def _start(self, jobs: _Jobs) -> list[Future[None]]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="holdfast-copy")
        return [self._pool.submit(jobs.work) for _ in range(self._threads)]


class _Jobs:
    """Pieces of at most CHUNK_BYTES that several threads take in turn."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self._lock = threading.Lock()
        self._pieces = _pieces(pairs)

    def work(self) -> None:
        while True:
            with self._lock:
                piece = next(self._pieces, None)
            if piece is None:
                return
            np.copyto(*piece)


def _pieces(pairs: Iterable[Pair]) -> Iterator[tuple[Any, Any]]:
    for live, twin in pairs:
        source, target = flat_bytes(live), flat_bytes(twin)
        for begin in range(0, len(source), CHUNK_BYTES):
            piece = slice(begin, begin + CHUNK_BYTES)
            yield target[piece], source[piece]


def _nbytes(pairs: Iterable[Pair]) -> int:
    return sum(live.nbytes for live, _ in pairs)


class CudaCopies:
    """Copies of one device's tensors into pinned memory, on a stream of their own.

    The side stream starts behind everything queued on the current stream, so it copies the values
    the training thread sees now. Whoever changes them later waits for `copied`, on the device.
    """

    def __init__(self, device: torch.device, stream: torch.cuda.Stream) -> None:
        self._device = device
        self._stream = stream
        self.copied: torch.cuda.Event = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def begin(self, pairs: Sequence[Pair]) -> None:
        """Queue the copies; the live tensors must stay referenced until `copied` has passed."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            copy_batch(pairs, non_blocking=True)
            self.copied.record(self._stream)

    def hold_training(self) -> None:
        """Let what is queued next on the current stream wait for the copies; the host goes on."""
        torch.cuda.current_stream(self._device).wait_event(self.copied)

    def finish(self) -> None:
        """Wait on the host."""
        self.copied.synchronize()


def copy_batch(pairs: Sequence[Pair], *, non_blocking: bool = False) -> None:
    """Copy many tensors at one call, in the thread and on the stream of the caller."""
    torch._foreach_copy_(
        [copyable(twin) for _, twin in pairs],
        [copyable(live) for live, _ in pairs],
        non_blocking=non_blocking,
    )


def copyable(tensor: Tensor) -> Tensor:
    """The tensor, or an integer view of it where its dtype has no copy kernel of its own."""
    return tensor if tensor.dtype in _USUAL else tensor.view(_INTEGERS[tensor.itemsize])


def settle(futures: Sequence[Future[None]]) -> None:
    """Wait for copies that were begun. Raises what stopped one of them."""
    wait(futures)
    for future in futures:
        future.result()
