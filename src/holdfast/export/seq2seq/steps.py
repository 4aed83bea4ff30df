"""Two graphs as one step model, whatever runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from holdfast.export.seq2seq.recipe import ROWS, CacheEntry, Recipe

Array: TypeAlias = NDArray[Any]
Call: TypeAlias = Callable[[Sequence[Array]], Sequence[Array]]
"""Arrays in the order of a graph's inputs to arrays in the order of its outputs."""


class GraphCache(NamedTuple):
    """The arrays in the order of the recipe, and which row of the source each row decodes."""

    sources: NDArray[np.int64]
    arrays: tuple[Array, ...]


class GraphSteps:
    """A `holdfast.decoding.StepModel` over a start graph and a step graph; caches are arrays.

    Source ids are checked against the signature at the start, so that a graph is never run on what
    it was not made for: InputError says what is wrong.
    """

    def __init__(self, recipe: Recipe, start: Call, step: Call) -> None:
        self._recipe = recipe
        self._start, self._step = start, step

    def start(self, source: NDArray[np.int64]) -> GraphCache:
        """Run the start graph on source ids [rows, source]."""
        self._recipe.source.check([source])
        made = iter(self._start([source]))
        arrays = tuple(
            next(made) if entry.made_by == "start" else _empty(entry, len(source))
            for entry in self._recipe.cache
        )
        return GraphCache(np.arange(len(source)), arrays)

    def step(
        self, tokens: NDArray[np.int64], cache: GraphCache
    ) -> tuple[NDArray[np.float32], GraphCache]:
        """Run the step graph once."""
        log_probs, *changed = self._step([tokens, *cache.arrays])
        following = iter(changed)
        grown = tuple(
            next(following) if entry.changes else old
            for entry, old in zip(self._recipe.cache, cache.arrays, strict=True)
        )
        return log_probs, GraphCache(cache.sources, grown)

    def reorder(self, cache: GraphCache, rows: NDArray[np.int64]) -> GraphCache:
        """The given rows of every array.

        What no step changes depends on the source alone: where hypotheses of one source only trade
        places, as they mostly do in a beam, it stays as it is.
        """
        sources = cache.sources[rows]
        same = np.array_equal(sources, cache.sources)
        arrays = tuple(
            array if same and not entry.changes else np.take(array, rows, axis=entry.row_axis)
            for entry, array in zip(self._recipe.cache, cache.arrays, strict=True)
        )
        return GraphCache(sources, arrays)


def _empty(entry: CacheEntry, rows: int) -> Array:
    sizes = {ROWS: rows}
    shape = [sizes.get(axis, 0) if isinstance(axis, str) else axis for axis in entry.shape]
    return np.empty(shape, dtype=entry.dtype)
