"""A sequence model of a few lines, and searches without batches to compare with."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from holdfast.decoding import Marks, StepModel

BEGIN, END = 0, 1
MARKS = Marks(begin=BEGIN, end=END, never=(BEGIN,))


class History(NamedTuple):
    """Which source each row decodes, and the tokens fed so far."""

    sources: NDArray[np.int64]
    fed: NDArray[np.int64]


class RandomTable:
    """Log-probabilities drawn once for each (source, place, last token); rows seen are counted."""

    def __init__(self, sources: int, vocabulary: int, places: int, seed: int) -> None:
        dice = np.random.default_rng(seed)
        logits = 2.0 * dice.standard_normal((sources, places, vocabulary, vocabulary))
        total = np.log(np.exp(logits).sum(axis=3, keepdims=True))
        self.table = (logits - total).astype(np.float32)
        self.batches: list[int] = []

    def start(self, source: NDArray[np.int64]) -> History:
        """Nothing fed yet."""
        return History(source, np.empty((len(source), 0), dtype=np.int64))

    def step(
        self, tokens: NDArray[np.int64], cache: History
    ) -> tuple[NDArray[np.float32], History]:
        """Looked up by the token fed and how many came before."""
        self.batches.append(len(tokens))
        place = cache.fed.shape[1]
        fed = np.concatenate([cache.fed, tokens[:, None]], axis=1)
        return self.table[cache.sources, place, tokens], History(cache.sources, fed)

    def reorder(self, cache: History, rows: NDArray[np.int64]) -> History:
        """The given rows."""
        return History(cache.sources[rows], cache.fed[rows])


def next_log_probs(
    model: StepModel[NDArray[np.int64], Any], source: int | np.int64, tokens: list[int]
) -> list[float]:
    """Of the token after `tokens`, for one source, from the beginning."""
    cache = model.start(np.array([source]))
    for token in [BEGIN, *tokens]:
        log_probs, cache = model.step(np.array([token]), cache)
    values: list[float] = log_probs[0].astype(np.float64).tolist()
    values[BEGIN] = -float("inf")
    return values


def plain_beam(
    model: StepModel[NDArray[np.int64], Any],
    source: int | np.int64,
    limit: int | np.int64,
    width: int,
    penalty: float,
) -> tuple[list[int], float]:
    """Beam search over lists of (score, sum, tokens, done), best first."""
    kept: list[tuple[float, float, list[int], bool]] = [(0.0, 0.0, [], False)]
    for _ in range(int(limit)):
        grown: list[tuple[float, float, list[int], bool]] = []
        for score, total, tokens, done in kept:
            if done:
                grown.append((score, total, tokens, True))
                continue
            for token, value in enumerate(next_log_probs(model, source, tokens)):
                summed = total + value
                length = len(tokens) + 1
                grown.append((summed / length**penalty, summed, [*tokens, token], token == END))
        kept = sorted(grown, key=lambda item: -item[0])[:width]
        if all(done for *_, done in kept):
            break
    _, total, tokens, done = kept[0]
    return (tokens[:-1] if done else tokens), total
