"""The best of several hypotheses kept side by side."""

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
from holdfast.errors import DecodingError

_NOTHING = -1
_FEW = 16


def beam(
    model: StepModel[Source, Cache],
    source: Source,
    limits: NDArray[np.int64],
    marks: Marks,
    *,
    width: int = 4,
    length_penalty: float = 1.0,
) -> list[Hypothesis]:
    """Decode every row of the source, keeping its `width` best hypotheses.

    A hypothesis scores its summed log-probability divided by its length (with end mark) to the
    power `length_penalty`; finished ones stay and keep their score. A row is done when all its
    kept hypotheses are finished or at their limit; rows that are done leave the batch. With width 1
    this is `greedy`, whose arguments it shares. Raises DecodingError for a width below 1 or NaN.
    """
    if width < 1:
        raise DecodingError(f"A beam cannot be {width} wide", fix="use a width of 1 or more")
    limits = checked_limits(limits)
    found = [Hypothesis([], 0.0, False)] * len(limits)
    rows = np.flatnonzero(limits > 0)
    if not len(rows):
        return found
    beams = _Beams(rows, limits, marks, width, length_penalty)
    cache, fed = model.start(source), len(limits)
    while True:
        if len(rows) != fed or (rows != np.arange(fed)).any():
            cache = model.reorder(cache, rows)
        fed = len(rows)
        log_probs, cache = model.step(beams.newest, cache)
        rows = beams.advance(log_probs, found)
        if not len(rows):
            return found


class _Beams:
    """The kept hypotheses of n sentences not yet done, w for each: one at first, then the width.

    tokens [n, w, length] with _NOTHING after the end; sums (log-probabilities), lengths (end marks
    included) and done [n, w].
    """

    def __init__(
        self,
        sentences: NDArray[np.int64],
        limits: NDArray[np.int64],
        marks: Marks,
        width: int,
        length_penalty: float,
    ) -> None:
        count = len(sentences)
        self._sentences, self._limits = sentences, limits
        self._marks, self._width, self._penalty = marks, width, length_penalty
        self._tokens = np.empty((count, 1, 0), dtype=np.int64)
        self._sums = np.zeros((count, 1))
        self._lengths = np.zeros((count, 1), dtype=np.int64)
        self._done = np.zeros((count, 1), dtype=np.bool_)
        self.newest = np.full(count, marks.begin, dtype=np.int64)

    def advance(self, log_probs: NDArray[np.float32], found: list[Hypothesis]) -> NDArray[np.int64]:
        """Extend by one token, given [n*w, V].

        The best hypotheses of sentences that are done go to `found`. Returns the rows from which
        those of the others came, [n'*w'].
        """
        parents, tokens = self._choose(log_probs)
        places = np.arange(len(parents))[:, None]
        grown = self._tokens[places, parents]
        self._tokens = np.concatenate([grown, tokens[..., None]], axis=2)
        ended = (tokens == self._marks.end) | np.isneginf(self._sums)
        at_limit = self._lengths >= self._limits[self._sentences][:, None]
        self._done = self._done[places, parents] | ended | at_limit
        rows = places * (len(log_probs) // len(parents)) + parents
        going: NDArray[np.bool_] = np.logical_not(np.all(self._done, axis=1))
        for place in np.flatnonzero(~going).tolist():
            found[self._sentences[place]] = self._best(place)
        self._keep(going)
        newest = self._tokens[..., -1].ravel()
        self.newest = np.where(newest == _NOTHING, self._marks.end, newest)
        return rows[going].ravel()

    def _choose(self, log_probs: NDArray[np.float32]) -> tuple[NDArray[np.int64], ...]:
        """The best extensions: which hypotheses, by which token; sums and lengths follow them."""
        count, kept = self._sums.shape
        forbid(log_probs, self._marks.never)
        best, tokens = _top(log_probs, min(self._width, log_probs.shape[1]))
        refuse_nan(best[:, 0][~self._done.ravel()])
        steps = best.reshape(count, kept, -1).astype(np.float64)
        tokens = tokens.reshape(count, kept, -1)
        steps[self._done] = -np.inf
        steps[self._done, 0] = 0.0
        tokens[self._done] = _NOTHING
        sums = self._sums[..., None] + steps
        lengths = self._lengths + ~self._done
        scores = sums / lengths[..., None] ** self._penalty
        order = np.argsort(-scores.reshape(count, -1), axis=1, kind="stable")[:, : self._width]
        parents = order // steps.shape[2]
        self._sums = np.take_along_axis(sums.reshape(count, -1), order, axis=1)
        self._lengths = np.take_along_axis(lengths, parents, axis=1)
        return parents, np.take_along_axis(tokens.reshape(count, -1), order, axis=1)

    def _best(self, place: int) -> Hypothesis:
        lengths = self._lengths[place]
        best = int(np.argmax(self._sums[place] / lengths**self._penalty))
        tokens = self._tokens[place, best, : lengths[best]].tolist()
        finished = tokens[-1] == self._marks.end
        made = tokens[:-1] if finished else tokens
        return Hypothesis(made, float(self._sums[place, best]), finished)

    def _keep(self, going: NDArray[np.bool_]) -> None:
        self._sentences, self._tokens = self._sentences[going], self._tokens[going]
        self._sums, self._lengths = self._sums[going], self._lengths[going]
        self._done = self._done[going]


def _top(
    log_probs: NDArray[np.float32], count: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The `count` best of each row, descending, [rows, count], and their ids; overwrites."""
    if count > _FEW:
        ids = np.argpartition(-log_probs, count - 1, axis=1)[:, :count]
        ids = np.sort(ids, axis=1)
        values = np.take_along_axis(log_probs, ids, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        return np.take_along_axis(values, order, axis=1), np.take_along_axis(ids, order, axis=1)
    rows = np.arange(len(log_probs))
    ids = np.empty((len(log_probs), count), dtype=np.int64)
    values = np.empty((len(log_probs), count), dtype=np.float32)
    for place in range(count):  # a few passes of argmax are several times faster than a partition
        ids[:, place] = log_probs.argmax(axis=1)
        values[:, place] = log_probs[rows, ids[:, place]]
        log_probs[rows, ids[:, place]] = -np.inf
    return values, ids
