"""Step models made of torch modules, whose caches are tensors under names.

A module that keeps to `StepModule` is decoded in eager mode by `TensorSteps` and can be exported as
two graphs, its `start` and its `step`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from holdfast.errors import ConfigError

ROWS = "rows"
TensorCache = dict[str, Tensor]
Axes = tuple["str | None", ...]


class StepModule(Protocol):
    """What a torch module offers to be decoded step by step, and exported so.

    cache_axes: for each tensor of the cache what its axes count: "rows" for the sequences being
    decoded (exactly once in each), any other name for a size that varies, such as "source" or
    "past", None for one that does not. Equal names are equal sizes; a step may make the size of a
    name one larger. A tensor that `step` hands on as the same object never changes.
    """

    @property
    def cache_axes(self) -> Mapping[str, Axes]:
        """What the axes of each tensor of the cache count."""
        ...

    def start(self, source: Tensor) -> TensorCache:
        """The cache for source ids int64 [rows, source], before the first token."""
        ...

    def step(self, tokens: Tensor, cache: TensorCache) -> tuple[Tensor, TensorCache]:
        """The newest tokens int64 [rows] in, log-probabilities [rows, V] of the next ones out."""
        ...


class StepCache(NamedTuple):
    """A module's cache, which row of the source each row decodes, and what no step has changed."""

    sources: NDArray[np.int64]
    tensors: TensorCache
    fixed: frozenset[str]


class TensorSteps:
    """A torch module as a step model: numpy in and out, without gradients.

    device: where the module is; sources and tokens are sent there. The module must be in
    evaluation mode. Raises ConfigError if an entry of its cache has no axis of rows.
    """

    def __init__(self, module: StepModule, *, device: torch.device | str = "cpu") -> None:
        self._module = module
        self._device = torch.device(device)
        self._row_axes = {name: _row_axis(name, axes) for name, axes in module.cache_axes.items()}

    def start(self, source: NDArray[np.int64]) -> StepCache:
        """The cache for source ids [rows, source]."""
        with torch.inference_mode():
            tensors = self._module.start(self._tensor(source))
        return StepCache(np.arange(len(source)), tensors, frozenset(tensors))

    def step(
        self, tokens: NDArray[np.int64], cache: StepCache
    ) -> tuple[NDArray[np.float32], StepCache]:
        """One step of every row."""
        with torch.inference_mode():
            log_probs, after = self._module.step(self._tensor(tokens), cache.tensors)
            fixed = frozenset(name for name in cache.fixed if after[name] is cache.tensors[name])
            return log_probs.float().cpu().numpy(), StepCache(cache.sources, after, fixed)

    def reorder(self, cache: StepCache, rows: NDArray[np.int64]) -> StepCache:
        """The given rows of every tensor.

        What no step has changed depends on the source alone: where hypotheses of one source only
        trade places, as they mostly do in a beam, it stays as it is.
        """
        sources = cache.sources[rows]
        kept = cache.fixed if np.array_equal(sources, cache.sources) else frozenset[str]()
        with torch.inference_mode():
            chosen = self._tensor(rows)
            tensors = {
                name: value if name in kept else value.index_select(self._row_axes[name], chosen)
                for name, value in cache.tensors.items()
            }
        return StepCache(sources, tensors, cache.fixed)

    def _tensor(self, array: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64)).to(self._device)


def _row_axis(name: str, axes: Axes) -> int:
    if axes.count(ROWS) != 1:
        raise ConfigError(
            f"The cached tensor {name} has axes {axes}; exactly one of them must be {ROWS!r}",
            fix="name the axes of every cached tensor in cache_axes",
        )
    return axes.index(ROWS)
