"""Writing one large file as fast as the disk takes it.

The file is cut into jobs of `JOB_BYTES` at aligned offsets. Where direct I/O is the faster way the
file is preallocated and several threads copy jobs into page-aligned buffers and write them past
the page cache; elsewhere one thread writes them through it. Either way the caller's thread is left
to produce blocks. Opening for direct I/O may succeed and the first write fail (EINVAL), so the
fall-back to buffered writes is decided at every write.
"""

from __future__ import annotations

import errno
import mmap
import os
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

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


@dataclass(frozen=True, slots=True)
class _Job:
    offset: int
    segments: list[memoryview]
    nbytes: int


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
            sink: _Buffered = _Direct(fd, path, direct_write)
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
    sink: _Buffered,
    path: Path,
    total_bytes: int,
    blocks: Iterable[Block],
    progress: Progress | None,
) -> None:
    done = 0
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
            for job in _cut(blocks, total_bytes, path):
                pending.append((job.nbytes, pool.submit(sink.write, job)))
                settle(sink.threads)
            settle(0)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _cut(blocks: Iterable[Block], total_bytes: int, path: Path) -> Iterator[_Job]:
    """Cut the blocks into jobs of JOB_BYTES, without copying; the last may be shorter."""
    offset = filled = 0
    segments: list[memoryview] = []
    for block in blocks:
        view = memoryview(block).cast("B")
        while len(view):
            part, view = view[: JOB_BYTES - filled], view[JOB_BYTES - filled :]
            segments.append(part)
            filled += len(part)
            if filled == JOB_BYTES:
                yield _Job(offset, segments, filled)
                offset, filled, segments = offset + filled, 0, []
            elif len(segments) >= _SEGMENTS_MAX:
                segments = [memoryview(b"".join(segments))]
    if segments:
        yield _Job(offset, segments, filled)
    if offset + filled != total_bytes:
        raise SaveError(
            f"The blocks of a file add up to {offset + filled} bytes, announced were {total_bytes}",
            where=str(path),
        )


def _preallocate(fd: int, total_bytes: int) -> None:
    try:
        os.posix_fallocate(fd, 0, total_bytes)
    except OSError as error:
        if error.errno not in _NO_PREALLOCATION:
            raise


class _Buffered:
    """Writes jobs through the page cache."""

    # File systems lock the file for each buffered write: a second thread would only wait.
    threads = 1

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, job: _Job) -> None:
        write_at(self._fd, job.segments, job.offset)

    def close(self) -> None:
        """Release what the sink opened; the file descriptor given to it stays open."""


class _Direct(_Buffered):
    """Writes jobs past the page cache while the file system lets it."""

    threads = _DIRECT_THREADS

    def __init__(self, fd: int, path: Path, direct_write: PositionedWrite) -> None:
        super().__init__(fd)
        self._direct_write = direct_write
        try:
            self._direct_fd: int | None = os.open(
                path, os.O_WRONLY | os.O_DIRECT | os.O_NOFOLLOW | os.O_CLOEXEC
            )
        except OSError:
            self._direct_fd = None
        self._works = self._direct_fd is not None
        self._bounces: queue.SimpleQueue[mmap.mmap] = queue.SimpleQueue()
        for _ in range(self.threads if self._works else 0):
            self._bounces.put(mmap.mmap(-1, JOB_BYTES))

    def write(self, job: _Job) -> None:
        aligned_bytes = job.nbytes // _ALIGNMENT * _ALIGNMENT
        if not self._works or not aligned_bytes:
            return super().write(job)
        bounce = self._bounces.get()
        try:
            _gather(job.segments, bounce)
            view = memoryview(bounce)[: job.nbytes]
            written = self._write_aligned(view[:aligned_bytes], job.offset)
            # A tail shorter than a page, or what direct I/O left unwritten.
            write_at(self._fd, [view[written:]], job.offset + written)
        finally:
            self._bounces.put(bounce)

    def _write_aligned(self, view: memoryview, offset: int) -> int:
        """Write what direct I/O will take of `view`; return how much that was."""
        assert self._direct_fd is not None
        try:
            return self._direct_write(self._direct_fd, view, offset)
        except OSError as error:
            if error.errno not in _NOT_DIRECT:
                raise
            self._works = False
            return 0

    def close(self) -> None:
        if self._direct_fd is not None:
            os.close(self._direct_fd)
            self._direct_fd = None


def _gather(segments: list[memoryview], bounce: mmap.mmap) -> None:
    """Copy the segments to the start of the bounce buffer; large copies release the GIL."""
    target = np.frombuffer(bounce, np.uint8)
    filled = 0
    for segment in segments:
        np.copyto(target[filled : filled + len(segment)], np.frombuffer(segment, np.uint8))
        filled += len(segment)
