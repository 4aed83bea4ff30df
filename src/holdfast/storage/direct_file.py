"""Writing a file past the page cache, from where its bytes lie if they lie well.

Direct I/O wants memory, file offset and length at multiples of a page. Blocks that follow each
other in memory as they do in the file, from a page on, are written from there: nothing is copied.
Snapshots are laid out so. All other blocks are copied into page-aligned buffers, at once, while the
producer's hashing still has them in the processor's cache. Opening for direct I/O may succeed and
the first write fail (EINVAL), so the fall-back to buffered writes is decided at every write.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import queue
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from holdfast.storage.block_file import JOB_BYTES, PositionedWrite
from holdfast.storage.durable import write_at
from holdfast.storage.protocol import Block

_THREADS = 2
_PAGE = 4096
_IN_PLACE_MIN_BYTES = 64 << 10
_NOT_DIRECT = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP})


class DirectFile:
    """Cuts blocks into jobs that several threads write past the page cache, where that works."""

    threads = _THREADS

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
        self._unused = self.threads + 2

    def jobs(self, blocks: Iterable[Block]) -> Iterator[_Copied | _InPlace]:
        """Jobs of at most JOB_BYTES, each from a multiple of a page, in file order."""
        job: _Copied | _InPlace | None = None
        offset = 0
        for block in blocks:
            view = memoryview(block).cast("B")
            while len(view):
                address = _address(view)
                if job is None:
                    job = self._begin(offset, address, len(view))
                view = view[job.take(view, address) :]
                if not job.complete:
                    continue
                rest = job.cut_to_pages()
                if job.filled:
                    yield job
                offset += job.filled
                job = None
                if rest:
                    job = _Copied(self, offset, self._buffer())
                    job.copy(memoryview(rest))
        if job is not None:
            yield job

    def write(self, view: memoryview, offset: int) -> None:
        """Write all of `view`: what direct I/O will take of it, and the rest through the cache."""
        written = self._write_pages(view[: len(view) // _PAGE * _PAGE], offset)
        if written < len(view):
            write_at(self.fd, [view[written:]], offset + written)

    def close(self) -> None:
        """Give up the second descriptor."""
        if self._direct_fd is not None:
            os.close(self._direct_fd)
            self._direct_fd = None

    def _begin(self, offset: int, address: int, nbytes: int) -> _Copied | _InPlace:
        if address % _PAGE == 0 and nbytes >= _IN_PLACE_MIN_BYTES:
            return _InPlace(self, offset, address)
        return _Copied(self, offset, self._buffer())

    def _buffer(self) -> mmap.mmap:
        # One for each thread, one being filled and one waiting between the two; made when needed.
        if self._unused and self.buffers.empty():
            self._unused -= 1
            return mmap.mmap(-1, JOB_BYTES)
        return self.buffers.get()

    def _write_pages(self, pages: memoryview, offset: int) -> int:
        if not self._works or self._direct_fd is None or not len(pages):
            return 0
        try:
            return self._direct_write(self._direct_fd, pages, offset)
        except OSError as error:
            if error.errno not in _NOT_DIRECT:
                raise
            self._works = False
            return 0


class _InPlace:
    """Blocks that follow each other in memory, from a page on. They must not change meanwhile."""

    def __init__(self, file: DirectFile, offset: int, address: int) -> None:
        self._file = file
        self._address = address
        self._kept: list[memoryview] = []
        self.offset = offset
        self.filled = 0
        self.complete = False

    def take(self, view: memoryview, address: int) -> int:
        """How much of `view` belongs to this job; none completes it."""
        if address != self._address + self.filled:
            self.complete = True
            return 0
        taken = min(len(view), JOB_BYTES - self.filled)
        self._kept.append(view)
        self.filled += taken
        self.complete = self.filled == JOB_BYTES
        return taken

    def cut_to_pages(self) -> bytes:
        """Leave off what does not fill a page, and return it: another job has to begin with it."""
        whole = self.filled // _PAGE * _PAGE
        rest = bytes(self._view()[whole:])
        self.filled = whole
        return rest

    def write(self) -> None:
        self._file.write(self._view()[: self.filled], self.offset)
        self._kept.clear()

    def _view(self) -> memoryview:
        array = (ctypes.c_ubyte * self.filled).from_address(self._address)
        return memoryview(array).cast("B")


class _Copied:
    """Blocks from anywhere, copied one after the other into a page-aligned buffer."""

    def __init__(self, file: DirectFile, offset: int, buffer: mmap.mmap) -> None:
        self._file = file
        self._buffer = buffer
        self._target = np.frombuffer(buffer, np.uint8)
        self.offset = offset
        self.filled = 0
        self.complete = False

    def take(self, view: memoryview, address: int) -> int:
        """Copy what fits; only up to a page if the rest can be written from where it lies."""
        nbytes = len(view)
        lead = -address % _PAGE
        in_step = (address - self.offset - self.filled) % _PAGE == 0
        if in_step and nbytes - lead >= _IN_PLACE_MIN_BYTES and self.filled + lead <= JOB_BYTES:
            self.copy(view[:lead])
            self.complete = True
            return lead
        taken = min(nbytes, JOB_BYTES - self.filled)
        self.copy(view[:taken])
        self.complete = self.filled == JOB_BYTES
        return taken

    def copy(self, view: memoryview) -> None:
        """Copy all of `view`, which fits."""
        end = self.filled + len(view)
        # Unlike assignment to a memoryview, this lets other threads run meanwhile.
        np.copyto(self._target[self.filled : end], np.frombuffer(view, np.uint8))
        self.filled = end

    def cut_to_pages(self) -> bytes:
        """Nothing: it is complete at whole pages only."""
        return b""

    def write(self) -> None:
        try:
            self._file.write(memoryview(self._buffer)[: self.filled], self.offset)
        finally:
            self._file.buffers.put(self._buffer)


def _address(view: memoryview) -> int:
    address: int = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
    return address
