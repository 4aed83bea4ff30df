"""Boxes of a tensor: a part of it by offsets and sizes, one per dimension. Without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Box:
    """All elements from `offsets` on, `sizes` of them per dimension."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many there are."""
        return math.prod(self.sizes)

    def within(self, other: Box) -> bool:
        """Whether every element is in `other` as well."""
        return all(
            theirs <= mine and mine + size <= theirs + room
            for mine, size, theirs, room in zip(
                self.offsets, self.sizes, other.offsets, other.sizes, strict=True
            )
        )

    def meet(self, other: Box) -> Box | None:
        """The elements in both, None if there are none."""
        offsets, sizes = [], []
        for mine, size, theirs, room in zip(
            self.offsets, self.sizes, other.offsets, other.sizes, strict=True
        ):
            begin, end = max(mine, theirs), min(mine + size, theirs + room)
            if begin >= end:
                return None
            offsets.append(begin)
            sizes.append(end - begin)
        return Box(tuple(offsets), tuple(sizes))

    def seen_from(self, other: Box) -> Box:
        """The same elements, with offsets relative to those of `other`."""
        offsets = (m - t for m, t in zip(self.offsets, other.offsets, strict=True))
        return Box(tuple(offsets), self.sizes)


def whole(shape: Sequence[int]) -> Box:
    """The box of all elements."""
    return Box((0,) * len(shape), tuple(shape))


def coverage_problem(shape: Sequence[int], boxes: Sequence[Box]) -> str | None:
    """Why `boxes` do not cover a tensor exactly once, in words; None if they do.

    Every element must be in exactly one box. Exact: boxes inside the shape that do not meet and
    add up to all elements leave no hole.
    """
    everything = whole(shape)
    if any(len(box.sizes) != len(shape) for box in boxes):
        return "a part has another number of dimensions"
    if not all(box.within(everything) for box in boxes):
        return f"a part reaches beyond the shape {list(shape)}"
    if not boxes:
        return "no part of it is there"
    found, wanted = sum(box.elements for box in boxes), everything.elements
    twice = _first_meeting([box for box in boxes if box.elements])
    if twice is not None:
        return f"the parts at {list(twice[0].offsets)} and {list(twice[1].offsets)} overlap"
    if found != wanted:
        return f"its parts hold {found} of {wanted} elements"
    return None


def _first_meeting(boxes: Sequence[Box]) -> tuple[Box, Box] | None:
    """Two boxes with an element in common; swept along the first dimension."""
    if len(boxes) < 2:
        return None
    ordered = sorted(boxes, key=lambda box: box.offsets)
    open_boxes: list[Box] = []
    for box in ordered:
        start = box.offsets[0] if box.offsets else 0
        open_boxes = [b for b in open_boxes if not b.offsets or b.offsets[0] + b.sizes[0] > start]
        for other in open_boxes:
            if other.meet(box) is not None or not box.offsets:
                return other, box
        open_boxes.append(box)
    return None
