"""Counts of values in buckets, with their number and sum."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from holdfast.jsontext import Json

LATENCY_BOUNDS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
)


class Histogram:
    """bounds: upper ends of the buckets, included, ascending; what is beyond counts separately."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def total(self) -> int:
        """How many values were counted."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[float, int]]:
        """Upper end and how many values are at or below it; the last end is infinite."""
        ends = (*self.bounds, float("inf"))
        running, found = 0, []
        for end, count in zip(ends, self.counts, strict=True):
            running += count
            found.append((end, running))
        return found

    def quantile(self, share: float) -> float | None:
        """An upper bound of the quantile: the end of the bucket it falls into; None if empty.

        Beyond the last bound it is infinite: the buckets do not say more.
        """
        wanted = share * self.total
        return next((end for end, below in self.cumulative() if 0 < below >= wanted), None)

    def to_dict(self) -> dict[str, Json]:
        """As plain values."""
        return {
            "bounds": list(self.bounds),
            "counts": list(self.counts),
            "sum": self.sum,
            "total": self.total,
        }
