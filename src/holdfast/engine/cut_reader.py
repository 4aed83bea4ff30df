"""Reading a part of a stored piece: the rows that are wanted, or all of it where all is hashed."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from holdfast.digest import Hasher
from holdfast.engine.boxes import Box
from holdfast.engine.ranges import Progress, run_units
from holdfast.engine.verify import tensor_damage
from holdfast.engine.windows import Cut, narrowed

_BUFFER_BYTES = 4 << 20


def read_cuts(cuts: list[Cut], *, hashed: bool, progress: Progress) -> None:
    """Fill the targets of `cuts`.

    hashed: read every piece whole and prove it on the way; otherwise only rows that hold something
    wanted are read, and the pieces must have been proven before. Extra memory: 4 MiB per thread,
    or one row of a piece where that is longer. Raises DamagedError.
    """

    def work(units: Iterator[Cut]) -> None:
        with torch.no_grad():
            for cut in units:
                _read(cut, hashed=hashed, progress=progress)

    run_units(cuts, work)


def _read(cut: Cut, *, hashed: bool, progress: Progress) -> None:
    file, sizes = cut.piece.file, cut.piece.box.sizes
    spec = file.specs[cut.name]
    rows = sizes[0]
    row_bytes = spec.nbytes // rows
    first, count = cut.part.offsets[0], cut.part.sizes[0]
    begin, end = (0, rows) if hashed or count == rows else (first, first + count)
    step = max(1, _BUFFER_BYTES // max(1, row_bytes))
    buffer = np.empty(min(step, end - begin) * row_bytes, np.uint8)
    hasher = Hasher()
    for at in range(begin, end, step):
        until = min(at + step, end)
        part = buffer.data[: (until - at) * row_bytes]
        file.opened.read_into(file.file, file.data_start + spec.begin + at * row_bytes, part)
        hasher.update(part)
        _place(cut, buffer, at, until)
        progress(len(part))
    if (begin, end) == (0, rows) and hasher.raw() != file.digests[cut.name]:
        raise tensor_damage(file, cut.name, hasher.raw()).error(file.opened.place)


def _place(cut: Cut, buffer: npt.NDArray[np.uint8], at: int, until: int) -> None:
    """Copy what is wanted of rows [at, until) of the piece from the buffer."""
    first, count = cut.part.offsets[0], cut.part.sizes[0]
    low, high = max(at, first), min(until, first + count)
    if low >= high:
        return
    shape = (until - at, *cut.piece.box.sizes[1:])
    dtype = cut.target.dtype
    nbytes = math.prod(shape) * dtype.itemsize
    rows: Tensor = torch.from_numpy(buffer[:nbytes]).view(dtype).view(shape)
    wanted = Box((low - at, *cut.part.offsets[1:]), (high - low, *cut.part.sizes[1:]))
    cut.target[low - first : high - first].copy_(narrowed(rows, wanted))
