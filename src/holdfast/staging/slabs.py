"""Memory that snapshots are copied into, allocated once and used again and again.

On the host it is mapped in slabs of a fixed size, with huge pages where the kernel grants them: the
first touch of fresh memory costs several times the copy itself, and one allocation per tensor would
pay it at every save. When tensors of a CUDA device are staged the slabs are pinned, so that the
device writes them by itself.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

SLAB_BYTES = 256 << 20
_ALIGNMENT = 4096
_NOTHING = torch.empty(0, dtype=torch.uint8)


class Arena:
    """Room for one snapshot: `carve` hands out the same memory again once asked anew.

    Not safe for concurrent use; whoever holds the arena has it alone.
    """

    def __init__(self) -> None:
        self._slabs: list[Tensor] = []
        self._pinned = False

    @property
    def nbytes(self) -> int:
        """Bytes held, whether in use or not."""
        return sum(slab.nbytes for slab in self._slabs)

    def carve(self, sizes: Sequence[int], *, pinned: bool) -> list[Tensor]:
        """Give uninitialised memory of the given sizes in bytes, as one uint8 tensor each.

        pinned: page-locked, for copies from a CUDA device. Everything given out before is given
        out again; slabs no longer needed are freed. Each piece starts at a multiple of 4096 bytes
        unless it is smaller than that, then of 64.
        """
        if pinned != self._pinned:
            self._slabs = []
            self._pinned = pinned
        places, slab_sizes = _pack([nbytes for nbytes in sizes if nbytes])
        wanted = Counter(slab_sizes)
        kept: dict[int, list[Tensor]] = {}
        while self._slabs:
            # What does not fit goes before new ones are made: the state never takes room twice.
            slab = self._slabs.pop()
            if wanted[slab.nbytes] > len(kept.get(slab.nbytes, ())):
                kept.setdefault(slab.nbytes, []).append(slab)
            del slab
        self._slabs = [
            kept[nbytes].pop() if kept.get(nbytes) else _new_slab(nbytes, pinned)
            for nbytes in slab_sizes
        ]
        found = iter(places)
        return [self._piece(*next(found), nbytes) if nbytes else _NOTHING for nbytes in sizes]

    def _piece(self, slab: int, offset: int, nbytes: int) -> Tensor:
        return self._slabs[slab][offset : offset + nbytes]

    def free(self) -> None:
        """Give the memory back as soon as nobody looks at it any more."""
        self._slabs = []


def _pack(sizes: Sequence[int]) -> tuple[list[tuple[int, int]], list[int]]:
    """Slab and offset of each piece, and the sizes of the slabs. sizes: none of them 0."""
    places: list[tuple[int, int]] = []
    slabs: list[int] = []
    current, filled = -1, SLAB_BYTES
    for nbytes in sizes:
        step = _ALIGNMENT if nbytes >= _ALIGNMENT else 64
        offset = -(-filled // step) * step
        if nbytes > SLAB_BYTES:
            slabs.append(nbytes)
            places.append((len(slabs) - 1, 0))
            continue
        if offset + nbytes > SLAB_BYTES:
            slabs.append(0)
            current, offset = len(slabs) - 1, 0
        places.append((current, offset))
        filled = offset + nbytes
        slabs[current] = -(-filled // _ALIGNMENT) * _ALIGNMENT
    return places, slabs


def _new_slab(nbytes: int, pinned: bool) -> Tensor:
    if pinned:
        return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            memory.madvise(mmap.MADV_HUGEPAGE)
        except OSError:
            # A kernel without huge pages: ordinary ones are only slower to touch the first time.
            return torch.frombuffer(memory, dtype=torch.uint8)
    return torch.frombuffer(memory, dtype=torch.uint8)
