"""The most probable token at each place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from holdfast.decoding.protocol import (
    Cache,
    Hypothesis,
    Marks,
    Source,
    StepModel,
    checked_limits,
    forbid,
    refuse_nan,
)


def greedy(
    model: StepModel[Source, Cache], source: Source, limits: NDArray[np.int64], marks: Marks
) -> list[Hypothesis]:
    """Decode every row of the source; of equally probable tokens the one with the lowest id.

    limits: most tokens of each row, end mark included, (rows,). Rows that ended are dropped from
    the batch once they are half of it. Raises DecodingError if the model gives NaN.
    """
    limits = checked_limits(limits)
    made: list[list[int]] = [[] for _ in limits]
    sums = np.zeros(len(limits))
    finished = np.zeros(len(limits), dtype=np.bool_)
    rows = np.arange(len(limits))  # of the source, one for each row of the cache
    live = limits > 0
    cache = model.start(source) if live.any() else None
    tokens = np.full(len(rows), marks.begin, dtype=np.int64)
    while cache is not None and live.any():
        if 2 * int(live.sum()) <= len(live):
            kept = np.flatnonzero(live)
            cache = model.reorder(cache, kept)
            rows, tokens, live = rows[kept], tokens[kept], live[kept]
        log_probs, cache = model.step(tokens, cache)
        forbid(log_probs, marks.never)
        tokens = log_probs.argmax(axis=1)
        best = log_probs[np.arange(len(rows)), tokens]
        refuse_nan(best)
        for place in np.flatnonzero(live).tolist():
            row, token = rows[place], int(tokens[place])
            sums[row] += best[place]
            made[row].append(token)
            finished[row] = token == marks.end
            live[place] = not finished[row] and len(made[row]) < limits[row]
    return [
        Hypothesis(ids[:-1] if ended else ids, float(total), bool(ended))
        for ids, total, ended in zip(made, sums, finished, strict=True)
    ]
