"""Large files reach the disk whole, whatever the file system thinks of direct I/O."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from holdfast.errors import SaveError
from holdfast.storage.block_file import DIRECT_MIN_BYTES, JOB_BYTES, write_block_file
from holdfast.storage.protocol import NameTakenError

SIZE = DIRECT_MIN_BYTES + 12_345


@pytest.fixture(scope="module")
def data() -> bytes:
    """More bytes than direct I/O starts at, and not a multiple of any block size."""
    return os.urandom(1 << 20) * (SIZE >> 20) + b"tail" * 4096


def uneven(data: bytes) -> Iterator[memoryview]:
    """The data in blocks of many sizes, some of them empty, none aligned."""
    view, step = memoryview(data), 1
    while len(view):
        yield view[:step]
        yield view[:0]
        view, step = view[step:], step * 3 % 9_999_991
    yield view


@pytest.mark.parametrize("direct", [True, False])
def test_blocks_of_any_size_make_the_same_file(tmp_path: Path, data: bytes, direct: bool) -> None:
    """The file is the concatenation of its blocks, however they were cut."""
    path = tmp_path / "file"
    write_block_file(path, len(data), uneven(data), direct=direct)
    assert path.read_bytes() == data


def test_thousands_of_tiny_blocks(tmp_path: Path) -> None:
    """More blocks than one system call takes are no obstacle."""
    blocks = [bytes([number % 251]) * 3 for number in range(20_000)]
    write_block_file(tmp_path / "file", 60_000, blocks, direct=False)
    assert (tmp_path / "file").read_bytes() == b"".join(blocks)


def refusing_after(good: int, code: int) -> Callable[[int, memoryview, int], int]:
    """A direct write that works `good` times and then fails with `code`."""
    calls: list[int] = []

    def write(fd: int, view: memoryview, offset: int) -> int:
        calls.append(offset)
        if len(calls) > good:
            raise OSError(code, os.strerror(code))
        return os.pwrite(fd, view, offset)

    return write


@pytest.mark.parametrize("good", [0, 2])
def test_refused_direct_writes_become_buffered(tmp_path: Path, data: bytes, good: int) -> None:
    """A file system that opens for direct I/O but refuses a write still gets the whole file."""
    write = refusing_after(good, errno.EINVAL)
    write_block_file(tmp_path / "file", len(data), [data], direct=True, direct_write=write)
    assert (tmp_path / "file").read_bytes() == data


def test_short_direct_writes_are_completed(tmp_path: Path, data: bytes) -> None:
    """What a short direct write left out is written by other means."""

    def short(fd: int, view: memoryview, offset: int) -> int:
        return os.pwrite(fd, view[: len(view) // 3], offset)

    write_block_file(tmp_path / "file", len(data), [data], direct=True, direct_write=short)
    assert (tmp_path / "file").read_bytes() == data


def test_a_failing_disk_is_an_error(tmp_path: Path, data: bytes) -> None:
    """An I/O error is never taken for a refusal of direct I/O: the file and step are named."""
    write = refusing_after(1, errno.EIO)
    with pytest.raises(SaveError, match="write the file") as caught:
        write_block_file(tmp_path / "file", len(data), [data], direct=True, direct_write=write)
    assert str(tmp_path / "file") in str(caught.value)


def test_short_writes_end_in_an_error_not_in_a_short_file(tmp_path: Path) -> None:
    """When the system accepts only part of the bytes, the rest is tried and its failure told."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(SaveError, match=os.strerror(errno.EFBIG)):
            write_block_file(tmp_path / "file", 3 << 20, [bytes(3 << 20)], direct=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "file").stat().st_size == 1 << 20


def test_progress_comes_with_every_job(tmp_path: Path, data: bytes) -> None:
    """Progress grows job by job and an error in it stops the write."""
    seen: list[int] = []
    write_block_file(tmp_path / "a", len(data), [data], direct=True, progress=seen.append)
    assert seen == sorted(set(seen))
    assert seen[0] == JOB_BYTES
    assert seen[-1] == len(data)

    def cancel(done: int) -> None:
        raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        write_block_file(tmp_path / "b", len(data), [data], direct=True, progress=cancel)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A name that is taken, even by a dangling link, is refused."""
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(NameTakenError):
        write_block_file(tmp_path / "link", 1, [b"x"], direct=False)
    assert not (tmp_path / "nowhere").exists()
