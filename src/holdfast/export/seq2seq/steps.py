"""Two graphs as one step model, whatever runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from holdfast.export.seq2seq.recipe import ROWS, CacheEntry, Recipe

Array: TypeAlias = NDArray[Any]
Call: TypeAlias = Callable[[Sequence[Array]], Sequence[Array]]
"""Arrays in the order of a graph's inputs to arrays in the order of its outputs."""


class GraphSteps:
    """A `holdfast.decoding.StepModel` over a start graph and a step graph; caches are arrays.

    Source ids are checked against the signature at the start, so that a graph is never run on what
    it was not made for: InputError says what is wrong.
    """

    def __init__(self, recipe: Recipe, start: Call, step: Call) -> None:
        self._recipe = recipe
        self._start, self._step = start, step

    def start(self, source: NDArray[np.int64]) -> tuple[Array, ...]:
        """Run the start graph on source ids [rows, source]."""
        self._recipe.source.check([source])
        made = iter(self._start([source]))
        return tuple(
            next(made) if entry.made_by == "start" else _empty(entry, len(source))
            for entry in self._recipe.cache
        )

    def step(
        self, tokens: NDArray[np.int64], cache: tuple[Array, ...]
    ) -> tuple[NDArray[np.float32], tuple[Array, ...]]:
        """Run the step graph once."""
        log_probs, *changed = self._step([tokens, *cache])
        following = iter(changed)
        grown = tuple(
            next(following) if entry.changes else old
            for entry, old in zip(self._recipe.cache, cache, strict=True)
        )
        return log_probs, grown

    def reorder(self, cache: tuple[Array, ...], rows: NDArray[np.int64]) -> tuple[Array, ...]:
        """The given rows of every array."""
        return tuple(
            np.take(array, rows, axis=entry.row_axis)
            for entry, array in zip(self._recipe.cache, cache, strict=True)
        )


def _empty(entry: CacheEntry, rows: int) -> Array:
    sizes = {ROWS: rows}
    shape = [sizes.get(axis, 0) if isinstance(axis, str) else axis for axis in entry.shape]
    return np.empty(shape, dtype=entry.dtype)
