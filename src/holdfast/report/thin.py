"""Fewer points for a curve that looks the same."""

from __future__ import annotations

from collections.abc import Sequence

from holdfast.report.values import Point

POINTS_MAX = 600


def thin(points: Sequence[Point], most: int = POINTS_MAX) -> list[Point]:
    """At most about `most` points: the ends, and the lowest and highest of each stretch.

    So no peak is lost, which a plain "every n-th" would do. Order is kept.
    """
    if len(points) <= most:
        return list(points)
    stretches = max(1, (most - 2) // 2)
    inner = len(points) - 2
    chosen = {0, len(points) - 1}
    for index in range(stretches):
        begin = 1 + index * inner // stretches
        end = 1 + (index + 1) * inner // stretches
        if begin < end:
            span = range(begin, end)
            chosen.add(min(span, key=lambda i: points[i].value))
            chosen.add(max(span, key=lambda i: points[i].value))
    return [points[i] for i in sorted(chosen)]
