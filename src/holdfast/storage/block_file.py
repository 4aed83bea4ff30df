"""Writing one large file as fast as the disk takes it.

The caller's thread gathers blocks into jobs; other threads write them. Where direct I/O is the
faster way the file is preallocated and several jobs are written at a time past the page cache (see
`direct_file`). Elsewhere a job refers to the blocks as they are and one thread writes them through
the page cache.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from holdfast.errors import SaveError
from holdfast.storage.durable import create, flush, saving, write_at
from holdfast.storage.protocol import Block, Progress

if TYPE_CHECKING:
    from holdfast.storage.direct_file import DirectFile

JOB_BYTES = 8 << 20
DIRECT_MIN_BYTES = 32 << 20
_SEGMENTS_MAX = 256
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
            # Not at the top: the command line reads runs without numpy, or waiting for it.
            from holdfast.storage.direct_file import DirectFile

            sink: _Buffered | DirectFile = DirectFile(fd, path, direct_write)
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
    sink: _Buffered | DirectFile,
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
            for job in sink.jobs(blocks):
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


class _Buffered:
    """Writes jobs through the page cache."""

    # File systems lock the file for each buffered write: a second thread would only wait.
    threads = 1

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def jobs(self, blocks: Iterable[Block]) -> Iterator[_BufferedJob]:
        """Cut the blocks into jobs of JOB_BYTES; the last may be shorter."""
        job = _BufferedJob(self._fd, 0)
        for block in blocks:
            view = memoryview(block).cast("B")
            while len(view):
                room = JOB_BYTES - job.filled
                job.add(view[:room])
                view = view[room:]
                if job.filled == JOB_BYTES:
                    yield job
                    job = _BufferedJob(self._fd, job.offset + JOB_BYTES)
        if job.filled:
            yield job

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
