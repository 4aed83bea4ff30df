"""Blocks that lie in memory as in the file are written from there; the file is the same."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast.storage.block_file import DIRECT_MIN_BYTES, write_block_file
from holdfast.storage.protocol import Block

PAGE = 4096
HEADER = 2 * PAGE


@pytest.fixture(scope="module")
def memory() -> memoryview:
    """Page-aligned memory, a little more than direct I/O starts at."""
    area = mmap.mmap(-1, DIRECT_MIN_BYTES + 3 * PAGE)
    np.frombuffer(area, np.uint8)[:] = np.random.default_rng(0).integers(
        0, 256, len(area), np.uint8
    )
    return memoryview(area)


class Noted:
    """A positioned write that notes from which addresses it was asked to write."""

    def __init__(self) -> None:
        self.places: list[tuple[int, int]] = []

    def __call__(self, fd: int, view: memoryview, offset: int) -> int:
        """Write, and note."""
        address = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
        self.places.append((address, len(view)))
        return os.pwrite(fd, view, offset)


def pieces(view: memoryview, sizes: list[int]) -> Iterator[memoryview]:
    """The view in pieces of these sizes, over and over."""
    number = 0
    while len(view):
        size = sizes[number % len(sizes)]
        yield view[:size]
        view, number = view[size:], number + 1


def test_memory_that_lies_as_the_file_is_written_without_a_copy(
    tmp_path: Path, memory: memoryview
) -> None:
    """After a header from elsewhere, all but a short rest comes from where it lies."""
    noted = Noted()
    header = bytes(HEADER)
    data = memory[: len(memory) - 100]
    blocks: list[Block] = [header, *pieces(data, [512 << 10, 300, 7 << 10])]
    total = len(header) + len(data)
    write_block_file(tmp_path / "file", total, blocks, direct=True, direct_write=noted)
    assert (tmp_path / "file").read_bytes() == header + bytes(data)
    if not noted.places:
        pytest.skip("files cannot be opened for direct I/O here")
    begin = np.frombuffer(memory, np.uint8).__array_interface__["data"][0]
    inside = [n for address, n in noted.places if begin <= address < begin + len(memory)]
    assert sum(inside) > len(data) - (64 << 10)


runs = st.lists(
    st.tuples(st.sampled_from(["in step", "odd", "elsewhere"]), st.integers(1, 3_000_000)),
    min_size=1,
    max_size=8,
)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(runs=runs, sizes=st.lists(st.integers(1, 1_000_000), max_size=3))
def test_any_mixture_of_memory_makes_the_same_file(
    tmp_path: Path, memory: memoryview, runs: list[tuple[str, int]], sizes: list[int]
) -> None:
    """Runs that begin, break off and begin again, in step with the file or not."""
    blocks: list[memoryview] = []
    total = 0
    for kind, nbytes in [*runs, ("in step", DIRECT_MIN_BYTES - 5 * PAGE)]:
        begin = {"in step": total % PAGE, "odd": 1234}.get(kind, 0)
        source = (
            memoryview(bytes(range(251)) * (nbytes // 251 + 1)) if kind == "elsewhere" else memory
        )
        view = source[begin : begin + nbytes]
        blocks += pieces(view, [400_000, *sizes])
        total += len(view)
    path = tmp_path / "file"
    path.unlink(missing_ok=True)
    write_block_file(path, total, blocks, direct=True)
    found = path.read_bytes()
    assert len(found) == total
    begin = 0
    for block in blocks:
        assert found[begin : begin + len(block)] == block
        begin += len(block)
