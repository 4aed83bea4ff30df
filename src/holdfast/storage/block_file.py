"""Writing one large file as fast as the disk takes it.

The caller's thread gathers blocks into jobs of `JOB_BYTES` at aligned offsets; other threads write
them. Where direct I/O is the faster way the file is preallocated, jobs are page-aligned buffers
the blocks are copied into at once (while the producer's hashing still has them in the processor's
cache) and several are written at a time past the page cache. Elsewhere a job refers to the blocks
as they are and one thread writes them through the page cache. Opening for direct I/O may succeed
and the first write fail (EINVAL), so the fall-back to buffered writes is decided at every write.
"""

from __future__ import annotations

import errno
import mmap
import os
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeAlias

from holdfast.errors import SaveError
from holdfast.storage.durable import create, flush, saving, write_at
from holdfast.storage.protocol import Block, Progress

JOB_BYTES = 8 << 20
DIRECT_MIN_BYTES = 32 << 20
_DIRECT_THREADS = 2
_ALIGNMENT = 4096
_SEGMENTS_MAX = 256
_NOT_DIRECT = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP})
_NO_PREALLOCATION = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS})

PositionedWrite: TypeAlias = Callable[[int, memoryview, int], int]
"""Descriptor, bytes and file offset to bytes written, as `os.pwrite`."""


def write_block_file(
    path: Path,
    total_bytes: int,
    blocks: Iterable[Block],
    *,
    direct: bool,
    progress: Progress | None = None,
    direct_write: PositionedWrite = os.pwrite,
) -> None:
    """Create `path` from blocks adding up to `total_bytes`; durable when this returns.

    direct: try direct I/O if the file is large enough to gain. direct_write: does each direct
    write, for tests of file systems that refuse them. Raises as `Staged.write_blocks`.
    """
    with saving("create the file", path, missing_bytes=total_bytes):
        fd = create(path)
    try:
        if direct and total_bytes >= DIRECT_MIN_BYTES:
            with saving("reserve room for the file", path, missing_bytes=total_bytes):
                _preallocate(fd, total_bytes)
            sink: _Buffered | _Direct = _Direct(fd, path, direct_write)
        else:
            sink = _Buffered(fd)
        try:
            _run(sink, path, total_bytes, blocks, progress)
        finally:
            sink.close()
        with saving("flush the file", path):
            flush(fd)
    finally:
        # A write error that only close reports (NFS) would come from the flush above first.
        os.close(fd)


def _run(
    sink: _Buffered | _Direct,
    path: Path,
    total_bytes: int,
    blocks: Iterable[Block],
    progress: Progress | None,
) -> None:
    begun = done = 0
    pending: deque[tuple[int, Future[None]]] = deque()

    def settle(most: int) -> None:
        nonlocal done
        while len(pending) > most:
            nbytes, future = pending.popleft()
            with saving("write the file", path, missing_bytes=total_bytes - done):
                future.result()
            done += nbytes
            if progress is not None:
                progress(done)

    with ThreadPoolExecutor(sink.threads, thread_name_prefix="holdfast-write") as pool:
        try:
            for job in _fill(sink, blocks):
                begun += job.filled
                pending.append((job.filled, pool.submit(job.write)))
                # One more than can be written, so that no thread waits for the next to be filled.
                settle(sink.threads + 1)
            if begun != total_bytes:
                raise _wrong_total(path, begun, total_bytes)
            settle(0)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _fill(sink: _Buffered | _Direct, blocks: Iterable[Block]) -> Iterator[_Job]:
    """Cut the blocks into jobs of JOB_BYTES; the last may be shorter."""
    job: _Job = sink.begin(0)
    for block in blocks:
        view = memoryview(block).cast("B")
        while len(view):
            room = JOB_BYTES - job.filled
            job.add(view[:room])
            view = view[room:]
            if job.filled == JOB_BYTES:
                yield job
                job = sink.begin(job.offset + JOB_BYTES)
    if job.filled:
        yield job


def _wrong_total(path: Path, found: int, total_bytes: int) -> SaveError:
    return SaveError(
        f"The blocks of a file add up to {found} bytes, announced were {total_bytes}",
        where=str(path),
    )


def _preallocate(fd: int, total_bytes: int) -> None:
    try:
        os.posix_fallocate(fd, 0, total_bytes)
    except OSError as error:
        if error.errno not in _NO_PREALLOCATION:
            raise


class _Job(Protocol):
    """Up to JOB_BYTES of the file, `filled` so far from `offset`, written by another thread."""

    offset: int
    filled: int

    def add(self, view: memoryview) -> None: ...

    def write(self) -> None: ...


class _Buffered:
    """Writes jobs through the page cache."""

    # File systems lock the file for each buffered write: a second thread would only wait.
    threads = 1

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def begin(self, offset: int) -> _BufferedJob:
        return _BufferedJob(self.fd, offset)

    def close(self) -> None:
        """Nothing of its own to release."""


class _BufferedJob:
    def __init__(self, fd: int, offset: int) -> None:
        self._fd = fd
        self.offset = offset
        self.filled = 0
        self._segments: list[memoryview] = []

    def add(self, view: memoryview) -> None:
        self._segments.append(view)
        self.filled += len(view)
        if len(self._segments) >= _SEGMENTS_MAX:
            self._segments = [memoryview(b"".join(self._segments))]

    def write(self) -> None:
        write_at(self._fd, self._segments, self.offset)


class _Direct:
    """Writes jobs past the page cache while the file system lets it."""

    threads = _DIRECT_THREADS

    def __init__(self, fd: int, path: Path, direct_write: PositionedWrite) -> None:
        self.fd = fd
        self._direct_write = direct_write
        try:
            self._direct_fd: int | None = os.open(
                path, os.O_WRONLY | os.O_DIRECT | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        except OSError:
            self._direct_fd = None
        self._works = self._direct_fd is not None
        self.buffers: queue.SimpleQueue[mmap.mmap] = queue.SimpleQueue()
        # One for each thread, one being filled and one waiting between the two.
        for _ in range(self.threads + 2):
            self.buffers.put(mmap.mmap(-1, JOB_BYTES))

    def begin(self, offset: int) -> _DirectJob:
        return _DirectJob(self, offset, self.buffers.get())

    def write_aligned(self, view: memoryview, offset: int) -> int:
        """Write what direct I/O will take of `view`; return how much that was."""
        aligned = view[: len(view) // _ALIGNMENT * _ALIGNMENT]
        if not self._works or self._direct_fd is None or not len(aligned):
            return 0
        try:
            return self._direct_write(self._direct_fd, aligned, offset)
        except OSError as error:
            if error.errno not in _NOT_DIRECT:
                raise
            self._works = False
            return 0

    def close(self) -> None:
        if self._direct_fd is not None:
            os.close(self._direct_fd)
            self._direct_fd = None


class _DirectJob:
    def __init__(self, sink: _Direct, offset: int, buffer: mmap.mmap) -> None:
        # Not at the top: the command line reads runs without ever needing numpy, or waiting for it.
        import numpy as np

        self._sink = sink
        self._buffer = buffer
        self._numpy = np
        self._target = np.frombuffer(buffer, np.uint8)
        self.offset = offset
        self.filled = 0

    def add(self, view: memoryview) -> None:
        end = self.filled + len(view)
        # Unlike assignment to a memoryview, this lets other threads run meanwhile.
        np = self._numpy
        np.copyto(self._target[self.filled : end], np.frombuffer(view, np.uint8))
        self.filled = end

    def write(self) -> None:
        try:
            view = memoryview(self._buffer)[: self.filled]
            written = self._sink.write_aligned(view, self.offset)
            # A tail shorter than a page, or what direct I/O left unwritten.
            write_at(self._sink.fd, [view[written:]], self.offset + written)
        finally:
            self._sink.buffers.put(self._buffer)
